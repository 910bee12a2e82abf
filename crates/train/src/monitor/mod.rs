//! What a run shows of itself while it goes on: `metrics.jsonl`, TensorBoard's event files and `curves.svg`.

mod curves;
mod interval;
mod metrics;
mod tensorboard;

use std::path::Path;

use serde_json::Value;

pub(crate) use curves::draw_learning_rates;
pub(crate) use interval::Interval;

use crate::best::Best;
use crate::checkpoint::TrainState;
use crate::dataset::Dataset;
use crate::{Result, RunConfig};
use curves::Curves;
use metrics::MetricsLog;
use tensorboard::EventFile;

/// Everything that is written to watch a run by.
pub(crate) struct Monitor {
    metrics: MetricsLog,
    events: Option<EventFile>,
    curves: Curves,
}

impl Monitor {
    /// Opens the files of a run under `output` that continues from `state`; what they say of later steps, which are made
    /// again, no longer counts.
    pub(crate) fn open(config: &RunConfig, output: &Path, state: &TrainState, training: &Dataset) -> Result<Self> {
        let validated = state.validation.is_some_and(|validation| validation.step == state.step);
        let metrics = MetricsLog::open(output, state.step, validated)?;
        let events = config.run.tensorboard.then(|| EventFile::create(&output.join("tensorboard"), state.step));
        Ok(Self { curves: Curves::new(output, training.lengths()), metrics, events: events.transpose()? })
    }

    /// Writes a line of `metrics.jsonl`, an object with a `step`, and its numbers as TensorBoard's scalars.
    pub(crate) fn append(&mut self, line: &Value) -> Result<()> {
        self.metrics.append(line)?;
        self.events.as_mut().map_or(Ok(()), |events| events.append(line))
    }

    /// Makes the lines so far survive a power cut.
    pub(crate) fn sync(&self) -> Result<()> {
        self.metrics.sync()
    }

    /// Draws all metrics so far.
    pub(crate) fn draw(&self, best: Option<&Best>) -> Result<()> {
        self.curves.draw(&self.metrics.read()?, best)
    }
}
