//! Where sentences end in a sequence of tokens.

use std::ops::Range;

use crate::tokenizer::Tokenizer;

/// What tokens mean for the ends of sentences, by id.
#[derive(Clone, Debug)]
pub(super) struct SentenceTokens {
    roles: Vec<Role>,
    /// Whether a token begins with white space, so that a sentence can end before it.
    follows: Vec<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A full stop, exclamation or question mark, perhaps with closing marks behind it.
    Ends,
    /// Nothing but closing marks: an end before it stays one.
    Closes,
    Other,
}

impl SentenceTokens {
    pub(super) fn new(tokenizer: &Tokenizer) -> Self {
        let tokens = || (0..tokenizer.vocab_size() as u32).map(|id| tokenizer.id_to_token(id).unwrap_or_default());
        Self {
            roles: tokens().map(|token| role(&token)).collect(),
            follows: tokens().map(|token| token.starts_with(WHITE_SPACE)).collect(),
        }
    }

    /// The sentences of `ids`, end to end: a full stop, exclamation or question mark before white space ends one.
    pub(super) fn split(&self, ids: &[u32]) -> Vec<Range<usize>> {
        let follows = |id: u32| self.follows.get(id as usize).copied().unwrap_or(false);
        let mut sentences = Vec::new();
        let mut start = 0;
        let mut ended = false;
        for (index, &id) in ids.iter().enumerate() {
            ended = match self.roles.get(id as usize) {
                Some(Role::Ends) => true,
                Some(Role::Closes) => ended,
                _ => false,
            };
            let next = ids.get(index + 1);
            if next.is_none_or(|&next| ended && follows(next)) {
                sentences.push(start..index + 1);
                start = index + 1;
            }
        }
        sentences
    }

    /// About how many words a target has: its first token begins one, and so does every one with white space before it.
    pub(super) fn words(&self, labels: &[i64]) -> usize {
        let follows = |&&label: &&i64| usize::try_from(label).is_ok_and(|id| self.follows.get(id) == Some(&true));
        labels.iter().filter(follows).count() + 1
    }
}

fn role(token: &str) -> Role {
    match token.trim_end_matches(CLOSING) {
        "" if !token.is_empty() => Role::Closes,
        rest if rest.ends_with(['.', '!', '?']) => Role::Ends,
        _ => Role::Other,
    }
}

/// What may stand between a full stop and white space.
const CLOSING: [char; 4] = ['"', '\'', ')', ']'];

/// How byte-level vocabularies spell a space and a line end.
const WHITE_SPACE: [char; 2] = ['Ġ', 'Ċ'];
