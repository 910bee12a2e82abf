//! N-grams that may not be written (again).

use std::collections::HashMap;

use super::{LogitsProcessor, forbid};

/// The last `size - 1` tokens, which the next token would complete to an n-gram; `None` while there are fewer.
fn open_ngram(tokens: &[u32], size: usize) -> Option<&[u32]> {
    let start = (tokens.len() + 1).checked_sub(size)?;
    Some(&tokens[start..])
}

/// `no_repeat_ngram_size`: no n-gram may occur twice in a sequence, the decoder start token and forced tokens included. It
/// may forbid the end token too.
pub struct NoRepeatNGram {
    size: usize,
}

impl NoRepeatNGram {
    /// `size` is at least 1.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self { size }
    }

    fn forbids(&self, tokens: &[u32]) -> Vec<u32> {
        let Some(open) = open_ngram(tokens, self.size) else { return Vec::new() };
        let completed = |ngram: &[u32]| {
            let (&last, first) = ngram.split_last()?;
            (first == open).then_some(last)
        };
        tokens.windows(self.size).filter_map(completed).collect()
    }
}

impl LogitsProcessor for NoRepeatNGram {
    fn process(&self, tokens: &[u32], scores: &mut [f32]) {
        forbid(&self.forbids(tokens), scores);
    }

    fn forbidden(&self, tokens: &[u32]) -> Option<Vec<u32>> {
        Some(self.forbids(tokens))
    }
}

/// `encoder_no_repeat_ngram_size`: no n-gram of the document may be written.
pub struct EncoderNoRepeatNGram<'a> {
    size: usize,
    /// What follows each `size - 1` tokens of the document.
    endings: HashMap<&'a [u32], Vec<u32>>,
}

impl<'a> EncoderNoRepeatNGram<'a> {
    /// `size` is at least 1.
    #[must_use]
    pub fn new(size: usize, encoder_ids: &'a [u32]) -> Self {
        let mut endings: HashMap<&[u32], Vec<u32>> = HashMap::new();
        for ngram in encoder_ids.windows(size) {
            if let Some((&last, first)) = ngram.split_last() {
                endings.entry(first).or_default().push(last);
            }
        }
        Self { size, endings }
    }

    fn forbids(&self, tokens: &[u32]) -> &[u32] {
        let endings = open_ngram(tokens, self.size).and_then(|open| self.endings.get(open));
        endings.map_or(&[], Vec::as_slice)
    }
}

impl LogitsProcessor for EncoderNoRepeatNGram<'_> {
    fn process(&self, tokens: &[u32], scores: &mut [f32]) {
        forbid(self.forbids(tokens), scores);
    }

    fn forbidden(&self, tokens: &[u32]) -> Option<Vec<u32>> {
        Some(self.forbids(tokens).to_vec())
    }
}
