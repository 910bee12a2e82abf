//! What is compared.

/// What a system wrote for one record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    /// Which record.
    pub id: String,
    /// The text. An empty one scores 0.
    pub summary: String,
}

/// What people wrote for one record, and what there was to summarize.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reference {
    /// Which record.
    pub id: String,
    /// One or more texts; the best F1 counts.
    pub references: Vec<String>,
    /// The document (several joined by line breaks), for the baselines.
    pub document: Option<String>,
}
