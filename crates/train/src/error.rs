//! What can stop a training run.

use std::path::{Path, PathBuf};

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that names the file, key or step at fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A configuration with an unknown key, a wrong type or a contradiction.
    #[error("{origin}: {message}")]
    Config {
        /// The file, or the `--set` argument.
        origin: String,
        /// What is wrong and what to do about it.
        message: String,
    },
    /// The loss or the weights left the numbers; the last checkpoint, if there is one, is intact.
    #[error(
        "step {step}: the {what} is {value}, on the records {}; checkpoints before it are intact: lower \
         optim.learning_rate or look at these records",
        ids.join(", ")
    )]
    NotFinite {
        /// The optimizer step, from 1.
        step: usize,
        /// The loss, or what followed from it, or from the weights.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The records of the step.
        ids: Vec<String>,
    },
    /// A checkpoint that cannot be continued.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The checkpoint or one of its files.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A dataset that cannot be trained on.
    #[error("{0}")]
    Dataset(String),
    /// The largest update of a run would take more memory than there is.
    #[error(
        "training takes about {needed_gib:.3} GiB for {what}, but {limit_gib:.3} GiB are there: {}",
        changes.join("; ")
    )]
    Memory {
        /// What the update takes.
        needed_gib: f64,
        /// What there is.
        limit_gib: f64,
        /// What takes it.
        what: String,
        /// What to change, and what the update takes then.
        changes: Vec<String>,
    },
    /// The largest micro-batch of a run was tried on a GPU, whose memory it does not fit into.
    #[error(
        "training does not fit into the GPU's memory: its largest update has {source_tokens} source and {target_tokens} target tokens \
         at a time; less is taken by {changes}"
    )]
    GpuMemory {
        /// Tokens of all documents of the micro-batch.
        source_tokens: usize,
        /// Tokens of all its targets.
        target_tokens: usize,
        /// Settings that take less.
        changes: String,
    },
    /// The threads of the workers could not be started.
    #[error("cannot start the threads of run.parallel_micro_batches: {0}")]
    Threads(String),
    /// The summaries of a validation could not be written or scored.
    #[error("summaries of the validation records: {0}")]
    Summaries(Box<dyn std::error::Error + Send + Sync>),
    /// The processes of a run do not have the same before them.
    #[error(
        "process {rank} begins with {other}, but process 0 with {own}: all need the same files, output directory included"
    )]
    NotAlike {
        /// The process that differs from the first.
        rank: usize,
        /// What the first one has.
        own: String,
        /// What it has.
        other: String,
    },
    /// The work was asked to stop in the middle.
    #[error("interrupted")]
    Interrupted,
    /// A run was asked to stop and has saved what it had.
    #[error(
        "stopped after step {step}: continue in the same working directory with --config {} --output {} --resume; that \
         configuration holds all settings of the run",
        output.join("config.toml").display(),
        output.display()
    )]
    Stopped {
        /// Updates made.
        step: usize,
        /// The run's directory.
        output: PathBuf,
    },
    /// From the data crate.
    #[error(transparent)]
    Data(#[from] epitome_data::Error),
    /// From the model crate.
    #[error(transparent)]
    Model(#[from] epitome_model::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn config(origin: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config { origin: origin.into(), message: message.into() }
    }
}
