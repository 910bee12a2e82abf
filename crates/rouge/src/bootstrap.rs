//! Means of many scores, with bootstrap confidence intervals.

use crate::Score;
use crate::resampling::{percentiles, resample};

/// The mean of a set of scores and what bootstrap resampling says of its spread, each for precision, recall and F1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aggregate {
    /// The mean of the scores themselves. Not part of `rouge_score`'s aggregate.
    pub mean: Score,
    /// The 2.5th percentile of the resampled means.
    pub low: Score,
    /// Their median, which `rouge_score` calls `mid` and many papers print as the score.
    pub mid: Score,
    /// Their 97.5th percentile.
    pub high: Score,
}

/// Mean and 95 % confidence interval of `scores`; `None` when there are none.
///
/// Draws `resamples` samples of `scores.len()` scores with replacement and takes percentiles of their means, with linear
/// interpolation. Precision, recall and F1 share each draw. `rouge_score` uses 1000 resamples. With `resamples` = 0,
/// `low`, `mid` and `high` are the mean.
///
/// The same `scores`, `resamples` and `seed` give the same result on every machine and with any number of threads:
/// resample r uses its own SplitMix64 stream, started from `seed` and r. Two systems scored on the same documents and
/// aggregated with one seed see the same draws.
///
/// ```
/// let scores: Vec<_> = (0..50)
///     .map(|i| rouge::Score { precision: 0.5, recall: f64::from(i) / 50.0, f1: 0.4 })
///     .collect();
/// let found = rouge::bootstrap(&scores, 1000, 42).expect("there are scores");
/// assert_eq!(found.mean.recall, 0.49);
/// assert!(found.low.recall < 0.49 && 0.49 < found.high.recall);
/// ```
pub fn bootstrap(scores: &[Score], resamples: usize, seed: u64) -> Option<Aggregate> {
    let rows: Vec<[f64; 3]> = scores.iter().map(|score| [score.precision, score.recall, score.f1]).collect();
    let intervals = bootstrap_means(&rows, resamples, seed)?;
    let score = |field: fn(&Interval) -> f64| {
        let [precision, recall, f1] = intervals.each_ref().map(field);
        Score { precision, recall, f1 }
    };
    Some(Aggregate {
        mean: score(|interval| interval.mean),
        low: score(|interval| interval.low),
        mid: score(|interval| interval.mid),
        high: score(|interval| interval.high),
    })
}

/// The mean of one value and its 95 % bootstrap interval, the fields as in [`Aggregate`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The mean of the values themselves.
    pub mean: f64,
    /// The 2.5th percentile of the resampled means.
    pub low: f64,
    /// Their median.
    pub mid: f64,
    /// Their 97.5th percentile.
    pub high: f64,
}

/// [`bootstrap`] of any values, one row of `N` a document, that share each draw; `None` when there are no rows.
///
/// ```
/// let found = rouge::bootstrap_means(&[[1.0], [2.0], [6.0]], 1000, 42).expect("there are rows");
/// assert_eq!((found[0].mean, found[0].high), (3.0, 6.0));
/// ```
pub fn bootstrap_means<const N: usize>(rows: &[[f64; N]], resamples: usize, seed: u64) -> Option<[Interval; N]> {
    if rows.is_empty() {
        return None;
    }
    let mean = mean(rows.iter());
    let means = resample(rows.len(), resamples, seed, |draws| self::mean(draws.map(|index| &rows[index])));
    Some(std::array::from_fn(|column| {
        let values = means.iter().map(|row| row[column]).collect();
        let [low, mid, high] = percentiles(values).unwrap_or([mean[column]; 3]);
        Interval { mean: mean[column], low, mid, high }
    }))
}

fn mean<'a, const N: usize>(rows: impl ExactSizeIterator<Item = &'a [f64; N]>) -> [f64; N] {
    let count = rows.len() as f64;
    let sum = rows.fold([0.0; N], |sum, row| std::array::from_fn(|column| sum[column] + row[column]));
    sum.map(|sum| sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(value: f64) -> Score {
        Score { precision: value, recall: value, f1: value }
    }

    #[test]
    fn nothing_to_resample() {
        assert_eq!(bootstrap(&[], 1000, 0), None);
        let one = bootstrap(&[same(0.25)], 10, 0).expect("one score");
        assert_eq!((one.mean, one.low, one.high), (same(0.25), same(0.25), same(0.25)));
        let unsampled = bootstrap(&[same(0.0), same(1.0)], 0, 0).expect("two scores");
        assert_eq!((unsampled.low, unsampled.mid), (same(0.5), same(0.5)));
    }

    #[test]
    fn interval_is_the_normal_approximation_for_many_scores() {
        let scores: Vec<Score> = (0..1000).map(|i| same(f64::from(i) / 999.0)).collect();
        let found = bootstrap(&scores, 2000, 7).expect("scores");
        // Uniform on [0, 1]: standard deviation 1 / sqrt(12).
        let half_width = 1.96 / 12f64.sqrt() / 1000f64.sqrt();
        assert!((found.mean.f1 - 0.5).abs() < 1e-12);
        assert!((found.mid.f1 - 0.5).abs() < 0.1 * half_width);
        assert!((found.high.f1 - 0.5 - half_width).abs() < 0.1 * half_width);
        assert!((0.5 - found.low.f1 - half_width).abs() < 0.1 * half_width);
    }

    #[test]
    fn the_seed_decides() {
        let scores: Vec<Score> = (0..30).map(|i| same(f64::from(i * i) / 900.0)).collect();
        let found = bootstrap(&scores, 100, 1);
        assert_eq!(found, bootstrap(&scores, 100, 1));
        assert_ne!(found, bootstrap(&scores, 100, 2));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let alone = pool.expect("a pool").install(|| bootstrap(&scores, 100, 1));
        assert_eq!(found, alone);
    }
}
