//! [`Summary`]: what is made of a document.

use serde::{Deserialize, Serialize};

use crate::Attribution;

/// One summary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sequence {
    /// The text; empty without a tokenizer.
    pub summary: String,
    /// Generated ids without the decoder start, the end token included; of an extract its ids, passages in the document's order.
    pub tokens: Vec<u32>,
    /// Sum of log-probabilities (nats) over the length to the power of `length_penalty`; of an extract those of its choices.
    pub score: f32,
    /// Whether it ended by itself, and not because it may not be longer or no token may follow.
    pub ended: bool,
    /// What each sentence rests on, where the source has passages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribution: Option<Vec<Attribution>>,
}

/// What was made of one document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The best summary.
    #[serde(flatten)]
    pub best: Sequence,
    /// Tokens that the encoder read.
    pub document_tokens: usize,
    /// Tokens left out because a limit was asked for.
    pub truncated_tokens: usize,
    /// Whether the document is longer than the encoder's position table, so that its positions were tiled.
    #[serde(default, skip_serializing_if = "is_false")]
    pub positions_tiled: bool,
    /// Whether a summary is longer than the decoder's position table, so that its positions were tiled.
    #[serde(default, skip_serializing_if = "is_false")]
    pub summary_positions_tiled: bool,
    /// The best `num_return_sequences` summaries, the first included; empty when only one was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sequences: Vec<Sequence>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Summary {
    /// What a document without any text is summarized to; no model is asked.
    pub fn of_nothing() -> Self {
        Self {
            best: Sequence { summary: String::new(), tokens: Vec::new(), score: 0.0, ended: true, attribution: None },
            document_tokens: 0,
            truncated_tokens: 0,
            positions_tiled: false,
            summary_positions_tiled: false,
            sequences: Vec::new(),
        }
    }
}
