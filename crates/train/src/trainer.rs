//! The training loop: step, log, evaluate, save.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use epitome_kernels::Collective;
use serde_json::{Value, json};

use crate::checkpoint::{Contents, TrainState, Validation};
use crate::guard;
use crate::lock::RunLock;
use crate::memory::{self, Processes};
use crate::monitor::Monitor;
use crate::setup::Setup;
use crate::steps::Place;
use crate::update::{self, Update};
use crate::validation::validation_loss;
use crate::workers::Workers;
use crate::{Context, Error, Event, Outcome, Result, RunConfig, ScoreSummaries, checkpoint, learning_rate, replicas};

/// Runs `config`. `run.predict_with_generate` needs `score_summaries`.
///
/// # Errors
/// When anything in the configuration, the data or the output directory is wrong, the loss is not a number, or the run
/// was interrupted; what has been saved stays.
pub fn train(
    config: &RunConfig,
    context: Context<'_>,
    on_event: &mut dyn FnMut(Event),
    score_summaries: Option<&mut ScoreSummaries>,
) -> Result<Outcome> {
    let Context { output, resume, group, .. } = context;
    let score_summaries = match (score_summaries, config.run.predict_with_generate) {
        (Some(score_summaries), true) => Some(score_summaries as &mut ScoreSummaries),
        (None, true) => return Err(Error::config("run.predict_with_generate", "nothing is there to write summaries")),
        (_, false) => None,
    };
    let changes = guard::check(config, output, resume)?;
    guard::check_shares(config, group.world_size())?;
    let _lock = if group.is_root() { Some(RunLock::acquire(output)?) } else { None };
    group.barrier();
    let processes = Processes { all: group.world_size(), on_this_machine: group.on_this_machine() };
    memory::check_model(config, processes)?;
    if let Some(changes) = changes {
        on_event(Event::Notice(&changes));
    }
    let mut setup = Setup::resume(config, output, group)?;
    replicas::check_alike(group, setup.state.step, &setup.training.identity(), setup.trainable.parameters())?;
    setup.announce(on_event);
    if resume && setup.state.step == 0 {
        on_event(Event::Notice("there is no checkpoint to continue from: starting at step 1"));
    }
    let total_steps = setup.training.total_steps(&config.run);
    memory::check(&mut setup, config, total_steps, processes)?;
    // Nobody writes before everybody has looked.
    group.barrier();
    let monitor = if group.is_root() { Some(begin(config, output, &setup)?) } else { None };
    let collective = Collective::join(group, &setup.device)?;
    let workers = Workers::new(config.run.parallel_micro_batches)?;
    let (saved_step, processes) = (setup.state.step, &collective);
    let run = Run { config, context, processes, setup, saved_step, monitor, workers, on_event, score_summaries };
    let outcome = run.run(total_steps);
    // A run that has failed fails here alone, perhaps; and one that has ended is not undone by how it ends.
    if matches!(outcome, Ok(_) | Err(Error::Stopped { .. })) {
        let _ = collective.leave();
    }
    outcome
}

/// Writes the configuration and opens what the run is watched by.
fn begin(config: &RunConfig, output: &Path, setup: &Setup) -> Result<Monitor> {
    let path = output.join("config.toml");
    epitome_files::replace_content(&path, config.to_toml()?).map_err(Error::io(&path))?;
    Monitor::open(config, output, &setup.state, &setup.training)
}

struct Run<'a> {
    config: &'a RunConfig,
    context: Context<'a>,
    processes: &'a Collective<'a>,
    setup: Setup,
    /// Updates made when the state was last saved or loaded.
    saved_step: usize,
    /// Of the process that writes.
    monitor: Option<Monitor>,
    workers: Workers,
    on_event: &'a mut dyn FnMut(Event),
    score_summaries: Option<&'a mut ScoreSummaries<'a>>,
}

impl<'a> Run<'a> {
    fn run(mut self, total_steps: usize) -> Result<Outcome> {
        if self.setup.state.step > total_steps {
            let message = format!("is at step {}, beyond the run's {total_steps}", self.setup.state.step);
            return Err(Error::Checkpoint { path: self.context.output.to_owned(), message });
        }
        (self.on_event)(Event::Started {
            parameters: self.setup.trained_parameters(),
            records: self.setup.training.len(),
            step: self.setup.state.step,
            total_steps,
        });
        match self.steps(total_steps) {
            Err(Error::Interrupted) => return self.stop(),
            outcome => outcome?,
        }
        let best = self.setup.state.best_so_far.best.filter(|_| self.config.run.load_best_model_at_end);
        if self.context.group.is_root() {
            self.save_final_model(best.map(|best| best.step))?;
        }
        let TrainState { step: steps, validation, .. } = self.setup.state;
        let validation_loss = validation.map(|validation| validation.loss);
        Ok(Outcome { directory: self.context.output.to_owned(), steps, validation_loss, best })
    }

    /// Updates up to `total_steps` or the end of patience, with what is due after each; what an interrupted run left undone
    /// comes first.
    fn steps(&mut self, total_steps: usize) -> Result<()> {
        let run = &self.config.run;
        loop {
            let step = self.setup.state.step;
            let complete = step == total_steps;
            let validated = self.setup.state.validation.is_some_and(|validation| validation.step == step);
            let validates = !validated && step > 0 && (complete || is_due(step, run.eval_steps));
            let is_best = validates && self.validate()?;
            let last = complete || self.setup.state.best_so_far.stops(run);
            let saves = is_due(step, run.save_steps) || (last && run.save_steps > 0) || (is_best && run.saves_best());
            if saves {
                self.save_checkpoint()?;
            }
            if validates || saves || last {
                self.draw()?;
            }
            if last {
                if let (false, Some(best)) = (complete, &self.setup.state.best_so_far.best) {
                    (self.on_event)(Event::StoppedEarly(best));
                }
                return Ok(());
            }
            // Processes must agree; a single one need not wait for the end of an update.
            if self.context.group.any(self.context.interrupted.load(Ordering::Relaxed)) {
                return Err(Error::Interrupted);
            }
            self.update(total_steps)?;
        }
    }

    /// Ends an interrupted run. Updates are made whole or not at all, so the state is that after the last one.
    fn stop(mut self) -> Result<Outcome> {
        self.save_checkpoint()?;
        self.draw()?;
        self.context.group.barrier();
        Err(Error::Stopped { step: self.setup.state.step, output: self.context.output.to_owned() })
    }

    /// What ends the work on an update or a validation half-way.
    fn interrupted(&self) -> Option<&'a AtomicBool> {
        (self.context.group.world_size() == 1).then_some(self.context.interrupted)
    }

    /// One optimizer update over its micro-batches.
    fn update(&mut self, total_steps: usize) -> Result<()> {
        let started = Instant::now();
        let interrupted = self.interrupted();
        let Update { gradients, norm, loss, source_tokens, target_tokens } =
            update::compute(&mut self.setup, self.config, &self.workers, (self.processes, interrupted))?;
        let (step, mean) = (self.setup.state.step + 1, loss.loss / target_tokens as f64);
        let rate = learning_rate(&self.config.optim, step - 1, total_steps);
        let Setup { optimizer, average, trainable, state, .. } = &mut self.setup;
        optimizer.step(trainable.parameters(), &gradients, norm, rate)?;
        if let Some(average) = average {
            average.update(trainable.parameters(), step)?;
        }
        state.step = step;
        let seconds = started.elapsed().as_secs_f64();
        state.interval.add(loss, target_tokens, source_tokens, seconds);
        let tokens_per_second = (source_tokens + target_tokens) as f64 / seconds;
        (self.on_event)(Event::Step { step, loss: mean, tokens_per_second });
        if is_due(step, self.config.run.logging_steps) || step == total_steps {
            self.log(rate, norm)?;
        }
        Ok(())
    }

    /// Writes the means since the last line.
    fn log(&mut self, learning_rate: f64, grad_norm: f64) -> Result<()> {
        let step = self.setup.state.step;
        let Place { epoch, within, steps } = self.setup.training.place(step - 1);
        let epoch = (epoch * steps + within + 1) as f64 / steps as f64;
        let interval = std::mem::take(&mut self.setup.state.interval);
        self.record(&interval.line(step, epoch, (learning_rate, grad_norm)))
    }

    /// Measures the validation loss and the scores of summaries; returns whether no validation was better before.
    fn validate(&mut self) -> Result<bool> {
        let Some(validation) = &self.setup.validation else { return Ok(false) };
        let led = self.setup.evaluated()?.led();
        let loss = validation_loss(led, validation, self.context.group, self.interrupted())?;
        let step = self.setup.state.step;
        if !loss.is_finite() {
            let ids = vec!["of the validation data".into()];
            return Err(Error::NotFinite { step, what: "validation loss", value: loss, ids });
        }
        let mut metrics = BTreeMap::from([("loss".to_owned(), loss)]);
        if let Some(score_summaries) = &mut self.score_summaries {
            metrics.extend(score_summaries(self.setup.evaluated()?, self.on_event)?);
        }
        let mut line = json!({ "step": step });
        metrics.iter().for_each(|(name, value)| line[format!("validation_{name}")] = Value::from(*value));
        self.record(&line)?;
        let is_best = self.setup.state.best_so_far.update(&self.config.run, step, &metrics);
        self.setup.state.validation = Some(Validation { step, loss });
        (self.on_event)(Event::Validation { step, metrics: &metrics, is_best });
        Ok(is_best)
    }

    fn record(&mut self, line: &Value) -> Result<()> {
        self.monitor.as_mut().map_or(Ok(()), |monitor| monitor.append(line))
    }

    fn draw(&self) -> Result<()> {
        self.monitor.as_ref().map_or(Ok(()), |monitor| monitor.draw(self.setup.state.best_so_far.best.as_ref()))
    }

    /// Writes the model after step `best`, or the present one, as the result of the run.
    fn save_final_model(&mut self, best: Option<usize>) -> Result<()> {
        if best.is_none() {
            update::check_weights(&mut self.setup)?;
        }
        let (output, Setup { model, average, companions, .. }) = (self.context.output, &self.setup);
        match best {
            Some(step) => {
                let parameters = checkpoint::evaluated(output, step, model, average.is_some())?;
                checkpoint::save_model(output, &parameters, companions)?;
            }
            None => checkpoint::save_model(output, self.setup.evaluated()?.parameters(), companions)?,
        }
        (self.on_event)(Event::Saved(output));
        Ok(())
    }

    /// Writes a checkpoint unless this state has one.
    fn save_checkpoint(&mut self) -> Result<()> {
        if self.setup.state.step == self.saved_step || !self.context.group.is_root() {
            return Ok(());
        }
        update::check_weights(&mut self.setup)?;
        let Setup { trainable, optimizer, average, state, companions, .. } = &self.setup;
        // A checkpoint says that the lines before it are written.
        self.monitor.as_ref().map_or(Ok(()), Monitor::sync)?;
        let limit = self.config.run.save_total_limit;
        let (parameters, average) = (trainable.parameters(), average.as_ref());
        let contents = Contents { state, parameters, optimizer, average, companions };
        let path = checkpoint::save(self.context.output, contents, limit)?;
        self.saved_step = state.step;
        (self.on_event)(Event::Saved(&path));
        Ok(())
    }
}

/// Whether something done every `every` steps (0: never) is due after `step`.
fn is_due(step: usize, every: usize) -> bool {
    every > 0 && step.is_multiple_of(every)
}
