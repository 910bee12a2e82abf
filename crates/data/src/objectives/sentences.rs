//! Where sentences end in a sequence of tokens.

use std::ops::Range;

use crate::tokenizer::Tokenizer;

/// Which tokens can end a sentence and which can follow its end, by id.
#[derive(Clone, Debug)]
pub(super) struct SentenceTokens {
    ends: Vec<bool>,
    follows: Vec<bool>,
}

impl SentenceTokens {
    pub(super) fn new(tokenizer: &Tokenizer) -> Self {
        let tokens = || (0..tokenizer.vocab_size() as u32).map(|id| tokenizer.id_to_token(id).unwrap_or_default());
        Self {
            ends: tokens().map(|token| token.trim_end_matches(CLOSING).ends_with(['.', '!', '?'])).collect(),
            follows: tokens().map(|token| token.starts_with(WHITE_SPACE)).collect(),
        }
    }

    /// The sentences of `ids`, end to end: a full stop, exclamation or question mark before white space ends one.
    pub(super) fn split(&self, ids: &[u32]) -> Vec<Range<usize>> {
        let is = |table: &[bool], id: u32| table.get(id as usize).copied().unwrap_or(false);
        let mut sentences = Vec::new();
        let mut start = 0;
        for end in 1..=ids.len() {
            let ended = is(&self.ends, ids[end - 1]) && ids.get(end).is_none_or(|&next| is(&self.follows, next));
            if ended || end == ids.len() {
                sentences.push(start..end);
                start = end;
            }
        }
        sentences
    }
}

/// What may stand between a full stop and the end of its token.
const CLOSING: [char; 3] = ['"', '\'', ')'];

/// How byte-level vocabularies spell a space and a line end.
const WHITE_SPACE: [char; 2] = ['Ġ', 'Ċ'];
