//! Numbers that depend on a seed and a stream alone.

pub(crate) use rouge::resampling::SplitMix64;

/// What is drawn here beside bits and bounded numbers.
pub(crate) trait Draw {
    /// Fisher and Yates' shuffle.
    fn shuffle<T>(&mut self, elements: &mut [T]);

    /// A number in 0..1.
    fn unit(&mut self) -> f64;

    /// A Poisson-distributed count (Knuth's method: a product of uniform numbers; for means of a few units).
    fn poisson(&mut self, mean: f64) -> usize;
}

impl Draw for SplitMix64 {
    fn shuffle<T>(&mut self, elements: &mut [T]) {
        for last in (1..elements.len()).rev() {
            elements.swap(last, self.below(last + 1));
        }
    }

    fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn poisson(&mut self, mean: f64) -> usize {
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
    use super::{Draw, SplitMix64};

    #[test]
    fn draws_stay_what_they_were() {
        let mut random = SplitMix64::for_stream(42, 7);
        let mut order: Vec<u32> = (0..8).collect();
        random.shuffle(&mut order);
        let drawn = (random.below(1000), random.unit(), random.poisson(3.0));
        assert_eq!((order.as_slice(), drawn), (&[0, 5, 1, 6, 4, 3, 7, 2][..], (541, 0.735_365_089_595_597_5, 6)));
    }

    #[test]
    fn means_are_as_asked_for() {
        let mut random = SplitMix64::for_stream(1, 2);
        let draws = 20_000;
        let uniform: f64 = (0..draws).map(|_| random.unit()).sum();
        let poisson: usize = (0..draws).map(|_| random.poisson(3.0)).sum();
        assert!((uniform / f64::from(draws) - 0.5).abs() < 0.01);
        assert!((poisson as f64 / f64::from(draws) - 3.0).abs() < 0.05);
    }
}
