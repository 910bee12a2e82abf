//! What a summary copies: extractive fragments.

use std::ops::Range;

use serde::Serialize;

use super::document::SourceDocument;

/// Fragments of fewer words are not aligned: single words and pairs stand nearly everywhere.
const SHORTEST_ALIGNED: usize = 3;

/// How many equal parts of the document are told apart.
pub const POSITION_BINS: usize = 20;

/// Words of the summary that stand in the document in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Position of the first word in the summary.
    pub(super) summary: usize,
    /// Position of the first word in the document.
    pub(super) document: usize,
    /// How many words, at least one.
    pub(super) length: usize,
}

/// The extractive fragments of `summary`, in order: M. Grusky, M. Naaman, Y. Artzi, "Newsroom", NAACL 2018, procedure F(A, S).
///
/// From left to right, each fragment is the longest match in the document of the words that follow, of equal ones the
/// first. As in the paper, the search goes on behind every match it has looked at, so that of occurrences that overlap
/// each other only the first counts.
pub(super) fn fragments(document: &SourceDocument, summary: &[u32]) -> Vec<Fragment> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < summary.len() {
        match longest_match(document, &summary[start..]) {
            Some((position, length)) => {
                found.push(Fragment { summary: start, document: position, length });
                start += length;
            }
            None => start += 1,
        }
    }
    found
}

/// Position and length of the match the paper chooses for the first of `words`; `None` where the first word is new.
///
/// Only places where two words match need a look: without one, the first occurrence of the first word is the match.
fn longest_match(document: &SourceDocument, words: &[u32]) -> Option<(usize, usize)> {
    let mut longest = (document.first(words[0])?, 1);
    let mut end = 0;
    for position in document.pair_positions(words) {
        if position < end {
            continue;
        }
        let length = document.match_length(position, words);
        if length > longest.1 {
            longest = (position, length);
        }
        if length == words.len() {
            break;
        }
        end = position + length;
    }
    Some(longest)
}

/// The share of `words` words that lie in fragments (the paper's coverage).
pub(super) fn coverage(fragments: &[Fragment], words: usize) -> f64 {
    let copied: usize = fragments.iter().map(|fragment| fragment.length).sum();
    copied as f64 / words as f64
}

/// The mean over `words` words of the length of the fragment each lies in (its density).
pub(super) fn density(fragments: &[Fragment], words: usize) -> f64 {
    let squares: usize = fragments.iter().map(|fragment| fragment.length * fragment.length).sum();
    squares as f64 / words as f64
}

fn aligned(fragments: &[Fragment]) -> impl Iterator<Item = &Fragment> {
    fragments.iter().filter(|fragment| fragment.length >= SHORTEST_ALIGNED)
}

/// How many copied words stand in each twentieth of a document of `length` words.
///
/// Counts every word of the fragments of three words or more, at its own place: word k, from 0, is in part
/// ⌊20 k / length⌋.
pub(super) fn source_positions(fragments: &[Fragment], length: usize) -> [u64; POSITION_BINS] {
    let mut counts = [0; POSITION_BINS];
    for fragment in aligned(fragments) {
        for position in fragment.document..fragment.document + fragment.length {
            counts[position * POSITION_BINS / length] += 1;
        }
    }
    counts
}

/// A part of a summary and the part of the document it is copied from, as bytes of the two texts.
///
/// Ranges go from the start of the first word to the end of the last one; what stands between words may differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alignment {
    /// Bytes of the summary.
    pub summary: Range<usize>,
    /// Bytes of the document.
    pub document: Range<usize>,
}

impl SourceDocument {
    /// Where `summary` copies at least three words in a row, in the order of the summary.
    ///
    /// These are the longer extractive fragments of Grusky et al. 2018. Of a text that occurs several times in the document
    /// the first place is given. Ranges of the summary do not overlap, those of the document may.
    ///
    /// ```
    /// use epitome_eval::SourceDocument;
    ///
    /// let document = "Caf\u{E9} life. The cat, they say, sat on the mat.";
    /// let summary = "\u{201C}Sat on the mat\u{201D}: cats";
    /// let found = SourceDocument::new(document).alignments(summary);
    /// assert_eq!(found.len(), 1);
    /// assert_eq!(&summary[found[0].summary.clone()], "Sat on the mat");
    /// assert_eq!(&document[found[0].document.clone()], "sat on the mat");
    /// ```
    pub fn alignments(&self, summary: &str) -> Vec<Alignment> {
        let words = self.read(summary);
        let found = fragments(self, &words.numbers);
        let aligned = aligned(&found).map(|fragment| Alignment {
            summary: words.span(fragment.summary..fragment.summary + fragment.length),
            document: self.span(fragment.document..fragment.document + fragment.length),
        });
        aligned.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::characteristics::random::Random;

    fn found(document: &str, summary: &str) -> Vec<(usize, usize, usize)> {
        let document = SourceDocument::new(document);
        let found = fragments(&document, &document.read(summary).numbers);
        found.iter().map(|fragment| (fragment.summary, fragment.document, fragment.length)).collect()
    }

    /// The procedure of the paper, step by step.
    fn by_the_paper(document: &[u32], summary: &[u32]) -> Vec<Fragment> {
        let mut fragments = Vec::new();
        let (mut i, mut j) = (0, 0);
        while i < summary.len() {
            let mut longest = Fragment { summary: i, document: 0, length: 0 };
            while j < document.len() {
                if summary[i] == document[j] {
                    let (mut i_end, mut j_end) = (i, j);
                    while i_end < summary.len() && j_end < document.len() && summary[i_end] == document[j_end] {
                        (i_end, j_end) = (i_end + 1, j_end + 1);
                    }
                    if longest.length < i_end - i {
                        longest = Fragment { summary: i, document: j, length: i_end - i };
                    }
                    j = j_end;
                } else {
                    j += 1;
                }
            }
            (i, j) = (i + longest.length.max(1), 0);
            if longest.length > 0 {
                fragments.push(longest);
            }
        }
        fragments
    }

    #[test]
    fn by_hand() {
        assert_eq!(found("a b c d b c e", "b c e x a q c"), [(0, 4, 3), (4, 0, 1), (6, 2, 1)]);
        assert_eq!(found("a b a b", "a b"), [(0, 0, 2)], "the first of equal ones");
        assert_eq!(found("a a a b", "a a b"), [(0, 0, 2), (2, 3, 1)], "the overlapping longer match is passed over");
        assert_eq!(found("", "a b"), []);
        assert_eq!(found("a b", ""), []);
        assert_eq!(found("a b c", "a b c"), [(0, 0, 3)]);
        assert_eq!(found("b", "a b c b"), [(1, 0, 1), (3, 0, 1)], "longer than the document");
    }

    #[test]
    fn equal_to_the_paper_on_random_texts() {
        let mut random = Random(1);
        for round in 0..3000 {
            let letters = 1 + round % 5;
            let document = random.text(60, letters);
            let summary = random.text(30, letters + round % 2);
            let source = SourceDocument::new(&document);
            let words = source.read(&summary).numbers;
            let expected = by_the_paper(&source.read(&document).numbers, &words);
            assert_eq!(fragments(&source, &words), expected, "{summary:?} in {document:?}");
        }
    }

    #[test]
    fn coverage_and_density_by_hand() {
        let document = SourceDocument::new("a b c d b c e");
        let found = fragments(&document, &document.read("b c e x a").numbers);
        assert_eq!(coverage(&found, 5), 4.0 / 5.0);
        assert_eq!(density(&found, 5), (9.0 + 1.0) / 5.0);
    }

    #[test]
    fn copied_words_are_counted_where_they_stand() {
        let letters: Vec<String> = (0..40).map(|number| format!("w{number}")).collect();
        let document = SourceDocument::new(&letters.join(" "));
        let summary = document.read("w1 w2 w3 new w38 w39 new w20 w21 w22 w23").numbers;
        let counts = source_positions(&fragments(&document, &summary), 40);
        let expected: [u64; 20] = std::array::from_fn(|bin| match bin {
            0 => 1,
            1 | 10 | 11 => 2,
            _ => 0,
        });
        assert_eq!(counts, expected, "two words in a row are too few");
    }

    #[test]
    fn alignments_of_unicode_texts_are_the_same_words() {
        let mut random = Random(2);
        for _ in 0..300 {
            let marks = ["\u{E9}", " ", "\u{1F600} ", "\n", "\u{130} ", " \u{212A} ", "A"];
            let mut text = |words: u64| -> String {
                let words = (0..words).map(|_| format!("{}{}", random.text(2, 3), marks[random.below(7) as usize]));
                words.collect()
            };
            let (document, summary) = (text(40), text(15));
            let source = SourceDocument::new(&document);
            let words = |text: &str| rouge::tokenize(text, &rouge::Options::default());
            for Alignment { summary: copied, document: from } in source.alignments(&summary) {
                assert_eq!(words(&summary[copied.clone()]), words(&document[from]));
                assert!(words(&summary[copied]).len() >= SHORTEST_ALIGNED);
            }
        }
    }
}
