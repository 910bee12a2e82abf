//! [`Passage`]: the parts of documents that what is written about them can be traced to.

use std::collections::HashSet;
use std::hash::Hash;
use std::ops::Range;

use epitome_sentences::sentence_ranges;
use serde::{Deserialize, Serialize};

/// Tokens below which a passage does not end with a sentence, so that a heading stands with what follows it.
const LEAST_TOKENS: usize = 16;

/// Tokens from which on a passage ends between two words, in a sentence without end such as a table.
const MOST_TOKENS: usize = 128;

/// A part of a document: a sentence; a few where they are short, and a part of one that is very long.
///
/// It ends with the first sentence (see [`sentence_ranges`]) with which it has 16 tokens, or between words once it has 128;
/// before a `<doc-sep>` or `</s>` inside a text, which belong to no passage, and at the document's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// Which of several documents of a record, counted from 0; nothing where there is one.
    pub document: Option<usize>,
    /// Where the text lies in the document, in Unicode scalar values.
    pub characters: Range<usize>,
    /// The text, without white space around it.
    pub text: String,
    /// Positions of its tokens in the encoder's input.
    pub tokens: Range<usize>,
}

impl Passage {
    /// The passages of a document whose tokens stand for the bytes `offsets` of `text` and begin at position `start` of the
    /// encoder's input.
    pub(crate) fn of_document(
        document: Option<usize>,
        text: &str,
        offsets: &[Range<usize>],
        start: usize,
        is_separator: impl Fn(usize) -> bool,
    ) -> Vec<Self> {
        let mut counted = (0, 0);
        let mut passages = Vec::new();
        for tokens in split(text, offsets, is_separator) {
            let bytes = trimmed(text, bytes_of(offsets, &tokens));
            let first = counted.1 + text[counted.0..bytes.start].chars().count();
            let characters = first..first + text[bytes.clone()].chars().count();
            counted = (bytes.end, characters.end);
            let text = text[bytes].to_owned();
            passages.push(Self { document, characters, text, tokens: start + tokens.start..start + tokens.end });
        }
        passages
    }
}

/// The tokens of each passage of `text`, whose tokens stand for the bytes `offsets`.
pub(crate) fn split(text: &str, offsets: &[Range<usize>], is_separator: impl Fn(usize) -> bool) -> Vec<Range<usize>> {
    let ends: Vec<usize> = sentence_ranges(text).iter().map(|range| range.end).collect();
    // White space belongs to the sentence behind it, or to the last one.
    let sentence = |token: usize| ends.partition_point(|&end| end < offsets[token].end).min(ends.len() - 1);
    let ends_after = |token: usize, length: usize| {
        let ends_sentence = || !ends.is_empty() && sentence(token) != sentence(token + 1);
        is_between_words(text, offsets[token].end, offsets[token + 1].start)
            && (length >= MOST_TOKENS || length >= LEAST_TOKENS && ends_sentence())
    };
    let mut passages = Vec::new();
    let mut start = 0;
    for token in 0..offsets.len() {
        let next = token + 1;
        if is_separator(token) {
            start = next;
        } else if next == offsets.len() || is_separator(next) || ends_after(token, next - start) {
            passages.push(start..next);
            start = next;
        }
    }
    passages.retain(|tokens| !trimmed(text, bytes_of(offsets, tokens)).is_empty());
    passages
}

/// Of passages, each with its text without white space around it, the first of all that have the same: to a reader they are
/// one, although the tokens of the first in a document and of one behind a space differ.
pub(crate) fn different<T: Eq + Hash>(passages: impl Iterator<Item = (T, Range<usize>)>) -> Vec<Range<usize>> {
    let mut seen = HashSet::new();
    passages.filter_map(|(text, tokens)| seen.insert(text).then_some(tokens)).collect()
}

fn bytes_of(offsets: &[Range<usize>], tokens: &Range<usize>) -> Range<usize> {
    offsets[tokens.start].start..offsets[tokens.end - 1].end
}

/// Whether a token that ends at the byte `end` and one that begins at `next` are not of one word or character, nor the second
/// a mark that belongs to the first.
fn is_between_words(text: &str, end: usize, next: usize) -> bool {
    let before = text[..end].chars().next_back();
    let after = text[end..].chars().next();
    let joins = before.is_some_and(char::is_alphanumeric) && after.is_some_and(|mark| !mark.is_whitespace());
    end <= next && !joins
}

/// A range of bytes without the white space around its text.
fn trimmed(text: &str, bytes: Range<usize>) -> Range<usize> {
    let whole = &text[bytes.clone()];
    let start = bytes.start + whole.len() - whole.trim_start().len();
    start..start + whole.trim().len()
}
