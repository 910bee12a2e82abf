//! What can go wrong between a model directory and a forward pass.

use std::path::{Path, PathBuf};

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that names the file, tensor or option at fault.
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
    /// A configuration that is not valid or not supported.
    #[error("{}: {message}", path.display())]
    Config {
        /// The file, or the place that the configuration came from.
        path: PathBuf,
        /// What is wrong and what to do about it.
        message: String,
    },
    /// A weight file that cannot be understood.
    #[error("{}: cannot be read as a weight file: {message}", path.display())]
    WeightFile {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        message: String,
    },
    /// A tensor that the configuration asks for is in none of the files.
    #[error("{}: tensor `{name}` {expected:?} is missing", path.display())]
    MissingTensor {
        /// The file or directory searched.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The shape that `config.json` implies.
        expected: Vec<usize>,
    },
    /// A tensor whose shape contradicts the configuration.
    #[error("{}: tensor `{name}` has shape {found:?}, but config.json implies {expected:?}{hint}", path.display())]
    TensorShape {
        /// The file that holds the tensor.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The shape that `config.json` implies.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
        /// What to do about it, if known; starts with a separator.
        hint: &'static str,
    },
    /// A layer in the file that the configuration does not have.
    #[error("{}: tensor `{name}` belongs to a layer that config.json does not have; correct its layer counts", path.display())]
    SurplusTensor {
        /// The file that holds the tensor.
        path: PathBuf,
        /// The tensor's name.
        name: String,
    },
    /// A batch that the model cannot take.
    #[error("{0}")]
    Input(String),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn config(path: &Path, message: impl Into<String>) -> Self {
        Self::Config { path: path.to_owned(), message: message.into() }
    }
}
