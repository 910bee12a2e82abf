//! New and repeated n-grams.

use std::collections::HashSet;

use super::document::SourceDocument;

/// N-grams are counted for n from 1 to this.
pub const LONGEST_NGRAM: usize = 4;

/// By n, the share of the n-grams of `words` that the document does not have; `None` where there is no n-gram.
///
/// Every occurrence counts. The share of new words is 1 - coverage.
pub(super) fn novel(document: &SourceDocument, words: &[u32]) -> [Option<f64>; LONGEST_NGRAM] {
    let mut new = [0; LONGEST_NGRAM];
    for start in 0..words.len() {
        let following = &words[start..words.len().min(start + LONGEST_NGRAM)];
        let known = longest_known(document, following);
        for count in &mut new[known..following.len()] {
            *count += 1;
        }
    }
    std::array::from_fn(|index| share(new[index], words.len().saturating_sub(index)))
}

/// How many of the first of `words` stand together somewhere in the document.
fn longest_known(document: &SourceDocument, words: &[u32]) -> usize {
    if document.first(words[0]).is_none() {
        return 0;
    }
    let mut longest = 1;
    for position in document.pair_positions(words) {
        longest = longest.max(document.match_length(position, words));
        if longest == words.len() {
            break;
        }
    }
    longest
}

/// By n, the share of n-grams of `words` that stand there before; `None` where there is no n-gram.
pub(super) fn repeated(words: &[u32]) -> [Option<f64>; LONGEST_NGRAM] {
    std::array::from_fn(|index| {
        let ngrams = words.windows(index + 1);
        let different: HashSet<&[u32]> = ngrams.clone().collect();
        share(ngrams.len() - different.len(), ngrams.len())
    })
}

/// `part` of `whole`; `None` of nothing.
pub(super) fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::characteristics::random::Random;

    #[test]
    fn by_hand() {
        let document = SourceDocument::new("a b c a d");
        let words = document.read("a b a d x").numbers;
        assert_eq!(novel(&document, &words), [Some(0.2), Some(0.5), Some(1.0), Some(1.0)]);
        let words = document.read("a b a b a").numbers;
        assert_eq!(repeated(&words), [Some(3.0 / 5.0), Some(2.0 / 4.0), Some(1.0 / 3.0), Some(0.0)]);
    }

    #[test]
    fn texts_without_ngrams_have_no_share() {
        let document = SourceDocument::new("a b");
        assert_eq!(novel(&document, &[]), [None; 4]);
        assert_eq!(repeated(&[]), [None; 4]);
        assert_eq!(novel(&document, &[0, 1]), [Some(0.0), Some(0.0), None, None]);
        assert_eq!(novel(&SourceDocument::new(""), &[0, 1])[0], Some(1.0));
        assert_eq!(repeated(&[7]), [Some(0.0), None, None, None]);
    }

    #[test]
    fn equal_to_lists_of_ngrams_on_random_texts() {
        let mut random = Random(3);
        for round in 0..1000 {
            let letters = 1 + round % 5;
            let document = random.text(40, letters);
            let source = SourceDocument::new(&document);
            let words = source.read(&random.text(20, letters + round % 2)).numbers;
            let numbers = source.read(&document).numbers;
            for n in 1..=LONGEST_NGRAM {
                let ngrams: Vec<&[u32]> = words.windows(n).collect();
                let new = ngrams.iter().filter(|&&ngram| !numbers.windows(n).any(|other| other == ngram)).count();
                let again = (0..ngrams.len()).filter(|&index| ngrams[..index].contains(&ngrams[index])).count();
                let share = |count: usize| Some(count as f64 / ngrams.len() as f64).filter(|_| !ngrams.is_empty());
                assert_eq!(novel(&source, &words)[n - 1], share(new));
                assert_eq!(repeated(&words)[n - 1], share(again));
            }
        }
    }
}
