//! The training loop: step, log, evaluate, save.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use epitome_kernels::{DropoutKey, Loss};
use epitome_model::Dropouts;
use serde_json::{Value, json};

use crate::checkpoint::{TrainState, Validation};
use crate::guard;
use crate::monitor::Monitor;
use crate::setup::Setup;
use crate::workers::Workers;
use crate::{
    Batch, Context, Error, Event, Gradients, KEPT_BYTES, Outcome, Pass, Result, RunConfig, ScoreSummaries, checkpoint,
    learning_rate, replicas, validation_loss,
};

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
    guard::check(config, output, resume)?;
    guard::check_shares(config, group.world_size())?;
    let setup = Setup::new(config, output)?;
    for notice in setup.notices() {
        on_event(Event::Notice(notice));
    }
    if resume && setup.state.step == 0 {
        on_event(Event::Notice("there is no checkpoint to continue from: starting at step 1"));
    }
    // Nobody writes before everybody has looked.
    group.barrier();
    let monitor = if group.is_root() { Some(begin(config, output, &setup)?) } else { None };
    let workers = Workers::new(config.run.parallel_micro_batches)?;
    let saved_step = setup.state.step;
    Run { config, context, setup, saved_step, monitor, workers, on_event, score_summaries }.run()
}

/// Writes the configuration and opens what the run is watched by.
fn begin(config: &RunConfig, output: &Path, setup: &Setup) -> Result<Monitor> {
    let path = output.join("config.toml");
    let text = config.to_toml();
    epitome_model::replace_file(&path, |temporary| {
        std::fs::write(temporary, &text).map_err(|source| epitome_model::Error::Io { path: path.clone(), source })
    })?;
    Monitor::open(config, output, &setup.state, &setup.training)
}

struct Run<'a> {
    config: &'a RunConfig,
    context: Context<'a>,
    setup: Setup,
    /// Updates made when the state was last saved or loaded.
    saved_step: usize,
    /// Of the process that writes.
    monitor: Option<Monitor>,
    workers: Workers,
    on_event: &'a mut dyn FnMut(Event),
    score_summaries: Option<&'a mut ScoreSummaries<'a>>,
}

impl Run<'_> {
    fn run(mut self) -> Result<Outcome> {
        let total_steps = self.setup.training.total_steps(&self.config.run);
        if self.setup.state.step > total_steps {
            let message = format!("is at step {}, beyond the run's {total_steps}", self.setup.state.step);
            return Err(Error::Checkpoint { path: self.context.output.to_owned(), message });
        }
        (self.on_event)(Event::Started {
            parameters: self.setup.trainable.parameters().iter().map(|(_, variable)| variable.elem_count()).sum(),
            records: self.setup.training.examples().len(),
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
    fn interrupted(&self) -> Option<&AtomicBool> {
        (self.context.group.world_size() == 1).then_some(self.context.interrupted)
    }

    /// One optimizer update over its micro-batches.
    fn update(&mut self, total_steps: usize) -> Result<()> {
        let started = Instant::now();
        let micro_batches = self.setup.training.step(self.setup.state.step);
        let training = &self.setup.training;
        let epoch = self.setup.state.step / training.steps_per_epoch();
        let batch = |indices: &Vec<usize>| -> Result<Batch> {
            let drawn: Vec<_> = indices.iter().map(|&index| training.draw(index, epoch)).collect();
            Ok(Batch::new(drawn.iter().map(AsRef::as_ref), &self.setup.model)?)
        };
        let batches = micro_batches.iter().map(batch).collect::<Result<Vec<_>>>()?;
        let examples = training.examples();
        let ids = || micro_batches.iter().flatten().map(|&index| examples[index].id.clone()).collect::<Vec<_>>();
        // Semantics C4: the loss is the mean over the target tokens of the whole step.
        let target_tokens: usize = batches.iter().map(Batch::target_tokens).sum();
        let (gradients, loss) = self.gradients(&batches, target_tokens)?;
        let step = self.setup.state.step + 1;
        let mean = loss.loss / target_tokens as f64;
        let norm = gradients.norm()?;
        for (what, value) in [("loss", mean), ("norm of the gradients", norm)] {
            if !value.is_finite() {
                return Err(Error::NotFinite { step, what, value, ids: ids() });
            }
        }
        let rate = self.learning_rate(total_steps);
        let Setup { optimizer, trainable, state, .. } = &mut self.setup;
        optimizer.step(trainable.parameters(), &gradients, norm, &self.config.optim, rate)?;
        state.step = step;
        let seconds = started.elapsed().as_secs_f64();
        let source_tokens: usize = batches.iter().map(|batch| batch.documents.ids().len()).sum();
        state.interval.add(loss, target_tokens, source_tokens, seconds);
        let tokens_per_second = (source_tokens + target_tokens) as f64 / seconds;
        (self.on_event)(Event::Step { step, loss: mean, tokens_per_second });
        if is_due(step, self.config.run.logging_steps) || step == total_steps {
            self.log(rate, norm)?;
        }
        Ok(())
    }

    /// Gradients of the mean loss over all `target_tokens` of the batches, and the losses summed.
    fn gradients(&self, batches: &[Batch], target_tokens: usize) -> Result<(Gradients, Loss)> {
        let Setup { model, trainable, state, .. } = &self.setup;
        let (config, interrupted) = (self.config, self.interrupted());
        let (step, kept_bytes) = (state.step as u64, KEPT_BYTES / self.workers.count());
        let pass = |index: usize| {
            let key = DropoutKey::new(config.run.seed).fold(step).fold(index as u64);
            Pass {
                dropouts: Some(Dropouts::new(model, key)),
                label_smoothing: config.optim.label_smoothing_factor,
                scale: 1.0 / target_tokens as f64,
                gradient_checkpointing: config.run.gradient_checkpointing,
                kept_bytes,
                interrupted,
            }
        };
        replicas::gradients(self.context.group, &self.workers, trainable, batches, &pass)
    }

    fn learning_rate(&self, total_steps: usize) -> f64 {
        let optim = &self.config.optim;
        let step = self.setup.state.step;
        learning_rate(optim.lr_scheduler_type, optim.learning_rate, step, optim.warmup_steps, total_steps)
    }

    /// Writes the means since the last line.
    fn log(&mut self, learning_rate: f64, grad_norm: f64) -> Result<()> {
        let step = self.setup.state.step;
        let epoch = step as f64 / self.setup.training.steps_per_epoch() as f64;
        let interval = std::mem::take(&mut self.setup.state.interval);
        self.record(&interval.line(step, epoch, (learning_rate, grad_norm)))
    }

    /// Measures the validation loss and the scores of summaries; returns whether no validation was better before.
    fn validate(&mut self) -> Result<bool> {
        let examples = self.setup.validation.examples();
        if examples.is_empty() {
            return Ok(false);
        }
        let batch_size = self.config.run.batch_size;
        let led = self.setup.trainable.led();
        let loss = validation_loss(led, examples, batch_size, self.context.group, self.interrupted())?;
        let step = self.setup.state.step;
        if !loss.is_finite() {
            let ids = vec!["of the validation data".into()];
            return Err(Error::NotFinite { step, what: "validation loss", value: loss, ids });
        }
        let mut metrics = BTreeMap::from([("loss".to_owned(), loss)]);
        if let Some(score_summaries) = &mut self.score_summaries {
            metrics.extend(score_summaries(&self.setup.trainable, self.on_event)?);
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
        let (output, Setup { model, trainable, companions, .. }) = (self.context.output, &self.setup);
        match best {
            Some(step) => checkpoint::save_model(output, &checkpoint::parameters(output, step, model)?, companions)?,
            None => checkpoint::save_model(output, trainable.parameters(), companions)?,
        }
        (self.on_event)(Event::Saved(output));
        Ok(())
    }

    /// Writes a checkpoint unless this state has one.
    fn save_checkpoint(&mut self) -> Result<()> {
        let Setup { trainable, optimizer, state, companions, .. } = &self.setup;
        if state.step == self.saved_step || !self.context.group.is_root() {
            return Ok(());
        }
        let limit = self.config.run.save_total_limit;
        let path =
            checkpoint::save(self.context.output, state, (trainable.parameters(), optimizer), companions, limit)?;
        self.saved_step = state.step;
        (self.on_event)(Event::Saved(&path));
        Ok(())
    }
}

/// Whether something done every `every` steps (0: never) is due after `step`.
fn is_due(step: usize, every: usize) -> bool {
    every > 0 && step.is_multiple_of(every)
}
