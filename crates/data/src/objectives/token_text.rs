//! The text of documents of which only the tokens are at hand, and the passages in it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::passages::split;
use crate::tokenizer::{Tokenizer, byte_table};

/// The bytes that each token of a byte-level vocabulary stands for. Those of a special token are its name, as in a text that
/// spells it.
#[derive(Clone, Debug)]
pub(super) struct TokenText {
    bytes: Arc<Vec<Vec<u8>>>,
    /// Tokens between documents, which belong to no passage.
    separators: Vec<u32>,
}

impl TokenText {
    /// # Errors
    /// A vocabulary that is not byte-level.
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let table = byte_table();
        if !table.iter().all(|character| tokenizer.token_to_id(&character.to_string()).is_some()) {
            return Err(Error::ObjectiveNeeds("a byte-level tokenizer"));
        }
        let bytes: HashMap<char, u8> = table.into_iter().zip(0..=u8::MAX).collect();
        let spelled = |id: u32| match tokenizer.id_to_token(id).unwrap_or_default() {
            special if tokenizer.is_special(id) => special.into_bytes(),
            token => token.chars().filter_map(|character| bytes.get(&character).copied()).collect(),
        };
        let special = tokenizer.special_tokens();
        Ok(Self {
            bytes: Arc::new((0..tokenizer.vocab_size() as u32).map(spelled).collect()),
            separators: [special.eos].into_iter().chain(special.document_separator).collect(),
        })
    }

    /// The passages of `ids`, which are one document: those that [`Passage`](crate::Passage) has of its text.
    pub(super) fn passages(&self, ids: &[u32]) -> Vec<Range<usize>> {
        let mut bytes = Vec::new();
        let ends = ids.iter().map(|&id| {
            bytes.extend_from_slice(self.bytes_of(id));
            bytes.len()
        });
        let ends: Vec<usize> = ends.collect();
        let text = text(&bytes);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        // As tokenizers say it, a token that has a part of a character has it all.
        let whole = |(start, &end): (usize, &usize)| text.floor_char_boundary(start)..text.ceil_char_boundary(end);
        let offsets: Vec<Range<usize>> = starts.zip(&ends).map(whole).collect();
        split(&text, &offsets, |token| self.separators.contains(&ids[token]))
    }

    /// The text of a passage of tokens, without white space around it.
    pub(super) fn trimmed(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.bytes_of(id)).copied().collect();
        text(&bytes).trim().to_owned()
    }

    fn bytes_of(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], Vec::as_slice)
    }
}

/// The text of bytes; of what is not UTF-8, because it was cut, every byte is a question mark.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Location, Passage, Record, Source, TrainerOptions};

    /// The passages of a document, by its tokens and by its text.
    fn passages(document: &str) -> [Vec<Range<usize>>; 2] {
        let tokenizer = Tokenizer::train([Ok(document)], &TrainerOptions::new(320)).unwrap();
        let record = serde_json::json!({"document": document}).to_string();
        let record = Record::from_json(&record, Location::line("in.jsonl", 1)).unwrap();
        let source = Source::with_passages(&record, Some(&tokenizer), None).unwrap();
        let by_text =
            source.passages.unwrap().into_iter().map(|Passage { tokens, .. }| tokens.start - 1..tokens.end - 1);
        let ids = &source.input_ids[1..source.input_ids.len() - 1];
        [TokenText::new(&tokenizer).unwrap().passages(ids), by_text.collect()]
    }

    #[test]
    fn passages_of_tokens_are_those_of_their_text() {
        let hard = "Results\n\nDr. Smith measured (Fig. 2) what 😀 mice do et al. in 3.5 houses: Grüße! Why? \
             Nobody of all those who were asked there knew it. 鼠标在房子里。没有人知道这件事。\n\n\nA last one, without an end";
        let endless = format!("{hard} {} the rest.", "and so on ".repeat(100));
        let spelled = format!("{hard}</s>{hard} <mask> and <s>{hard}");
        for (document, least) in [(endless.as_str(), 5), (&spelled, 9), (&"\n".repeat(400), 0), (" \n ", 0)] {
            let [by_tokens, by_text] = passages(document);
            assert!(by_text.len() >= least, "{by_text:?}");
            assert_eq!(by_tokens, by_text);
        }
    }

    #[test]
    fn a_character_that_was_cut_is_question_marks() {
        assert_eq!(text(&"a😀b".as_bytes()[..3]), "a??");
        assert_eq!(text(&"a😀b".as_bytes()[2..]), "???b");
        assert_eq!(text(b"a\xffb\xc3"), "a?b?");
    }
}
