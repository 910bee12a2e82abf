//! Clipped n-gram matches by sorting both sides.

use crate::Score;

/// ROUGE-N of two token sequences. With `n` = 0 there is nothing to match and the score is 0.
pub(crate) fn score(reference: &[u32], prediction: &[u32], n: usize) -> Score {
    if n == 0 {
        return Score::default();
    }
    let matches = match n {
        1 => clipped_matches(reference.to_vec(), prediction.to_vec()),
        2 => clipped_matches(bigrams(reference), bigrams(prediction)),
        _ => clipped_matches(reference.windows(n).collect(), prediction.windows(n).collect()),
    };
    let count = |tokens: &[u32]| (tokens.len() + 1).saturating_sub(n);
    Score::from_matches(matches, count(reference), count(prediction))
}

fn bigrams(tokens: &[u32]) -> Vec<u64> {
    let pairs = tokens.windows(2);
    pairs.map(|pair| (u64::from(pair[0]) << 32) | u64::from(pair[1])).collect()
}

/// The sum over all different items of the smaller of their two counts.
fn clipped_matches<T: Ord>(mut left: Vec<T>, mut right: Vec<T>) -> usize {
    left.sort_unstable();
    right.sort_unstable();
    let (mut i, mut j, mut matches) = (0, 0, 0);
    while i < left.len() && j < right.len() {
        match left[i].cmp(&right[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                matches += 1;
                i += 1;
                j += 1;
            }
        }
    }
    matches
}

#[cfg(test)]
mod tests {
    use super::score;

    #[test]
    fn counts_are_clipped() {
        // "a" is matched once although the prediction holds it three times.
        let found = score(&[0, 1], &[0, 0, 0], 1);
        assert_eq!((found.precision, found.recall), (1.0 / 3.0, 0.5));
    }

    #[test]
    fn every_n_agrees_with_counting() {
        let reference = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 1, 4, 1, 5];
        let prediction = [1, 4, 1, 5, 3, 5, 8, 9, 7, 9, 3, 1, 4, 1, 4, 1];
        for n in 1..20 {
            let grams = |tokens: &[u32]| -> Vec<Vec<u32>> { tokens.windows(n).map(<[u32]>::to_vec).collect() };
            let mut left = grams(&prediction);
            let mut matches = 0;
            for gram in grams(&reference) {
                if let Some(at) = left.iter().position(|other| *other == gram) {
                    left.swap_remove(at);
                    matches += 1;
                }
            }
            let total = grams(&reference).len().max(1) as f64;
            let recall = score(&reference, &prediction, n).recall;
            assert_eq!(recall, f64::from(matches) / total, "n = {n}");
        }
    }
}
