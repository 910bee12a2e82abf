//! Summaries that need no model: the beginning and the end of the document.

use epitome_sentences::sentences;

/// The first whole sentences of `document` that together have at least `words` words, one a line.
pub(crate) fn lead(document: &str, words: usize) -> String {
    let mut kept = Vec::new();
    let mut count = 0;
    for sentence in sentences(document) {
        if count >= words {
            break;
        }
        count += sentence.split_whitespace().count();
        kept.push(sentence);
    }
    kept.join("\n")
}

/// The last `words` words of `document`, sentences on lines; the first one may have lost its beginning.
pub(crate) fn tail(document: &str, words: usize) -> String {
    let all: Vec<&str> = document.split_whitespace().collect();
    let kept = all[all.len().saturating_sub(words)..].join(" ");
    sentences(&kept).join("\n")
}

#[cfg(test)]
mod tests {
    use super::{lead, tail};

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
}
