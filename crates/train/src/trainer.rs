//! The training loop: step, log, evaluate, save.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use epitome_distributed::ProcessGroup;
use epitome_kernels::Loss;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checkpoint::{Contents, Validation};
use crate::guard;
use crate::metrics::MetricsLog;
use crate::setup::Setup;
use crate::update::{self, Update};
use crate::workers::Workers;
use crate::{Error, Result, RunConfig, checkpoint, learning_rate, validation_loss};

/// What happens during a run, for whoever shows it.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something the user should know, such as how many tokens the length limits cut.
    Notice(&'a str),
    /// The run is about to make its first update.
    Started {
        /// Trainable numbers.
        parameters: usize,
        /// Training records.
        records: usize,
        /// Updates already made.
        step: usize,
        /// Updates of the whole run.
        total_steps: usize,
    },
    /// One update is done.
    Step {
        /// Updates made.
        step: usize,
        /// Loss of this update per target token, smoothing included.
        loss: f64,
        /// Source and target tokens per second since the last event of this kind.
        tokens_per_second: f64,
    },
    /// The validation loss was measured.
    Validation {
        /// Updates made.
        step: usize,
        /// Nats per target token.
        loss: f64,
    },
    /// A checkpoint or the final model was written.
    Saved(&'a Path),
}

/// What a finished run leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The directory of the final model.
    pub directory: PathBuf,
    /// Updates of the whole run.
    pub steps: usize,
    /// The validation loss at the end, if there is validation data.
    pub validation_loss: Option<f64>,
}

/// Sums since the last line of the metrics; part of a checkpoint, so that a resumed run logs the same numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Interval {
    loss: f64,
    nll: f64,
    target_tokens: usize,
    source_tokens: usize,
    seconds: f64,
}

impl Interval {
    fn add(&mut self, loss: Loss, target_tokens: usize, source_tokens: usize, seconds: f64) {
        self.loss += loss.loss;
        self.nll += loss.nll;
        self.target_tokens += target_tokens;
        self.source_tokens += source_tokens;
        self.seconds += seconds;
    }
}

/// Where a run takes place.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Directory of `config.toml`, `metrics.jsonl`, `checkpoint-N/` and at the end of the model itself.
    pub output: &'a Path,
    /// Continue the newest intact checkpoint there.
    pub resume: bool,
    /// The processes that share every update; the first one writes.
    pub group: &'a ProcessGroup,
    /// When this becomes true the run saves a checkpoint and ends.
    pub interrupted: &'a AtomicBool,
}

/// Runs `config`.
///
/// # Errors
/// When anything in the configuration, the data or the output directory is wrong, the loss is not a number, or the run
/// was interrupted; what has been saved stays.
pub fn train(config: &RunConfig, context: Context<'_>, on_event: &mut dyn FnMut(Event)) -> Result<Outcome> {
    let Context { output, resume, group, .. } = context;
    guard::check(config, output, resume)?;
    guard::check_shares(config, group.world_size())?;
    let setup = Setup::resume(config, output)?;
    for notice in setup.notices() {
        on_event(Event::Notice(notice));
    }
    if resume && setup.state.step == 0 {
        on_event(Event::Notice("there is no checkpoint to continue from: starting at step 1"));
    }
    // Nobody writes before everybody has looked.
    group.barrier();
    let metrics = if group.is_root() { Some(begin(config, output, setup.state.step)?) } else { None };
    let workers = Workers::new(config.run.parallel_micro_batches)?;
    let saved_step = setup.state.step;
    Run { config, context, setup, saved_step, metrics, workers, on_event }.run()
}

/// Writes the configuration and opens the metrics of a run that continues after `step`.
fn begin(config: &RunConfig, output: &Path, step: usize) -> Result<MetricsLog> {
    let path = output.join("config.toml");
    let text = config.to_toml();
    epitome_model::replace_file(&path, |temporary| {
        std::fs::write(temporary, &text).map_err(|source| epitome_model::Error::Io { path: path.clone(), source })
    })?;
    MetricsLog::open(output, step)
}

struct Run<'a> {
    config: &'a RunConfig,
    context: Context<'a>,
    setup: Setup,
    /// Updates made when the state was last saved or loaded.
    saved_step: usize,
    /// Of the process that writes.
    metrics: Option<MetricsLog>,
    workers: Workers,
    on_event: &'a mut dyn FnMut(Event),
}

impl<'a> Run<'a> {
    fn run(mut self) -> Result<Outcome> {
        let total_steps = self.setup.training.total_steps(&self.config.run);
        if self.setup.state.step > total_steps {
            let message = format!("is at step {}, beyond the run's {total_steps}", self.setup.state.step);
            return Err(Error::Checkpoint { path: self.context.output.to_owned(), message });
        }
        (self.on_event)(Event::Started {
            parameters: self.setup.trained_parameters(),
            records: self.setup.training.examples().len(),
            step: self.setup.state.step,
            total_steps,
        });
        match self.steps(total_steps) {
            Err(Error::Interrupted) => return self.stop(),
            outcome => outcome?,
        }
        let output = self.context.output;
        if self.context.group.is_root() {
            checkpoint::save_model(output, self.setup.evaluated().parameters(), &self.setup.companions)?;
            (self.on_event)(Event::Saved(output));
        }
        let validation_loss = self.setup.state.validation.map(|validation| validation.loss);
        Ok(Outcome { directory: output.to_owned(), steps: total_steps, validation_loss })
    }

    /// Updates up to `total_steps`, with what is due after each; what an interrupted run left undone comes first.
    fn steps(&mut self, total_steps: usize) -> Result<()> {
        loop {
            let step = self.setup.state.step;
            let last = step == total_steps;
            let validated = self.setup.state.validation.is_some_and(|validation| validation.step == step);
            if !validated && step > 0 && (last || is_due(step, self.config.run.eval_steps)) {
                self.validate()?;
            }
            if is_due(step, self.config.run.save_steps) || (last && self.config.run.save_steps > 0) {
                self.save_checkpoint()?;
            }
            if last {
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
            update::compute(&mut self.setup, self.config, &self.workers, (self.context.group, interrupted))?;
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
        let interval = std::mem::take(&mut self.setup.state.interval);
        let step = self.setup.state.step;
        let targets = interval.target_tokens as f64;
        let tokens = interval.source_tokens + interval.target_tokens;
        self.record(&json!({
            "step": step,
            "epoch": step as f64 / self.setup.training.steps_per_epoch() as f64,
            "loss": interval.loss / targets,
            "nll": interval.nll / targets,
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            "source_tokens": interval.source_tokens,
            "target_tokens": interval.target_tokens,
            "seconds": interval.seconds,
            "tokens_per_second": tokens as f64 / interval.seconds,
        }))
    }

    fn validate(&mut self) -> Result<()> {
        let examples = self.setup.validation.examples();
        if examples.is_empty() {
            return Ok(());
        }
        let batch_size = self.config.run.batch_size;
        let led = self.setup.evaluated().led();
        let loss = validation_loss(led, examples, batch_size, self.context.group, self.interrupted())?;
        let step = self.setup.state.step;
        if !loss.is_finite() {
            let ids = vec!["of the validation data".into()];
            return Err(Error::NotFinite { step, what: "validation loss", value: loss, ids });
        }
        self.record(&json!({ "step": step, "validation_loss": loss }))?;
        (self.on_event)(Event::Validation { step, loss });
        self.setup.state.validation = Some(Validation { step, loss });
        Ok(())
    }

    fn record(&mut self, line: &Value) -> Result<()> {
        self.metrics.as_mut().map_or(Ok(()), |metrics| metrics.append(line))
    }

    /// Writes a checkpoint unless this state has one.
    fn save_checkpoint(&mut self) -> Result<()> {
        let Setup { trainable, optimizer, average, state, companions, .. } = &self.setup;
        if state.step == self.saved_step || !self.context.group.is_root() {
            return Ok(());
        }
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
