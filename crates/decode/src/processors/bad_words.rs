//! Token sequences that may not be written.

use super::{LogitsProcessor, forbid};

/// `bad_words_ids`: the last token of a sequence is forbidden where the tokens before it stand.
///
/// Two habits of `transformers` are kept: a sequence that is just an end token is ignored, and a sequence of n tokens is
/// looked for only once n tokens (the decoder start token included) exist.
pub struct NoBadWords<'a> {
    sequences: Vec<&'a [u32]>,
}

impl<'a> NoBadWords<'a> {
    /// No sequence is empty.
    #[must_use]
    pub fn new(sequences: &'a [Vec<u32>], eos_token_id: &[u32]) -> Self {
        let is_eos = |sequence: &[u32]| matches!(sequence, [token] if eos_token_id.contains(token));
        Self { sequences: sequences.iter().map(Vec::as_slice).filter(|sequence| !is_eos(sequence)).collect() }
    }

    fn forbids(&self, tokens: &[u32]) -> Vec<u32> {
        let completed = |sequence: &&[u32]| {
            let (&last, prefix) = sequence.split_last()?;
            let stands = prefix.is_empty() || sequence.len() <= tokens.len() && tokens.ends_with(prefix);
            stands.then_some(last)
        };
        self.sequences.iter().filter_map(completed).collect()
    }
}

impl LogitsProcessor for NoBadWords<'_> {
    fn process(&self, tokens: &[u32], scores: &mut [f32]) {
        forbid(&self.forbids(tokens), scores);
    }

    fn forbidden(&self, tokens: &[u32]) -> Option<Vec<u32>> {
        Some(self.forbids(tokens))
    }
}
