//! `epitome train --find-learning-rate`.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use clap::builder::RangedU64ValueParser;
use epitome_distributed::ProcessGroup;
use epitome_train::{RunConfig, Suggestion, Sweep, SweepPoint};

use crate::failure::usage;
use crate::output::print;
use crate::train::Display;
use crate::values::positive_real;

/// Rows of the table.
const ROWS: usize = 20;

/// Options of the learning-rate finder.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Try growing learning rates on the run's data, suggest one, and write no model
    #[arg(long, conflicts_with = "resume")]
    pub(crate) find_learning_rate: bool,
    /// First rate that is tried
    #[arg(long, value_name = "RATE", default_value_t = 1e-7, value_parser = positive_real)]
    #[arg(requires = "find_learning_rate", conflicts_with = "resume")]
    sweep_start: f64,
    /// Last rate that is tried, unless the loss grows to four times its least before
    #[arg(long, value_name = "RATE", default_value_t = 1.0, value_parser = positive_real)]
    #[arg(requires = "find_learning_rate", conflicts_with = "resume")]
    sweep_end: f64,
    /// Updates, each with a rate of its own
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = steps())]
    #[arg(requires = "find_learning_rate", conflicts_with = "resume")]
    sweep_steps: usize,
}

fn steps() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(Sweep::LEAST_STEPS as u64..)
}

pub(crate) fn run(
    config: &RunConfig,
    arguments: &Arguments,
    output: Option<&Path>,
    group: &ProcessGroup,
) -> Result<()> {
    if group.world_size() > 1 {
        return usage("--find-learning-rate runs in one process");
    }
    if arguments.sweep_start >= arguments.sweep_end {
        return usage("--sweep-start must be below --sweep-end");
    }
    let sweep = Sweep { start: arguments.sweep_start, end: arguments.sweep_end, steps: arguments.sweep_steps };
    let mut display = Display::default();
    let points = epitome_train::find_learning_rate(config, sweep, output, &mut |event| display.show(&event));
    display.bar.finish_and_clear();
    let points = points?;
    print(&table(&points))?;
    print(&match Suggestion::of(&points) {
        Some(Suggestion { steepest, tenth_of_minimum }) => format!(
            "suggested: {steepest:.1e}, where the smoothed loss falls fastest; a tenth of the rate where it is least: \
             {tenth_of_minimum:.1e}"
        ),
        None => "suggested: none, the smoothed loss did not fall".into(),
    })
}

fn table(points: &[SweepPoint]) -> String {
    let shown = points.iter().step_by(points.len().div_ceil(ROWS).max(1));
    let row = |point: &SweepPoint| format!("{:13.2e} {:9.4} {:9.4}", point.learning_rate, point.loss, point.smoothed);
    let header = "learning rate      loss  smoothed".to_owned();
    [header].into_iter().chain(shown.map(row)).collect::<Vec<_>>().join("\n")
}
