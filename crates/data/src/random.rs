//! Numbers that depend on a seed and a stream alone.

/// Steele, Lea and Flood's SplitMix64 (OOPSLA 2014), seeded with a seed and a stream number.
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        // Mixed one after the other: a symmetric mixture would give seed 1, epoch 2 the order of seed 2, epoch 1.
        let base = Self(seed).next();
        Self(Self(base ^ stream).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::GAMMA);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, each equally likely up to `bound` in 2^64.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.next()) * bound as u128;
        usize::try_from(product >> 64).expect("below `bound`")
    }

    /// Fisher and Yates' shuffle.
    pub(crate) fn shuffle<T>(&mut self, elements: &mut [T]) {
        for last in (1..elements.len()).rev() {
            elements.swap(last, self.below(last + 1));
        }
    }

    /// A number in 0..1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A Poisson-distributed count (Knuth's method: a product of uniform numbers; for means of a few units).
    pub(crate) fn poisson(&mut self, mean: f64) -> usize {
        let limit = (-mean).exp();
        let mut product = self.unit();
        let mut count = 0;
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::SplitMix64;

    #[test]
    fn means_are_as_asked_for() {
        let mut random = SplitMix64::new(1, 2);
        let draws = 20_000;
        let uniform: f64 = (0..draws).map(|_| random.unit()).sum();
        let poisson: usize = (0..draws).map(|_| random.poisson(3.0)).sum();
        assert!((uniform / f64::from(draws) - 0.5).abs() < 0.01);
        assert!((poisson as f64 / f64::from(draws) - 3.0).abs() < 0.05);
    }
}
