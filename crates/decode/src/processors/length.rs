//! The least length of a summary.

use super::{LogitsProcessor, forbid};

/// `min_length` and `min_new_tokens`: no end token while the sequence is shorter.
pub struct MinLength<'a> {
    min_length: usize,
    eos_token_id: &'a [u32],
}

impl<'a> MinLength<'a> {
    /// `min_length` counts the decoder start token.
    #[must_use]
    pub fn new(min_length: usize, eos_token_id: &'a [u32]) -> Self {
        Self { min_length, eos_token_id }
    }
}

impl LogitsProcessor for MinLength<'_> {
    fn process(&self, tokens: &[u32], scores: &mut [f32]) {
        if tokens.len() < self.min_length {
            forbid(self.eos_token_id, scores);
        }
    }

    fn forbidden(&self, tokens: &[u32]) -> Option<Vec<u32>> {
        Some(if tokens.len() < self.min_length { self.eos_token_id.to_vec() } else { Vec::new() })
    }
}
