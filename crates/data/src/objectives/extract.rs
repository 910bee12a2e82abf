//! The document's own passages that match its summary best.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Body;
use crate::extracts::Extracts;
use crate::tokenizer::SpecialTokens;

/// Which passages are asked for: those of the extractive oracle ([`rouge::select`]), found over tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Extraction {
    /// Tokens that the chosen passages may have together.
    pub max_tokens: usize,
    /// Whether they stand in the order in which the search chose them, the best one first, instead of the document's.
    pub best_first: bool,
    /// 0, or how much a token's loss counts; it is then that of choosing the token among those with which a passage might go
    /// on or begin, as an extractive search does, instead of among all.
    pub choice_weight: f32,
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

    /// The chosen passages, one behind the other; none where no passage shares a token with the summary.
    pub(super) fn choose(&self, body: &Body, passages: &[Range<usize>], summary: &[u32]) -> Vec<u32> {
        let texts: Vec<&[u32]> = passages.iter().map(|passage| &body.ids[passage.clone()]).collect();
        let found = rouge::select(summary, &texts, self.max_tokens);
        let chosen = if self.best_first { found.by_gain } else { found.taken };
        chosen.into_iter().flat_map(|passage| texts[passage].iter().copied()).collect()
    }

    /// What each token of `labels`, an extract with `<s>` and `</s>`, is chosen from.
    pub(super) fn choices(
        &self,
        body: &Body,
        passages: &[Range<usize>],
        labels: &[i64],
        special: SpecialTokens,
    ) -> Vec<Vec<u32>> {
        let eos = [special.eos];
        let extract: Vec<u32> = labels.iter().filter_map(|&label| u32::try_from(label).ok()).collect();
        Extracts::new(body.ids, passages, special.bos, &eos, usize::MAX).choices(&extract)
    }
}
