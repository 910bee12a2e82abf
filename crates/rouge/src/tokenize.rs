//! Text to words, and words to small integers.

use std::collections::HashMap;
use std::ops::Range;

use crate::Options;
use crate::porter;

/// Words of this many letters or fewer are not stemmed.
const UNSTEMMED_LENGTH: usize = 3;

/// The words of `text` as they are compared: lower-cased, and stemmed when the options say so.
///
/// After Unicode lower-casing, a word is a longest run of `a-z` and `0-9`; every other character separates. So a letter
/// with a diacritic splits the word it is in, the Kelvin sign is a `k`, and `İ` is an `i` followed by a separator.
///
/// ```
/// use rouge::{Options, tokenize};
///
/// let stemmed = Options { stemmer: true };
/// assert_eq!(tokenize("Two naïve results: 3.5 \u{212A}!", &stemmed), ["two", "na", "ve", "result", "3", "5", "k"]);
/// ```
pub fn tokenize(text: &str, options: &Options) -> Vec<String> {
    let mut tokens = Vec::new();
    for_each_word(text, |event| {
        if let Event::Word(word, _) = event {
            let mut word = word.to_vec();
            if options.stemmer {
                stem_long(&mut word);
            }
            let token = String::from_utf8(word).expect("words are ASCII letters and digits");
            tokens.push(token);
        }
    });
    tokens
}

/// Calls `visit` with each word of `text` in order, lower-cased but not stemmed, and the bytes of `text` it stands at.
///
/// Both ends of the range are on character boundaries. What a word is says [`tokenize`].
///
/// ```
/// let mut found = Vec::new();
/// rouge::visit_words("\u{C9}t\u{E9} 3 \u{212A}g", |word, bytes| found.push((word.to_owned(), bytes)));
/// assert_eq!(found, [("t".into(), 2..3), ("3".into(), 6..7), ("kg".into(), 8..12)]);
/// ```
pub fn visit_words(text: &str, mut visit: impl FnMut(&str, Range<usize>)) {
    for_each_word(text, |event| {
        if let Event::Word(word, bytes) = event {
            visit(std::str::from_utf8(word).expect("words are ASCII letters and digits"), bytes);
        }
    });
}

fn stem_long(word: &mut Vec<u8>) {
    if word.len() > UNSTEMMED_LENGTH {
        porter::stem(word);
    }
}

/// A tokenized text: its words as numbers from a [`Vocabulary`], and where its lines end.
#[derive(Debug, Default)]
pub(crate) struct Text {
    /// All words in order, line breaks ignored.
    pub(crate) tokens: Vec<u32>,
    /// End of each line that has a word, as an index into `tokens`.
    line_ends: Vec<usize>,
}

impl Text {
    /// The lines that have at least one word.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &[u32]> {
        let starts = std::iter::once(&0).chain(&self.line_ends);
        let ranges = starts.zip(&self.line_ends);
        ranges.map(|(&start, &end)| &self.tokens[start..end])
    }

    fn end_line(&mut self) {
        let end = self.tokens.len();
        if self.line_ends.last().copied().unwrap_or(0) < end {
            self.line_ends.push(end);
        }
    }
}

/// Numbers for words, from 0 in the order of their first occurrence, equal for words that compare equal.
///
/// For those who count matches themselves: [`Vocabulary::tokens`] gives the words of [`tokenize`] as numbers.
///
/// ```
/// use rouge::{Options, Vocabulary};
///
/// let mut vocabulary = Vocabulary::new(&Options { stemmer: true });
/// assert_eq!(vocabulary.tokens("Cats saw cats."), [0, 1, 0]);
/// assert_eq!(vocabulary.tokens("A cat"), [2, 0]);
/// ```
#[derive(Debug, Default)]
pub struct Vocabulary {
    stemmer: bool,
    /// By word as written in lower case, so that each is stemmed once.
    ids: HashMap<Box<[u8]>, u32>,
    /// By stem; unused without the stemmer.
    stems: HashMap<Box<[u8]>, u32>,
    len: usize,
}

impl Vocabulary {
    /// One without words.
    pub fn new(options: &Options) -> Self {
        Self { stemmer: options.stemmer, ..Self::default() }
    }

    /// How many different words there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no words yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The words of `text` in order, line breaks ignored, adding new ones.
    pub fn tokens(&mut self, text: &str) -> Vec<u32> {
        self.read(text).tokens
    }

    /// Tokenizes `text`, adding its new words.
    pub(crate) fn read(&mut self, text: &str) -> Text {
        let mut read = Text::default();
        for_each_word(text, |event| match event {
            Event::Word(word, _) => read.tokens.push(self.id(word)),
            Event::LineBreak => read.end_line(),
        });
        read.end_line();
        read
    }

    fn id(&mut self, word: &[u8]) -> u32 {
        if let Some(&id) = self.ids.get(word) {
            return id;
        }
        let new = u32::try_from(self.len).expect("fewer than 2^32 different words fit in memory");
        let id = if self.stemmer {
            let mut stem = word.to_vec();
            stem_long(&mut stem);
            *self.stems.entry(stem.into_boxed_slice()).or_insert(new)
        } else {
            new
        };
        self.len += usize::from(id == new);
        self.ids.insert(word.into(), id);
        id
    }
}

enum Event<'a> {
    /// A word and the bytes of the text it stands at.
    Word(&'a [u8], Range<usize>),
    LineBreak,
}

/// Calls `visit` with each lower-cased word and each line break, in order.
fn for_each_word(text: &str, mut visit: impl FnMut(Event<'_>)) {
    let mut word = Vec::new();
    let mut bytes = 0..0;
    for (index, letter) in text.char_indices() {
        let (kept, ends_word) = lower_case(letter);
        if kept.is_some() {
            let start = if word.is_empty() { index } else { bytes.start };
            bytes = start..index + letter.len_utf8();
        }
        word.extend(kept);
        if ends_word {
            if !word.is_empty() {
                visit(Event::Word(&word, bytes.clone()));
                word.clear();
            }
            if letter == '\n' {
                visit(Event::LineBreak);
            }
        }
    }
    if !word.is_empty() {
        visit(Event::Word(&word, bytes));
    }
}

/// The letter or digit that `letter` contributes to a word, and whether the word ends there.
///
/// Of all non-ASCII characters only two have ASCII letters in their lower case; a test goes through all of them.
fn lower_case(letter: char) -> (Option<u8>, bool) {
    match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' => (Some((letter as u8).to_ascii_lowercase()), false),
        '\u{212A}' => (Some(b'k'), false),
        // Its lower case is an i and a combining dot.
        '\u{130}' => (Some(b'i'), true),
        _ => (None, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_case_agrees_with_unicode_on_every_character() {
        for letter in char::MIN..=char::MAX {
            let lower: Vec<char> = letter.to_lowercase().collect();
            let word = lower.iter().copied().take_while(char::is_ascii_alphanumeric);
            let kept: Vec<u8> = word.map(|c| c as u8).collect();
            let ends_word = kept.len() < lower.len();
            let found = lower_case(letter);
            assert_eq!((found.0.into_iter().collect::<Vec<u8>>(), found.1), (kept, ends_word), "{letter:?}");
        }
    }

    #[test]
    fn words_are_where_they_stand() {
        let text = "\u{130}\u{130}b \u{FC}Ab9\u{212A}\u{1F600}z";
        let mut found = Vec::new();
        visit_words(text, |word, bytes| found.push((word.to_owned(), &text[bytes])));
        let expected = [("i", "\u{130}"), ("i", "\u{130}"), ("b", "b"), ("ab9k", "Ab9\u{212A}"), ("z", "z")];
        assert_eq!(found, expected.map(|(word, source)| (word.to_owned(), source)));
        assert_eq!(tokenize(text, &Options::default()), expected.map(|(word, _)| word));
    }

    #[test]
    fn lines_without_words_are_dropped() {
        let mut vocabulary = Vocabulary::new(&Options::default());
        let text = vocabulary.read("\n\n a b\n ... \nc a\n");
        assert_eq!(text.lines().collect::<Vec<_>>(), [&[0, 1][..], &[2, 0]]);
        assert_eq!(vocabulary.len(), 3);
    }

    #[test]
    fn equal_stems_share_a_number() {
        let mut vocabulary = Vocabulary::new(&Options { stemmer: true });
        let text = vocabulary.read("running runs run has");
        assert_eq!(text.tokens, [0, 0, 0, 1]);
        assert_eq!(vocabulary.len(), 2);
    }
}
