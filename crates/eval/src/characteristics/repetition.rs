//! Sentences said again, and loops.

use std::collections::HashSet;

use super::ngrams::share;
use epitome_sentences::sentences;

/// Sequences of more words are not looked for; a longer loop shows in the repeated n-grams.
const LONGEST_UNIT: usize = 64;

/// How often in a row a sequence stands in a loop.
const LEAST_TIMES: usize = 3;

/// How many words a loop has at least: "very, very, very" is none.
const LEAST_WORDS: usize = 10;

/// The share of the sentences of `text` ([`sentences`]) that have the same words as an earlier one; `None` without any.
///
/// Sentences without a word do not count.
pub(super) fn repeated_sentences(text: &str) -> Option<f64> {
    let words = |sentence| rouge::tokenize(sentence, &rouge::Options::default());
    let all: Vec<Vec<String>> = sentences(text).into_iter().map(words).filter(|words| !words.is_empty()).collect();
    let different: HashSet<&Vec<String>> = all.iter().collect();
    share(all.len() - different.len(), all.len())
}

/// Whether `words` has a loop: one to 64 words that stand at least three times in a row, in at least ten words.
///
/// The last time may be cut short, so that a single word needs ten times, a pair five, three words three and a third.
pub(super) fn has_loop(words: &[u32]) -> bool {
    (1..=LONGEST_UNIT).any(|unit| longest_stretch(words, unit) >= LEAST_WORDS.max(LEAST_TIMES * unit))
}

/// The greatest number of words in a row of which each, after the first `unit`, is the one `unit` before it.
fn longest_stretch(words: &[u32], unit: usize) -> usize {
    let mut length = unit;
    let mut longest = 0;
    for (word, earlier) in words.iter().skip(unit).zip(words) {
        length = if word == earlier { length + 1 } else { unit };
        longest = longest.max(length);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::characteristics::random::Random;

    #[test]
    fn sentences_by_hand() {
        assert_eq!(repeated_sentences("A cat sat. It ran.\nA CAT, sat! It ran. - . It did not."), Some(2.0 / 5.0));
        assert_eq!(repeated_sentences("..."), None);
        assert_eq!(repeated_sentences(""), None);
    }

    fn numbers(unit: u32, length: usize) -> Vec<u32> {
        (0..unit).cycle().take(length).collect()
    }

    #[test]
    fn loops_by_hand() {
        assert!(has_loop(&[0; 10]) && !has_loop(&[0; 9]));
        assert!(has_loop(&numbers(2, 10)) && !has_loop(&numbers(2, 9)));
        assert!(has_loop(&numbers(3, 10)) && !has_loop(&numbers(3, 9)));
        assert!(has_loop(&numbers(4, 12)) && !has_loop(&numbers(4, 11)));
        assert!(has_loop(&numbers(64, 192)) && !has_loop(&numbers(64, 191)) && !has_loop(&numbers(65, 1000)));
        assert!(!has_loop(&[]) && !has_loop(&[0]));
        let inside = [numbers(100, 100), numbers(5, 15), numbers(100, 100)].concat();
        assert!(has_loop(&inside));
    }

    #[test]
    fn loops_of_random_texts() {
        let naive = |words: &[u32]| {
            (0..words.len()).any(|start| {
                (1..=LONGEST_UNIT).any(|unit| {
                    let length = LEAST_WORDS.max(LEAST_TIMES * unit);
                    let stretch = words.get(start..start + length);
                    stretch.is_some_and(|stretch| (unit..length).all(|k| stretch[k] == stretch[k - unit]))
                })
            })
        };
        let mut random = Random(4);
        let mut loops = 0;
        for _ in 0..3000 {
            let words: Vec<u32> = (0..40).map(|_| u32::from(random.below(4) == 0)).collect();
            assert_eq!(has_loop(&words), naive(&words), "{words:?}");
            loops += usize::from(has_loop(&words));
        }
        assert!((100..2900).contains(&loops), "{loops} tell little");
    }
}
