//! [`Mixture`] and [`ObjectiveOptions`]: what is drawn how often, and how.

use serde::{Deserialize, Serialize};

use super::{Denoising, Extraction, GapSentences, Prompts};

/// How often each objective is drawn, relative to the others; one that is not named is not drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mixture {
    /// The record's summary.
    pub summarize: f64,
    /// The passages of the document that match the summary best.
    pub extract: f64,
    /// A passage of the document, restored from a damaged copy.
    pub denoise: f64,
    /// The document's principal sentences.
    pub gap_sentences: f64,
}

impl Mixture {
    /// Summaries only.
    pub fn summaries() -> Self {
        Self { summarize: 1.0, ..Self::default() }
    }

    /// Whether anything is drawn that needs no summary.
    pub fn is_self_supervised(&self) -> bool {
        self.denoise > 0.0 || self.gap_sentences > 0.0
    }

    /// Whether anything is drawn that needs one.
    pub fn is_supervised(&self) -> bool {
        self.summarize > 0.0 || self.extract > 0.0
    }

    /// Whether anything is made from documents' tokens.
    pub fn makes_targets(&self) -> bool {
        self.is_self_supervised() || self.extract > 0.0
    }

    /// Whether every weight is a number from 0 and one is positive.
    pub fn is_valid(&self) -> bool {
        let weights = [self.summarize, self.extract, self.denoise, self.gap_sentences];
        weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0) && weights.iter().any(|weight| *weight > 0.0)
    }
}

/// The settings of [`Objectives`](super::Objectives).
#[derive(Clone, Debug, Default)]
pub struct ObjectiveOptions {
    /// How often each is drawn.
    pub mixture: Mixture,
    /// How passages are damaged.
    pub denoise: Denoising,
    /// Which principal sentences are asked for.
    pub gap_sentences: GapSentences,
    /// Which passages are.
    pub extract: Extraction,
    /// What leads summaries and extracts.
    pub prompts: Prompts,
}

impl ObjectiveOptions {
    /// Whether examples must be text: anything but summaries alone, without prompts, is made from tokens whose text is known.
    pub fn need_text(&self) -> bool {
        self.mixture.makes_targets() || self.prompts.are_used()
    }
}
