//! Tokens that must be written at a certain place: their score becomes 0 and every other minus infinity.

use super::LogitsProcessor;

fn force(tokens: &[u32], scores: &mut [f32]) {
    scores.fill(f32::NEG_INFINITY);
    for &token in tokens {
        scores[token as usize] = 0.0;
    }
}

/// `forced_bos_token_id`: the first generated token.
pub struct ForcedBosToken {
    token: u32,
}

impl ForcedBosToken {
    /// Forces `token` after the decoder start token.
    #[must_use]
    pub fn new(token: u32) -> Self {
        Self { token }
    }
}

impl LogitsProcessor for ForcedBosToken {
    fn process(&self, tokens: &[u32], scores: &mut [f32]) {
        if tokens.len() == 1 {
            force(&[self.token], scores);
        }
    }

    fn forbidden(&self, tokens: &[u32]) -> Option<Vec<u32>> {
        (tokens.len() != 1).then(Vec::new)
    }
}

/// `forced_eos_token_id`: the last token of a sequence that reaches the greatest length.
pub struct ForcedEosToken<'a> {
    max_length: usize,
    tokens: &'a [u32],
}

impl<'a> ForcedEosToken<'a> {
    /// Forces one of `tokens` as the last of `max_length` tokens, the decoder start token counted.
    #[must_use]
    pub fn new(max_length: usize, tokens: &'a [u32]) -> Self {
        Self { max_length, tokens }
    }
}

impl LogitsProcessor for ForcedEosToken<'_> {
    fn process(&self, tokens: &[u32], scores: &mut [f32]) {
        if tokens.len() + 1 == self.max_length {
            force(self.tokens, scores);
        }
    }

    fn forbidden(&self, tokens: &[u32]) -> Option<Vec<u32>> {
        (tokens.len() + 1 != self.max_length).then(Vec::new)
    }
}
