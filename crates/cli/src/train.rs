//! `epitome train`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use epitome_distributed::ProcessGroup;
use epitome_eval::counted;
use epitome_train::{Best, Context, Event, Outcome, RunConfig, ScoreSummaries, Trainable};
use indicatif::ProgressBar;
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::iterator::Signals;

use crate::failure::{say, usage, warn};
use crate::output::print;
use crate::summaries::{ValidationSummaries, warn_of_inherited_extracts};
use crate::values::setting;
use crate::{find_learning_rate, progress};

/// Options of `epitome train`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// TOML file of the run
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Change a value of the file, such as optim.learning_rate=1e-4; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", num_args = 1.., value_parser = setting)]
    settings: Vec<String>,
    /// Directory of the run [default: run.output of the file; with --find-learning-rate none]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Continue from the newest checkpoint in the output directory
    #[arg(long)]
    resume: bool,
    /// Count and list bad records instead of stopping at the first, as data.skip_bad_records=true
    #[arg(long)]
    skip_bad_records: bool,
    #[command(flatten)]
    finder: find_learning_rate::Arguments,
}

pub(crate) fn run(arguments: &Arguments, group: &ProcessGroup) -> Result<()> {
    let mut config = RunConfig::load(&arguments.config, &arguments.settings)?;
    config.data.skip_bad_records |= arguments.skip_bad_records;
    if arguments.finder.find_learning_rate {
        return find_learning_rate::run(&config, &arguments.finder, arguments.output.as_deref(), group);
    }
    let Some(output) = arguments.output.clone().or(config.run.output) else {
        return usage("no output directory: give --output, or run.output in the file");
    };
    config.run.output = Some(output.clone());
    if group.is_root() {
        warn_of_inherited_extracts(&config)?;
    }
    let mut display = Display::default();
    let interrupted = Arc::new(AtomicBool::new(false));
    let context = Context { output: &output, resume: arguments.resume, group, interrupted: &interrupted };
    let summaries = ValidationSummaries::new(&config)?;
    let mut score = summaries.map(|summaries| {
        let shared = (group, &*interrupted);
        move |trainable: &Trainable, on_event: &mut dyn FnMut(Event)| summaries.score(trainable, shared, on_event)
    });
    let score = score.as_mut().map(|score| score as &mut ScoreSummaries);
    let mut on_event = |event: Event| {
        // Before the first step there is nothing to save, and the signals end the program as usual.
        if matches!(event, Event::Started { .. }) {
            catch_signals(&interrupted);
        }
        if group.is_root() {
            display.show(&event);
        }
    };
    let outcome = epitome_train::train(&config, context, &mut on_event, score);
    display.bar.finish_and_clear();
    let Outcome { directory, steps, validation_loss, best } = outcome?;
    if !group.is_root() {
        return Ok(());
    }
    let validation = match best {
        Some(Best { metric, value, step }) => format!(", best validation {metric} {value:.4} after step {step}"),
        None => validation_loss.map_or(String::new(), |loss| format!(", validation loss {loss:.4}")),
    };
    print(&format!("{}{validation}: {}", counted(steps, "step"), directory.display()))
}

/// Launchers such as `timeout` send a signal twice, to the process and to its group: what comes sooner than this after the
/// first signal is the same request.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Lets the first interrupt or request to end stop the run at a good place, and a later one at once.
fn catch_signals(interrupted: &Arc<AtomicBool>) {
    let mut signals = match Signals::new(TERM_SIGNALS) {
        Ok(signals) => signals,
        Err(error) => return warn(format_args!("signals will end the run without a checkpoint: {error}")),
    };
    let interrupted = Arc::clone(interrupted);
    std::thread::spawn(move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            interrupted.store(true, Ordering::Relaxed);
            if first.get_or_insert_with(Instant::now).elapsed() > SAME_REQUEST {
                std::process::exit(128 + signal);
            }
        }
    });
}

/// A bar with the loss and the speed; on anything but a terminal only the lines that matter.
pub(crate) struct Display {
    pub(crate) bar: ProgressBar,
}

impl Default for Display {
    fn default() -> Self {
        Self { bar: ProgressBar::hidden() }
    }
}

impl Display {
    pub(crate) fn show(&mut self, event: &Event) {
        match event {
            Event::Notice(notice) => self.bar.suspend(|| warn(notice)),
            Event::Dataset(origin) => self.bar.suspend(|| say(origin)),
            Event::Started { parameters, records, step, total_steps } => {
                let records = counted(*records, "record");
                let steps = match step == total_steps {
                    true => format!("all {total_steps} steps are made: the run is complete"),
                    false => format!("steps {} to {total_steps}", step + 1),
                };
                say(format_args!("{parameters} parameters to train, {records}, {steps}"));
                self.bar = progress::bar(Some(*total_steps as u64), "steps");
                self.bar.set_position(*step as u64);
                self.bar.reset_eta();
            }
            Event::Step { step, loss, tokens_per_second } => {
                self.bar.set_position(*step as u64);
                self.bar.set_message(format!("loss {loss:.4}, {tokens_per_second:.0} tokens/s"));
            }
            Event::Summarizing { done, total } => {
                self.bar.set_message(format!("{done} of {total} validation summaries"));
            }
            Event::Validation { step, metrics, is_best } => {
                let metrics: Vec<String> = metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
                let best = if *is_best { ", the best so far" } else { "" };
                self.bar.suspend(|| say(format_args!("step {step}: validation {}{best}", metrics.join(", "))));
            }
            Event::StoppedEarly(Best { metric, value, step }) => {
                let said = format_args!("stopped early: no better {metric} than {value:.4} after step {step}");
                self.bar.suspend(|| say(said));
            }
            Event::Saved(path) => self.bar.suspend(|| say(format_args!("saved {}", path.display()))),
        }
    }
}
