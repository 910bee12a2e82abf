//! What can go wrong while a summary is decoded.

use std::path::PathBuf;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, and what a person can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of options could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file of options is not JSON, or a field has the wrong type.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line and column.
        source: serde_json::Error,
    },
    /// An option has a value that makes no sense, alone or beside another option.
    #[error("{option} (from {origin}): {message}")]
    Option {
        /// The option, named as in `transformers`.
        option: &'static str,
        /// The file or the command line that set it.
        origin: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// An option names a token that the model does not have.
    #[error("{option} names token {token}, but the model's vocabulary has {vocab_size} entries (0 to {})", vocab_size - 1)]
    Token {
        /// The option, named as in `transformers`.
        option: &'static str,
        /// The token id.
        token: u32,
        /// Number of entries in the vocabulary.
        vocab_size: usize,
    },
    /// The model gave NaN, plus infinity, or nothing but minus infinity.
    #[error(
        "document {document} of the batch: the logits of token {position} are not finite; check the model's weights"
    )]
    Logits {
        /// Index into the batch, from 0.
        document: usize,
        /// Which generated token, counted from 1.
        position: usize,
    },
    /// A stepper returned a wrong number of logits.
    #[error("the stepper returned {found} logits for {rows} rows of {vocab_size}")]
    LogitsShape {
        /// Number of values returned.
        found: usize,
        /// Rows asked for.
        rows: usize,
        /// Number of entries in the vocabulary.
        vocab_size: usize,
    },
    /// A record holds a token that the model does not have.
    #[error("{location}: token {token} is not in the model's vocabulary of {vocab_size} entries")]
    InputToken {
        /// Where the record is.
        location: epitome_data::Location,
        /// The token id.
        token: u32,
        /// Number of entries in the vocabulary.
        vocab_size: usize,
    },
    /// Labels without a single token, where a target is needed.
    #[error("{location}: record `{id}` has empty `labels`; a target needs at least one token")]
    NoLabels {
        /// Where the record is.
        location: epitome_data::Location,
        /// Its id.
        id: String,
    },
    /// From the model.
    #[error(transparent)]
    Model(#[from] epitome_model::Error),
    /// From the records or the tokenizer.
    #[error(transparent)]
    Data(#[from] epitome_data::Error),
}

impl Error {
    /// Whether one record is at fault, so that a run can go on with the next: it is no record, holds a token outside the
    /// vocabulary, or has no target or text where one is needed.
    pub fn is_bad_record(&self) -> bool {
        match self {
            Self::InputToken { .. } | Self::NoLabels { .. } => true,
            Self::Data(error) => error.is_bad_record(),
            _ => false,
        }
    }
}
