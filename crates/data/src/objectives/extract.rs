//! The document's own passages that match its summary best.

use serde::{Deserialize, Serialize};

use crate::examples::Example;
use crate::extracts::Extracts;

/// Which passages are asked for: those of the extractive oracle ([`rouge::select`]), found over tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Extraction {
    /// Tokens that the chosen passages may have together.
    pub max_tokens: usize,
    /// Whether they stand in the order in which the search chose them, the best one first, instead of the document's.
    pub best_first: bool,
    /// 0, or how much a token's loss counts; it is then that of choosing the token among those with which a passage might go
    /// on or begin, as an extractive search does, instead of among all. Most tokens of a passage leave no choice and are not
    /// learnt, so that a model that is trained on nothing else only writes in such a search.
    pub choice_weight: f64,
}

impl Default for Extraction {
    fn default() -> Self {
        Self { max_tokens: 512, best_first: false, choice_weight: 0.0 }
    }
}

impl Extraction {
    /// Checks the range.
    ///
    /// # Errors
    /// A message that names the field and what it must be.
    pub fn validate(&self) -> Result<(), String> {
        if self.max_tokens == 0 {
            return Err("max_tokens is 0, it must be positive".into());
        }
        if !(self.choice_weight.is_finite() && self.choice_weight >= 0.0) {
            return Err(format!("choice_weight is {}, it must be a number from 0", self.choice_weight));
        }
        Ok(())
    }

    /// The chosen passages of those of `extracts`, one behind the other; none where no passage shares a token with the summary.
    pub(super) fn choose(&self, extracts: &Extracts, summary: &[u32]) -> Vec<u32> {
        let passages = extracts.passages();
        let found = rouge::select(summary, &passages, self.max_tokens);
        let chosen = if self.best_first { found.by_gain } else { found.taken };
        chosen.into_iter().flat_map(|passage| passages[passage].iter().copied()).collect()
    }

    /// Makes the loss of `example`, a drawn one, that of its choices. One that is none of `extracts`, as one without any
    /// passage, then teaches nothing.
    pub(super) fn compare_choices(&self, example: &mut Example, extracts: &Extracts) {
        let labels: Vec<u32> = example.labels.iter().filter_map(|&label| u32::try_from(label).ok()).collect();
        let choices = extracts.choices(&labels);
        let weight = if choices.is_some() { self.choice_weight as f32 } else { 0.0 };
        example.weights = vec![weight; labels.len()];
        example.choices = choices.unwrap_or_default();
    }
}
