//! Random texts for tests.

/// The upper bits of a linear congruential generator; D. E. Knuth's MMIX constants.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Fewer than `words` words of one of the first `letters` letters each.
    pub(super) fn text(&mut self, words: u64, letters: u64) -> String {
        let letters = (0..self.below(words)).map(|_| ["a", "b", "c", "d", "e", "f"][self.below(letters) as usize]);
        letters.collect::<Vec<_>>().join(" ")
    }
}
