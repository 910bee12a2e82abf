//! What is compared.

use std::error::Error;

/// What a system wrote for one record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Which record.
    pub id: String,
    /// The text. An empty one scores 0.
    pub summary: String,
    /// Whether it ended at its length limit, where that is known.
    pub is_cut: Option<bool>,
    /// The passages that each sentence rests on, as `epitome decode --attribute` writes them; shown as they are.
    pub attribution: Option<serde_json::Value>,
}

/// What people wrote for one record, and what there was to summarize.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reference {
    /// Which record.
    pub id: String,
    /// One or more texts.
    pub references: Vec<String>,
    /// What there was to summarize; none where that is not known.
    pub documents: Vec<String>,
}

impl Reference {
    /// All documents as one text, joined by line breaks.
    pub(crate) fn document(&self) -> Option<String> {
        (!self.documents.is_empty()).then(|| self.documents.join("\n"))
    }
}

/// Something read, or why it could not be.
pub type Input<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Things that are read one after the other.
pub type Stream<'a, T> = Box<dyn Iterator<Item = Input<T>> + Send + 'a>;

/// A system and what it wrote.
pub struct Predictions<'a> {
    /// What reports call it.
    pub name: String,
    /// One for each record, at best in the order of the references: then only few are in memory.
    pub stream: Stream<'a, Prediction>,
}
