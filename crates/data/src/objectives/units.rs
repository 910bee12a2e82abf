//! The passages of a document of which only the tokens are at hand.

use std::collections::HashMap;
use std::ops::Range;

use crate::passages::split;
use crate::tokenizer::{Tokenizer, byte_table};

/// The bytes that each token stands for.
#[derive(Clone, Debug)]
pub(super) struct TokenBytes(Vec<Vec<u8>>);

impl TokenBytes {
    pub(super) fn new(tokenizer: &Tokenizer) -> Self {
        let bytes: HashMap<char, u8> = byte_table().into_iter().zip(0..=u8::MAX).collect();
        let spelled = |id: u32| {
            let token = tokenizer.id_to_token(id).filter(|_| !tokenizer.is_special(id)).unwrap_or_default();
            token.chars().filter_map(|character| bytes.get(&character).copied()).collect()
        };
        Self((0..tokenizer.vocab_size() as u32).map(spelled).collect())
    }

    /// The passages of `ids`, which are one document: those that [`Passage`](crate::Passage) has of its text.
    pub(super) fn passages(&self, ids: &[u32]) -> Vec<Range<usize>> {
        let mut bytes = Vec::new();
        let ends = ids.iter().map(|&id| {
            bytes.extend_from_slice(self.0.get(id as usize).map_or(&[], Vec::as_slice));
            bytes.len()
        });
        let ends: Vec<usize> = ends.collect();
        let text = text(bytes);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        // As tokenizers say it, a token that has a part of a character has it all.
        let whole = |(start, &end): (usize, &usize)| text.floor_char_boundary(start)..text.ceil_char_boundary(end);
        let offsets: Vec<Range<usize>> = starts.zip(&ends).map(whole).collect();
        split(&text, &offsets, |_| false)
    }
}

/// The text of bytes; of what is not UTF-8, because it was cut, every byte is a question mark.
fn text(mut bytes: Vec<u8>) -> String {
    loop {
        match String::from_utf8(bytes) {
            Ok(text) => return text,
            Err(error) => {
                let fault = error.utf8_error();
                let start = fault.valid_up_to();
                bytes = error.into_bytes();
                let end = fault.error_len().map_or(bytes.len(), |length| start + length);
                bytes[start..end].fill(b'?');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passages::Passage;
    use crate::tokenizer::TrainerOptions;

    #[test]
    fn passages_of_tokens_are_those_of_their_text() {
        let document = "Results\n\nDr. Smith measured (Fig. 2) what 😀 mice do et al. in 3.5 houses: Grüße! Why? \
             Nobody of all those who were asked there knew it. 鼠标在房子里。没有人知道这件事。\n\n\nA last one, without an end";
        let document = format!("{document} {} the rest.", "and so on ".repeat(100));
        let tokenizer = Tokenizer::train([Ok(document.as_str())].into_iter(), &TrainerOptions::new(320)).unwrap();
        let bytes = TokenBytes::new(&tokenizer);
        let (ids, offsets) = tokenizer.encode_with_offsets(&document).unwrap();
        let expected = Passage::of_document(None, &document, &offsets, 0, |_| false);
        let expected: Vec<Range<usize>> = expected.into_iter().map(|passage| passage.tokens).collect();
        assert!(expected.len() > 4, "{expected:?}");
        assert_eq!(bytes.passages(&ids), expected);
    }

    #[test]
    fn a_character_that_was_cut_is_question_marks() {
        assert_eq!(text("a😀b".as_bytes()[..3].to_vec()), "a??");
        assert_eq!(text("a😀b".as_bytes()[2..].to_vec()), "???b");
        assert_eq!(text(b"a\xffb\xc3".to_vec()), "a?b?");
    }
}
