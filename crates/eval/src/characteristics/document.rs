//! A document prepared for looking up the words of summaries.

use std::collections::HashMap;
use std::ops::Range;

/// The words of a text as numbers, and the bytes of the text each one stands at.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    pub(super) numbers: Vec<u32>,
    pub(super) spans: Vec<Range<usize>>,
}

/// A document and where its words and pairs of words occur. Made once, it serves every summary of the document.
///
/// Words are those ROUGE compares, without stemming ([`rouge::visit_words`]): lower-cased runs of `a-z` and `0-9`, all
/// punctuation and line breaks ignored. About 28 bytes a word, and the different words themselves.
#[derive(Clone, Debug)]
pub struct SourceDocument {
    /// Different words, numbered in the order of their first occurrence.
    vocabulary: HashMap<Box<str>, u32>,
    /// By word number, the position of its first occurrence.
    first: Vec<u32>,
    /// All positions that have a successor, sorted by the pair of words that starts there, then by position.
    pairs: Vec<u32>,
    words: Words,
}

impl SourceDocument {
    /// Of `text`, in O(n log n) for n words.
    pub fn new(text: &str) -> Self {
        let mut document =
            Self { vocabulary: HashMap::new(), first: Vec::new(), pairs: Vec::new(), words: Words::default() };
        document.words = read(text, |word, position| match document.vocabulary.get(word) {
            Some(&number) => number,
            None => {
                let number = count(document.first.len());
                document.vocabulary.insert(word.into(), number);
                document.first.push(count(position));
                number
            }
        });
        document.pairs = (0..count(document.words.numbers.len().saturating_sub(1))).collect();
        let numbers = &document.words.numbers;
        document.pairs.sort_unstable_by_key(|&position| (pair(numbers, position), position));
        document
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.words.numbers.len()
    }

    /// Whether there is no word.
    pub fn is_empty(&self) -> bool {
        self.words.numbers.is_empty()
    }

    /// The words of another text in the numbers of this document; words that are not in it have numbers of their own.
    pub(super) fn read(&self, text: &str) -> Words {
        let mut others: HashMap<Box<str>, u32> = HashMap::new();
        read(text, |word, _| match self.vocabulary.get(word).or_else(|| others.get(word)) {
            Some(&number) => number,
            None => {
                let number = count(self.vocabulary.len() + others.len());
                others.insert(word.into(), number);
                number
            }
        })
    }

    /// The bytes of the document that the words `range` stand at, from the first one to the last one.
    pub(super) fn span(&self, range: Range<usize>) -> Range<usize> {
        self.words.span(range)
    }

    /// Position of the first occurrence of a word.
    pub(super) fn first(&self, word: u32) -> Option<usize> {
        self.first.get(word as usize).map(|&position| position as usize)
    }

    /// All positions where the first two of `words` stand, in ascending order; none for a single word.
    pub(super) fn pair_positions(&self, words: &[u32]) -> impl Iterator<Item = usize> {
        let found = words.first_chunk().map_or(&[][..], |&[first, second]| {
            let of = |position: u32| pair(&self.words.numbers, position);
            let start = self.pairs.partition_point(|&position| of(position) < (first, second));
            let found = &self.pairs[start..];
            &found[..found.partition_point(|&position| of(position) == (first, second))]
        });
        found.iter().map(|&position| position as usize)
    }

    /// How many of the first of `words` stand at `position` in the same order.
    pub(super) fn match_length(&self, position: usize, words: &[u32]) -> usize {
        let document = &self.words.numbers[position..];
        document.iter().zip(words).take_while(|(own, other)| own == other).count()
    }
}

impl Words {
    /// The bytes of the text that the words `range`, at least one, stand at, from the first one to the last one.
    pub(super) fn span(&self, range: Range<usize>) -> Range<usize> {
        self.spans[range.start].start..self.spans[range.end - 1].end
    }
}

/// The words of `text`, each with the number that `number` gives it from itself and its position.
fn read(text: &str, mut number: impl FnMut(&str, usize) -> u32) -> Words {
    let mut words = Words::default();
    rouge::visit_words(text, |word, bytes| {
        words.numbers.push(number(word, words.spans.len()));
        words.spans.push(bytes);
    });
    words
}

fn pair(numbers: &[u32], position: u32) -> (u32, u32) {
    (numbers[position as usize], numbers[position as usize + 1])
}

fn count(words: usize) -> u32 {
    u32::try_from(words).expect("a document has fewer than 2^32 words")
}

#[cfg(test)]
mod tests {
    use super::SourceDocument;

    #[test]
    fn words_of_other_texts_share_numbers_with_the_document() {
        let document = SourceDocument::new("A b, a b. C");
        assert_eq!(document.words.numbers, [0, 1, 0, 1, 2]);
        assert_eq!(document.read("x b y X c").numbers, [3, 1, 4, 3, 2]);
        assert_eq!((document.first(1), document.first(3)), (Some(1), None));
        assert_eq!((document.len(), document.is_empty()), (5, false));
    }

    #[test]
    fn pairs_are_found_in_order() {
        let document = SourceDocument::new("a b a b c a");
        let positions = |words: &[u32]| document.pair_positions(words).collect::<Vec<_>>();
        assert_eq!(positions(&[0, 1, 2]), [0, 2]);
        assert_eq!(positions(&[1, 2]), [3]);
        assert_eq!(positions(&[2, 2]), [0; 0]);
        assert_eq!(positions(&[0]), [0; 0]);
        assert_eq!(document.match_length(2, &[0, 1, 2, 2]), 3);
        assert_eq!(document.match_length(5, &[0, 1]), 1);
        assert!(SourceDocument::new("").pair_positions(&[0, 1]).next().is_none());
    }

    #[test]
    fn spans_are_bytes_on_character_boundaries() {
        let text = "\u{C9}t\u{E9}: 3 \u{212A}g";
        let document = SourceDocument::new(text);
        assert_eq!(&text[document.span(0..3)], "t\u{E9}: 3 \u{212A}g");
        assert_eq!(&text[document.span(2..3)], "\u{212A}g");
    }
}
