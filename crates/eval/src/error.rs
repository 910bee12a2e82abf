//! What can be wrong with an evaluation.

use std::io;
use std::path::PathBuf;

use crate::ComparisonError;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What can be wrong with an evaluation; the message says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be read.
    #[error(transparent)]
    Input(Box<dyn std::error::Error + Send + Sync>),
    /// Two predictions of a system have one id.
    #[error("{system}: two predictions have the id {id:?}; keep one of them")]
    DoubledPrediction {
        /// The system.
        system: String,
        /// The id.
        id: String,
    },
    /// Two reference records have one id.
    #[error("two reference records have the id {id:?}; keep one, with all its texts in \"references\"")]
    DoubledReference {
        /// The id.
        id: String,
    },
    /// A reference record has no prediction.
    #[error("{system}: no prediction has the id {id:?}{}; predict every record, or leave it out of the references", more(*.others))]
    MissingPrediction {
        /// The system.
        system: String,
        /// The first such id.
        id: String,
        /// How many more there are.
        others: usize,
    },
    /// A prediction has no reference record.
    #[error("{system}: no reference record has the id {id:?}{}; the predictions belong to other records", more(*.others))]
    MissingReference {
        /// The system.
        system: String,
        /// One such id.
        id: String,
        /// How many more there are.
        others: usize,
    },
    /// A reference record has no reference text.
    #[error("the record {id:?} has no reference text; give it a \"summary\" or \"references\"")]
    NoReferenceText {
        /// The id of the record.
        id: String,
    },
    /// There is nothing to score.
    #[error("there are no records to evaluate")]
    NoRecords,
    /// There are neither systems nor baselines.
    #[error(
        "there are no systems to score, and no baselines: they need the `document` or `documents` of every record and at \
         least one name"
    )]
    NothingToScore,
    /// Systems that cannot be told apart, or cannot be compared.
    #[error(transparent)]
    Comparison(#[from] ComparisonError),
    /// A report file could not be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" (nor {others} more)") }
}
