//! Paired bootstrap: means over samples of the records that are the same for all systems.

use rouge::resampling::{percentiles, resample};

use super::TIE;
use crate::Estimate;

/// The mean of a column of scores, and its means over resampled records.
pub(super) struct Resampled {
    mean: f64,
    means: Vec<f64>,
}

/// [`Resampled`] of each of `columns`, which are equally long. Sample r holds the same records for all of them, and the
/// same as in [`rouge::bootstrap`].
pub(super) fn resampled(columns: &[&[f64]], resamples: usize, seed: u64) -> Vec<Resampled> {
    let (records, width) = (columns[0].len(), columns.len());
    // A drawn record's scores lie side by side: random reads of memory are what takes time.
    let row = |record: usize| columns.iter().map(move |column| column[record]);
    let rows: Vec<f64> = (0..records).flat_map(row).collect(); // [records, width]
    let samples = resample(records, resamples, seed, |draws| means(&rows, width, draws)); // [resamples][width]
    let all = means(&rows, width, 0..records);
    let column = |(index, &mean): (usize, &f64)| {
        let means = samples.iter().map(|sample| sample[index]).collect();
        Resampled { mean, means }
    };
    all.iter().enumerate().map(column).collect()
}

/// The means of the rows of these indices: `[width]`.
fn means(rows: &[f64], width: usize, indices: impl ExactSizeIterator<Item = usize>) -> Vec<f64> {
    let count = indices.len() as f64;
    let mut sums = vec![0.0; width];
    for index in indices {
        let row = &rows[index * width..][..width];
        sums.iter_mut().zip(row).for_each(|(sum, score)| *sum += score);
    }
    sums.iter().map(|sum| sum / count).collect()
}

impl Resampled {
    /// The mean with its interval.
    pub(super) fn estimate(&self) -> Estimate {
        estimate(self.mean, self.means.clone())
    }

    /// The difference of the means with its interval, and its two-sided p-value.
    ///
    /// The p-value is twice the share of samples on the rarer side of 0, (2 (r + 1)) / (B + 1) of B samples and at most 1,
    /// where differences of 0 count on both sides. It is the level at which the percentile interval would begin to include
    /// 0. 1 without samples.
    pub(super) fn minus(&self, other: &Self) -> (Estimate, f64) {
        let differences: Vec<f64> = self.means.iter().zip(&other.means).map(|(a, b)| a - b).collect();
        let above = differences.iter().filter(|&&difference| difference >= -TIE).count();
        let below = differences.iter().filter(|&&difference| difference <= TIE).count();
        let p_value = 2.0 * (above.min(below) + 1) as f64 / (differences.len() + 1) as f64;
        (estimate(self.mean - other.mean, differences), p_value.min(1.0))
    }
}

fn estimate(mean: f64, means: Vec<f64>) -> Estimate {
    let [low, mid, high] = percentiles(means).unwrap_or([mean; 3]);
    Estimate { mean, low, mid, high }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(means: &[f64]) -> Resampled {
        Resampled { mean: 0.5, means: means.to_vec() }
    }

    #[test]
    fn p_value_counts_the_rarer_side() {
        let zero = of(&[0.0; 9]);
        // One of nine below 0: 2 (1 + 1) / (9 + 1).
        assert_eq!(of(&[0.5, 0.5, -0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]).minus(&zero).1, 0.4);
        // A difference of 0 counts on both sides.
        assert_eq!(of(&[-0.5, -0.5, -0.5, -0.5, 0.0, -0.5, -0.5, -0.5, -0.5]).minus(&zero).1, 0.4);
        assert_eq!(of(&[0.5; 9]).minus(&zero).1, 0.2);
        assert_eq!(zero.minus(&zero).1, 1.0);
        assert_eq!(of(&[]).minus(&of(&[])).1, 1.0);
    }

    #[test]
    fn a_column_has_the_interval_of_its_own_bootstrap() {
        let a: Vec<f64> = (0..50).map(|i| f64::from(i * i % 17) / 17.0).collect();
        let b: Vec<f64> = (0..50).map(|i| f64::from(i * i % 23) / 23.0).collect();
        let found = resampled(&[&a, &b], 200, 3)[1].estimate();
        let scores: Vec<_> = b.iter().map(|&f1| rouge::Score { f1, ..Default::default() }).collect();
        let alone = rouge::bootstrap(&scores, 200, 3).expect("scores");
        let alone = [alone.mean, alone.low, alone.mid, alone.high].map(|score| score.f1);
        assert_eq!([found.mean, found.low, found.mid, found.high], alone);
    }
}
