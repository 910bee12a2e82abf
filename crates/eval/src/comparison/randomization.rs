//! Approximate randomization: how often would systems that are exchangeable differ as much?
//!
//! Exchanging the scores of two systems on a record flips the sign of their difference. The sum of the differences d under
//! random signs s is the difference of two sums, `sum s (a - b) = sum s a - sum s b`, so signed sums are made once a system
//! and serve all of its pairs. They are integers: a difference of two large sums loses nothing, and the order of additions
//! does not matter.

use rayon::prelude::*;
use rouge::resampling::SplitMix64;

/// Randomizations that share tables of sums; their sums and generators stay in the fastest cache.
const BATCH: usize = 1024;
/// Records to a random word.
const WORD: usize = u64::BITS as usize;
/// Records to a table: a byte of signs selects a sum.
const BYTE: usize = 8;

/// What the integer 1 stands for: 2^-40 of the largest score (of 1, if all are smaller), more where sums of more than
/// 2^21 records could overflow.
pub(super) fn unit(columns: &[&[f64]]) -> f64 {
    let largest = columns.iter().flat_map(|column| *column).fold(1.0, |largest: f64, score| largest.max(score.abs()));
    let records = columns[0].len().next_power_of_two().ilog2() as i32;
    let bits = 40.min(61 - records);
    2f64.powi(largest.log2().ceil() as i32 - bits)
}

/// The sum of one system's scores, and its sums under random signs, in units.
pub(super) struct SignedSums {
    sum: i64,
    randomized: Vec<i64>,
}

impl SignedSums {
    /// In randomization r, bit i % 64 of word i / 64 of stream r gives record i its sign.
    pub(super) fn new(scores: &[f64], unit: f64, randomizations: usize, seed: u64) -> Self {
        let scores: Vec<i64> = scores.iter().map(|score| (score / unit).round() as i64).collect();
        let mut randomized = vec![0; randomizations];
        randomized.par_chunks_mut(BATCH).enumerate().for_each(|(batch, sums)| {
            let stream = |index| SplitMix64::for_stream(seed, (batch * BATCH + index) as u64);
            let mut random: Vec<SplitMix64> = (0..sums.len()).map(stream).collect();
            for records in scores.chunks(WORD) {
                let tables = tables(records);
                for (sum, random) in sums.iter_mut().zip(&mut random) {
                    let signs = random.next_u64().to_le_bytes();
                    *sum += tables.iter().zip(signs).map(|(table, signs)| table[usize::from(signs)]).sum::<i64>();
                }
            }
        });
        Self { sum: scores.iter().sum(), randomized }
    }

    /// The two-sided p-value of the difference to `other`: (r + 1) / (R + 1), where r of R randomizations differ at least
    /// as much, in absolute value, as the systems do.
    ///
    /// Sums that could be equal but for rounding count as equal, which is 2 units a record.
    pub(super) fn p_value(&self, other: &Self, records: usize) -> f64 {
        let least = (self.sum - other.sum).abs() - 2 * records as i64;
        let differences = self.randomized.iter().zip(&other.randomized).map(|(a, b)| (a - b).abs());
        let as_large = differences.filter(|&difference| difference >= least).count();
        (as_large + 1) as f64 / (self.randomized.len() + 1) as f64
    }
}

/// For each byte of up to 64 scores, their sum with every choice of signs: plus where the index has a bit.
fn tables(scores: &[i64]) -> [[i64; 1 << BYTE]; WORD / BYTE] {
    let mut tables = [[0; 1 << BYTE]; WORD / BYTE];
    for (table, scores) in tables.iter_mut().zip(scores.chunks(BYTE)) {
        table[0] = -scores.iter().sum::<i64>();
        for (bit, score) in scores.iter().enumerate() {
            let (done, next) = table.split_at_mut(1 << bit);
            next.iter_mut().zip(done).for_each(|(next, done)| *next = *done + 2 * score);
        }
        // Bits beyond the last score change nothing.
        let filled = 1 << scores.len();
        (filled..table.len()).for_each(|index| table[index] = table[index % filled]);
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p_value(a: &[f64], b: &[f64], randomizations: usize) -> f64 {
        let unit = unit(&[a, b]);
        let [first, second] = [a, b].map(|scores| SignedSums::new(scores, unit, randomizations, 5));
        first.p_value(&second, a.len())
    }

    /// Scores in steps of 1 / 64, which are whole numbers of units.
    fn scores(count: usize, stream: u64) -> Vec<f64> {
        let mut random = SplitMix64::for_stream(9, stream);
        (0..count).map(|_| random.below(65) as f64 / 64.0).collect()
    }

    #[test]
    fn sums_are_those_of_signs_one_by_one() {
        for count in [1, 7, 8, 9, 63, 64, 65, 200] {
            let scores = scores(count, 0);
            let unit = unit(&[&scores]);
            let found = SignedSums::new(&scores, unit, BATCH + 3, 5);
            for (index, &sum) in found.randomized.iter().enumerate() {
                let mut random = SplitMix64::for_stream(5, index as u64);
                let words: Vec<u64> = (0..count.div_ceil(WORD)).map(|_| random.next_u64()).collect();
                let plus = |record: usize| words[record / WORD] >> (record % WORD) & 1 == 1;
                let slow: f64 =
                    (0..count).map(|record| if plus(record) { scores[record] } else { -scores[record] }).sum();
                assert_eq!(sum as f64 * unit, slow, "{count} records, randomization {index}");
            }
        }
    }

    #[test]
    fn p_value_agrees_with_all_assignments_of_signs() {
        for (count, stream) in [(2, 1), (3, 2), (5, 3), (8, 4), (10, 5), (12, 6), (12, 7), (14, 8)] {
            let [a, b] = [scores(count, 2 * stream), scores(count, 2 * stream + 1)];
            let sum = |signs: u32| -> f64 {
                let sign = |record: usize| if signs >> record & 1 == 1 { 1.0 } else { -1.0 };
                (0..count).map(|record| sign(record) * (a[record] - b[record])).sum()
            };
            let observed = sum(u32::MAX).abs();
            let as_large = (0..1 << count).filter(|&signs| sum(signs).abs() >= observed).count();
            let exact = as_large as f64 / f64::from(1 << count);
            let randomizations = 20_000;
            let deviation = (exact * (1.0 - exact) / randomizations as f64).sqrt();
            let found = p_value(&a, &b, randomizations);
            assert!((found - exact).abs() <= 4.0 * deviation + 1e-4, "{count} records: {found}, exactly {exact}");
        }
    }

    #[test]
    fn p_value_is_the_normal_approximation_for_many_records() {
        // Differences e + c where the e are uniform and add up to 0: c sets the quotient z of sum and root of squares.
        let count = 5000.0;
        let spread: Vec<f64> = (0..5000).map(|i| (f64::from(i) - 2499.5) / 5000.0).collect();
        let squares: f64 = spread.iter().map(|e| e * e).sum();
        for (z, expected) in [(0.674_490, 0.5), (1.281_552, 0.2), (1.959_964, 0.05), (2.575_829, 0.01)] {
            let c = z * (squares / (count * count - z * z * count)).sqrt();
            let differences: Vec<f64> = spread.iter().map(|e| e + c).collect();
            let found = p_value(&differences, &vec![0.0; 5000], 20_000);
            let deviation = (expected * (1.0 - expected) / 20_000f64).sqrt();
            assert!((found - expected).abs() < 4.0 * deviation, "z = {z}: {found}");
        }
    }

    #[test]
    fn what_differs_by_rounding_alone_is_equal() {
        // Every assignment of signs to one difference gives the same absolute sum, among however many ties.
        let a: Vec<f64> = (1..1000).map(|i| 1.0 / f64::from(i)).collect();
        let mut b = a.clone();
        b[500] += 1e-3;
        assert_eq!(p_value(&a, &b, 500), 1.0);
        // Differences of 0.1, -0.1 and 0.1, but as floats not quite: no signs give less than 0.1.
        assert_eq!(p_value(&[0.3, 0.0, 0.7], &[0.2, 0.1, 0.6], 500), 1.0);
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let a = vec![1e300; 100];
        assert_eq!(p_value(&a, &vec![-1e300; 100], 99), 0.01);
        assert_eq!(unit(&[&[0.0]]), 2f64.powi(-40));
        assert_eq!(unit(&[&[-3.0]]), 2f64.powi(-38));
    }
}
