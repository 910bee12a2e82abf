//! What a run is given by whoever starts it, and what it tells.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use epitome_distributed::ProcessGroup;

use crate::Best;

/// Where a run takes place.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Directory of `config.toml`, `metrics.jsonl`, `tensorboard/`, `curves.svg`, `checkpoint-N/` and at the end of the model
    /// itself.
    pub output: &'a Path,
    /// Continue the newest intact checkpoint there.
    pub resume: bool,
    /// The processes that share every update; the first one writes.
    pub group: &'a ProcessGroup,
    /// When this becomes true the run saves a checkpoint and ends.
    pub interrupted: &'a AtomicBool,
}

/// What happens during a run, for whoever shows it.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something the user should know, such as how many tokens the length limits cut.
    Notice(&'a str),
    /// How many records a split has, and where their tokens are from.
    Dataset(&'a str),
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
    /// Summaries are being written for a validation.
    Summarizing {
        /// Summaries written.
        done: usize,
        /// Summaries of the whole validation.
        total: usize,
    },
    /// The model was validated.
    Validation {
        /// Updates made.
        step: usize,
        /// `loss`, in nats per target token, and the scores of summaries where they were written.
        metrics: &'a BTreeMap<String, f64>,
        /// Whether no validation was better before.
        is_best: bool,
    },
    /// The run ends before its last step, because validations have not become better than this for long enough.
    StoppedEarly(&'a Best),
    /// A checkpoint or the final model was written.
    Saved(&'a Path),
}

/// What a finished run leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The directory of the final model.
    pub directory: PathBuf,
    /// Updates made.
    pub steps: usize,
    /// The validation loss at the end, if there is validation data.
    pub validation_loss: Option<f64>,
    /// The validation whose model is the final one, if that is not the last.
    pub best: Option<Best>,
}
