//! The document's own sentences that match its summary best.

use serde::{Deserialize, Serialize};

use super::{Body, Language};

/// Which sentences are asked for: those of the extractive oracle ([`rouge::select`]), found over tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Extraction {
    /// Tokens that the chosen sentences may have together.
    pub max_tokens: usize,
    /// Whether they stand in the order in which the search chose them, the best one first, instead of the document's.
    pub best_first: bool,
}

impl Default for Extraction {
    fn default() -> Self {
        Self { max_tokens: 512, best_first: false }
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
        Ok(())
    }

    /// The chosen sentences, one behind the other; none where no sentence shares a token with the summary.
    pub(super) fn choose(&self, body: &Body, language: &Language, summary: &[u32]) -> Vec<u32> {
        let sentences: Vec<&[u32]> = body.sentences(language).into_iter().map(|sentence| &body.ids[sentence]).collect();
        let found = rouge::select(summary, &sentences, self.max_tokens);
        let chosen = if self.best_first { found.by_gain } else { found.taken };
        chosen.into_iter().flat_map(|sentence| sentences[sentence].iter().copied()).collect()
    }
}
