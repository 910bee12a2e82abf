//! The best that sentences of the document can do, or nearly so: the greedy extractive oracle.

use rouge::{Options, Selection, Vocabulary, select};

use super::in_document_order;
use epitome_sentences::sentences;

/// The sentences that a greedy search finds to match the reference best ([`rouge::select`]), in document order. With several
/// references, each gets a search of its own and the best result is taken.
pub(super) fn oracle<S: AsRef<str>>(document: &str, references: &[S], options: &Options) -> String {
    let sentences = sentences(document);
    let mut vocabulary = Vocabulary::new(options);
    let tokens: Vec<Vec<u32>> = sentences.iter().map(|sentence| vocabulary.tokens(sentence)).collect();
    let mut best = Selection::default();
    for reference in references {
        let found = select(&vocabulary.tokens(reference.as_ref()), &tokens, usize::MAX);
        if found.score > best.score {
            best = found;
        }
    }
    in_document_order(&sentences, best.taken)
}

#[cfg(test)]
mod tests {
    use rouge::{Metric, score_metrics};

    use super::*;

    const PLAIN: Options = Options { stemmer: false };

    fn score(reference: &str, summary: &str, options: &Options) -> f64 {
        let found = score_metrics(&[reference], summary, &[Metric::N(1), Metric::N(2)], options);
        (found[0].f1 + found[1].f1) / 2.0
    }

    /// The same search with a full ROUGE for every candidate.
    fn slow_search(document: &str, reference: &str, options: &Options) -> (f64, String) {
        let sentences = sentences(document);
        let mut best = (0.0, String::new());
        let mut taken = Vec::new();
        loop {
            let mut next = None;
            for index in (0..sentences.len()).filter(|index| !taken.contains(index)) {
                let summary = in_document_order(&sentences, [&taken[..], &[index]].concat());
                let score = score(reference, &summary, options);
                if score > best.0 {
                    best = (score, summary);
                    next = Some(index);
                }
            }
            match next {
                Some(index) => taken.push(index),
                None => return best,
            }
        }
    }

    /// Sentences of few different words, so that words repeat within and across them.
    fn text(sentences: usize, state: &mut u64) -> String {
        let mut below = |bound: u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 33) % bound
        };
        let mut text = String::new();
        for _ in 0..sentences {
            for _ in 0..below(7) {
                text += ["run", "running", "cats", "cat", "the", "dog", "é", "sat", "mat"][below(9) as usize];
                text.push(' ');
            }
            text += "end.\n";
        }
        text
    }

    #[test]
    fn equals_the_search_with_full_rouge() {
        let mut state = 1;
        for round in 0..200 {
            let document = text(12, &mut state);
            let references = [text(3, &mut state), text(1 + round % 5, &mut state)];
            let options = Options { stemmer: round % 2 == 0 };
            let searches = references.each_ref().map(|reference| slow_search(&document, reference, &options));
            let expected = if searches[1].0 > searches[0].0 { &searches[1].1 } else { &searches[0].1 };
            assert_eq!(&oracle(&document, &references, &options), expected, "round {round}");
        }
    }

    #[test]
    fn finds_the_reference_among_other_sentences() {
        let document = "Rain fell. The cat sat on the mat. Nobody came. The dog ran home. The cat ran.";
        let found = oracle(document, &["The cat sat on the mat and the dog ran home"], &PLAIN);
        assert_eq!(found, "The cat sat on the mat.\nThe dog ran home.");
    }

    #[test]
    fn stems_are_compared_when_told() {
        let document = "Dogs barked. A cat sat.";
        assert_eq!(oracle(document, &["dog barking"], &PLAIN), "");
        assert_eq!(oracle(document, &["dog barking"], &Options { stemmer: true }), "Dogs barked.");
    }

    #[test]
    fn nothing_in_common() {
        assert_eq!(oracle("A b. C d.", &["x y", ""], &PLAIN), "");
    }
}
