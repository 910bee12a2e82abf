//! The beginning and the end of the document.

use epitome_sentences::sentences;

use super::take_words;

/// The first whole sentences of `document` that together have at least `words` words, one a line.
pub(crate) fn lead(document: &str, words: usize) -> String {
    let sentences = sentences(document);
    take_words(&sentences, 0..sentences.len(), words)
}

/// The last `words` words of `document`, sentences on lines; the first one may have lost its beginning.
pub(crate) fn tail(document: &str, words: usize) -> String {
    let all: Vec<&str> = document.split_whitespace().collect();
    let kept = all[all.len().saturating_sub(words)..].join(" ");
    sentences(&kept).join("\n")
}

/// The first `count` sentences of `document`, one a line.
pub(super) fn lead_sentences(document: &str, count: usize) -> String {
    let sentences = sentences(document);
    sentences[..count.min(sentences.len())].join("\n")
}

/// The last `count` sentences of `document`, one a line.
pub(super) fn tail_sentences(document: &str, count: usize) -> String {
    let sentences = sentences(document);
    sentences[sentences.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::{lead, lead_sentences, tail, tail_sentences};

    const DOCUMENT: &str = "One two. Three four five.\nSix. Seven eight.";

    #[test]
    fn lead_stops_after_the_sentence_that_is_long_enough() {
        assert_eq!(lead(DOCUMENT, 0), "");
        assert_eq!(lead(DOCUMENT, 2), "One two.");
        assert_eq!(lead(DOCUMENT, 3), "One two.\nThree four five.");
        assert_eq!(lead(DOCUMENT, 100), "One two.\nThree four five.\nSix.\nSeven eight.");
    }

    #[test]
    fn tail_has_as_many_words_as_asked_for() {
        assert_eq!(tail(DOCUMENT, 0), "");
        assert_eq!(tail(DOCUMENT, 4), "five.\nSix.\nSeven eight.");
        assert_eq!(tail(DOCUMENT, 100).split_whitespace().count(), 8);
    }

    #[test]
    fn whole_sentences_from_both_ends() {
        assert_eq!(lead_sentences(DOCUMENT, 2), "One two.\nThree four five.");
        assert_eq!(tail_sentences(DOCUMENT, 2), "Six.\nSeven eight.");
        assert_eq!(lead_sentences(DOCUMENT, 0), "");
        assert_eq!(tail_sentences(DOCUMENT, 0), "");
        assert_eq!(lead_sentences(DOCUMENT, 9), tail_sentences(DOCUMENT, 9));
    }
}
