//! What [`bootstrap`](crate::bootstrap) is built of, for other statistics on the same footing.
//!
//! Results depend on the seed alone, not on the number of threads: each sample has a random stream of its own.

use rayon::prelude::*;

/// `statistic` of each of `resamples` samples of `count` items, drawn with replacement, on all threads of the current
/// rayon pool. It is given the sample as `count` indices from 0 to `count` - 1; equal arguments give equal samples.
///
/// ```
/// let values = [1.0, 2.0, 6.0];
/// let sums = rouge::resampling::resample(3, 100, 0, |draws| draws.map(|index| values[index]).sum::<f64>());
/// assert_eq!(sums.len(), 100);
/// assert!(sums.iter().all(|sum| (3.0..=18.0).contains(sum)));
/// ```
pub fn resample<T: Send>(count: usize, resamples: usize, seed: u64, statistic: impl Fn(Draws) -> T + Sync) -> Vec<T> {
    let sample = |index| Draws { random: SplitMix64::for_stream(seed, index as u64), count, left: count };
    (0..resamples).into_par_iter().map(|index| statistic(sample(index))).collect()
}

/// The indices of one sample of [`resample`].
#[derive(Clone, Debug)]
pub struct Draws {
    random: SplitMix64,
    count: usize,
    left: usize,
}

impl Iterator for Draws {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        Some(self.random.below(self.count))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Draws {}

/// The 2.5th percentile, the median and the 97.5th percentile of resampled values, which bound 95 % of them, with
/// linear interpolation; `None` without values.
pub fn percentiles(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_unstable_by(f64::total_cmp);
    let [low, mid, high] = [0.025, 0.5, 0.975].map(|fraction| quantile(&values, fraction));
    Some([low?, mid?, high?])
}

/// The quantile of sorted values, interpolating linearly between the two nearest; `None` without values.
fn quantile(sorted: &[f64], fraction: f64) -> Option<f64> {
    let place = fraction * sorted.len().checked_sub(1)? as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    Some(below + (above - below) * place.fract())
}

/// A random generator of 64 bits of state: G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014.
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    const INCREMENT: u64 = 0x9E37_79B9_7F4A_7C15;

    /// The generator of stream number `stream` of a seed.
    pub fn for_stream(seed: u64, stream: u64) -> Self {
        // Mixed one after the other: a symmetric mixture would give seed 1, stream 2 the numbers of seed 2, stream 1.
        Self { state: Self::output(Self::output(seed) ^ stream) }
    }

    /// The 64 random bits that a generator in this state gives next: a hash of the state, for draws that are numbered instead
    /// of made one after the other.
    pub fn output(state: u64) -> u64 {
        let mut bits = state.wrapping_add(Self::INCREMENT);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let bits = Self::output(self.state);
        self.state = self.state.wrapping_add(Self::INCREMENT);
        bits
    }

    /// A number from 0 to `bound` - 1; the bias is below `bound` / 2^64.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_linearly() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(quantile(&sorted, 0.5), Some(3.0));
        assert_eq!(quantile(&sorted, 0.25), Some(1.75));
        assert_eq!(quantile(&sorted, 1.0), Some(8.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn percentiles_sort_first() {
        let values = (0..=1000).rev().map(f64::from).collect();
        assert_eq!(percentiles(values), Some([25.0, 500.0, 975.0]));
        assert_eq!(percentiles(Vec::new()), None);
    }

    #[test]
    fn generator_gives_the_published_sequence() {
        let mut random = SplitMix64 { state: 1_234_567 };
        let first: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(first, expected);
    }
}
