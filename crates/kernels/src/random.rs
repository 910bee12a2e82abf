//! Counter-based randomness: a value is a pure function of a key and an index, never of the order of the draws.

/// The key of one dropout site: a function of seed, step, layer and site, built with
/// `DropoutKey::new(seed).fold(step).fold(layer).fold(site)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropoutKey(u64);

/// Odd constant (the golden ratio's fraction of 2^64) that separates neighbouring keys; the increment of SplitMix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The same for 32-bit counters.
const GOLDEN_32: u32 = 0x9E37_79B9;

impl DropoutKey {
    /// A key from a run's seed.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed ^ GOLDEN))
    }

    /// The key of a part `value` of what this key stands for. The order of folds matters.
    pub fn fold(self, value: u64) -> Self {
        Self(mix(self.0.rotate_left(23) ^ splitmix(value)))
    }
}

/// Dropout of one call: elements are zeroed with `probability`, the others divided by `1 - probability`.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Probability of zeroing an element, in `0.0..1.0`.
    pub probability: f32,
    /// Which mask.
    pub key: DropoutKey,
}

impl Dropout {
    /// What element `index` is multiplied by: 0, or `1 / (1 - probability)`. A pure function of key and index.
    pub fn factor(&self, index: u64) -> f32 {
        let mask = Mask::new(*self);
        mask.factor(mask.stream((index >> 32) as u32), index as u32)
    }
}

/// The dropout that has an effect: `None` for a probability of 0.
pub(crate) fn active(dropout: Option<Dropout>) -> Option<Dropout> {
    dropout.filter(|dropout| dropout.probability > 0.0)
}

/// A [`Dropout`] prepared for many draws. The upper half of an index selects a stream, the lower half an element of
/// it, so that the work of one draw is a few 32-bit operations, which vectorise.
#[derive(Clone, Copy)]
pub(crate) struct Mask {
    pub(crate) key: u64,
    /// Elements whose 32 random bits are below are zeroed.
    pub(crate) threshold: u32,
    pub(crate) keep: f32,
}

/// Two words that select the draws of one stream.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stream(pub(crate) u32, pub(crate) u32);

impl Mask {
    pub(crate) fn new(dropout: Dropout) -> Self {
        let probability = f64::from(dropout.probability);
        Self {
            key: dropout.key.0,
            threshold: (probability * 4_294_967_296.0) as u32,
            keep: (1.0 / (1.0 - probability)) as f32,
        }
    }

    pub(crate) fn stream(&self, high: u32) -> Stream {
        let bits = mix(self.key ^ splitmix(u64::from(high)));
        Stream(bits as u32, (bits >> 32) as u32)
    }

    #[inline(always)]
    pub(crate) fn factor(&self, stream: Stream, low: u32) -> f32 {
        if scramble(low.wrapping_mul(GOLDEN_32).wrapping_add(stream.0), stream.1) < self.threshold {
            0.0
        } else {
            self.keep
        }
    }
}

/// The 64 bits that SplitMix64 (Steele, Lea and Flood, 2014) gives next in this state.
pub fn splitmix(state: u64) -> u64 {
    mix(state.wrapping_add(GOLDEN))
}

/// The finaliser of SplitMix64.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// A 32-bit finaliser with two multiplications (constants of C. Wellons' "lowbias32"), its second half salted.
#[inline(always)]
fn scramble(mut bits: u32, salt: u32) -> u32 {
    bits = (bits ^ (bits >> 16)).wrapping_mul(0x7FEB_352D);
    bits = bits.wrapping_add(salt);
    bits = (bits ^ (bits >> 15)).wrapping_mul(0x846C_A68B);
    bits ^ (bits >> 16)
}

#[cfg(test)]
mod tests {
    use super::{GOLDEN, splitmix};

    #[test]
    fn splitmix_gives_the_published_sequence() {
        let first = [0, 1, 2].map(|index: u64| splitmix(GOLDEN.wrapping_mul(index).wrapping_add(1_234_567)));
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}
