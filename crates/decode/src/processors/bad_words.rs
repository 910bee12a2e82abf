//! Token sequences that may not be written.

use super::LogitsProcessor;

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
}

impl LogitsProcessor for NoBadWords<'_> {
    fn process(&self, tokens: &[u32], scores: &mut [f32]) {
        for sequence in &self.sequences {
            if let Some((&last, prefix)) = sequence.split_last()
                && (prefix.is_empty() || sequence.len() <= tokens.len() && tokens.ends_with(prefix))
            {
                scores[last as usize] = f32::NEG_INFINITY;
            }
        }
    }
}
