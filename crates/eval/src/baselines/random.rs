//! Sentences drawn at random: what length alone is worth.

use super::take_words;
use epitome_sentences::sentences;
use rouge::resampling::SplitMix64;

/// Whole sentences of `document`, drawn without replacement until they have at least `words` words, in document order.
///
/// The draw follows from `seed`, `record` and the number of sentences.
pub(super) fn random(document: &str, words: usize, seed: u64, record: u64) -> String {
    let sentences = sentences(document);
    // Mixed one after the other: a symmetric mixture would give seed 1, record 2 the order of seed 2, record 1.
    let stream = SplitMix64::output(SplitMix64::output(seed) ^ record);
    let mut order: Vec<usize> = (0..sentences.len()).collect();
    order.sort_by_key(|&index| SplitMix64::output(stream ^ index as u64));
    take_words(&sentences, order, words)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::random;

    fn document() -> String {
        (0..50).map(|index| format!("Sentence {index} here.\n")).collect()
    }

    fn numbers(summary: &str) -> Vec<usize> {
        let numbers = summary.lines().filter_map(|line| line.split(' ').nth(1)?.parse().ok());
        numbers.collect()
    }

    #[test]
    fn seed_and_record_decide() {
        let drawn: HashSet<String> =
            [(0, 0), (0, 1), (1, 0), (1, 2), (2, 1)].map(|(seed, record)| random(&document(), 30, seed, record)).into();
        assert_eq!(drawn.len(), 5);
        assert_eq!(random(&document(), 30, 1, 2), random(&document(), 30, 1, 2));
    }

    #[test]
    fn draws_stay_what_they_were() {
        assert_eq!(numbers(&random(&document(), 20, 42, 7)), [4, 7, 8, 26, 27, 41, 49]);
    }

    #[test]
    fn whole_sentences_once_and_in_order() {
        let found = numbers(&random(&document(), 31, 4, 4));
        assert_eq!(found.len(), 11);
        assert!(found.is_sorted_by(|left, right| left < right), "{found:?}");
        assert_eq!(numbers(&random(&document(), 1000, 4, 4)), (0..50).collect::<Vec<_>>());
        assert_eq!(random(&document(), 0, 4, 4), "");
    }

    #[test]
    fn every_sentence_is_as_likely_as_the_others() {
        let mut counts = [0; 50];
        for record in 0..5000 {
            for index in numbers(&random(&document(), 3, 7, record)) {
                counts[index] += 1;
            }
        }
        assert_eq!(counts.iter().sum::<i32>(), 5000);
        // 100 expected, with a standard deviation of 10.
        assert!(counts.iter().all(|count| (55..150).contains(count)), "{counts:?}");
    }
}
