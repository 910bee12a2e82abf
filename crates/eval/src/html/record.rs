//! What the page shows of one record.

use serde::Serialize;

use crate::{Alignment, Prediction, Reference, SourceDocument};

/// One record as the page's script reads it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShownRecord {
    /// JSON.
    pub(super) json: String,
}

#[derive(Serialize)]
struct Record<'a> {
    id: &'a str,
    documents: &'a [String],
    references: &'a [String],
    systems: Vec<System<'a>>,
}

#[derive(Serialize)]
struct System<'a> {
    summary: &'a str,
    /// Bytes of the summary, and of the documents joined by line breaks.
    alignments: Vec<Alignment>,
    attribution: Option<&'a serde_json::Value>,
}

impl ShownRecord {
    pub(crate) fn new(reference: &Reference, predictions: &[Prediction], document: Option<&SourceDocument>) -> Self {
        let systems = predictions.iter().map(|prediction| System {
            summary: &prediction.summary,
            alignments: document.map_or_else(Vec::new, |document| document.alignments(&prediction.summary)),
            attribution: prediction.attribution.as_ref(),
        });
        let record = Record {
            id: &reference.id,
            documents: &reference.documents,
            references: &reference.references,
            systems: systems.collect(),
        };
        Self { json: serde_json::to_string(&record).expect("strings and numbers always serialize") }
    }
}
