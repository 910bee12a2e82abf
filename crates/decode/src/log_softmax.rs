//! `log_softmax` of a row of logits, in one thread and without the standard library's `exp`.

/// Width of the accumulators: wide enough for every instruction set's registers, and the sum of so many partial sums is
/// more accurate than a running one.
const LANES: usize = 16;

/// What makes logits of a row log-probabilities (natural logarithm).
///
/// The greatest logit and the logarithm of the rest are subtracted one after the other, as `torch.log_softmax` does: their sum
/// would be rounded to the last place of the greatest, beside which a log-probability near 0 is small.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Normalizer {
    greatest: f32,
    /// ln sum exp(logit - greatest).
    log_total: f32,
}

impl Normalizer {
    /// Of a row. Exponentials are `f32` with a relative error below 2e-7, summed in 16 lanes of `f32` over blocks of 1,024 and
    /// then in `f64`. `None` when a logit is NaN or plus infinity, or all are minus infinity.
    pub(crate) fn of(logits: &[f32]) -> Option<Self> {
        let greatest = greatest(logits);
        if !greatest.is_finite() || has_nan(logits) {
            return None;
        }
        let total: f64 = logits.chunks(1024).map(|block| f64::from(sum_exp(block, greatest))).sum();
        Some(Self { greatest, log_total: total.ln() as f32 })
    }

    /// The log-probability of a token with this logit.
    pub(crate) fn log_probability(self, logit: f32) -> f32 {
        (logit - self.greatest) - self.log_total
    }
}

/// Replaces logits by log-probabilities. `None`, and nothing changed, where [`Normalizer::of`] is `None`.
pub(crate) fn log_softmax(logits: &mut [f32]) -> Option<()> {
    let normalizer = Normalizer::of(logits)?;
    for logit in logits {
        *logit = normalizer.log_probability(*logit);
    }
    Some(())
}

/// The greatest value; minus infinity for an empty slice; NaN is passed over.
pub(crate) fn greatest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |most, &value| if value > most { value } else { most })
}

fn has_nan(values: &[f32]) -> bool {
    // No early exit: a plain reduction is vectorised.
    values.iter().fold(false, |found, value| found | value.is_nan())
}

fn sum_exp(values: &[f32], greatest: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += exp(value - greatest);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|&value| exp(value - greatest)).sum::<f32>()
}

/// e^x for x <= 0, with a relative error below 2e-7; below -87, where a term cannot matter beside the greatest, it stays
/// at e^-87. Branch-free, so that loops over it are vectorised.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r is its Taylor polynomial of degree 7, and 2^n is put into the exponent bits.
#[inline]
#[allow(clippy::excessive_precision, reason = "ln 2 in two parts")]
fn exp(x: f32) -> f32 {
    /// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_375;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = if x > -87.0 { x } else { -87.0 };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut sum = 1.0 / 5_040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * r + coefficient;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    sum * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_has_a_small_relative_error() {
        let mut worst = 0.0_f64;
        for step in 0..870_000 {
            let x = -(step as f32) * 1e-4;
            let expected = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - expected).abs() / expected);
        }
        assert!(worst < 2e-7, "relative error {worst}");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn log_softmax_agrees_with_double_precision() {
        for length in [1, 2, 15, 16, 17, 1_023, 1_025, 50_265] {
            let logits: Vec<f32> = (0..length).map(|i| ((i * 7_919) % 4_001) as f32 / 100.0 - 17.0).collect();
            let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            let mut found = logits.clone();
            log_softmax(&mut found).expect("finite logits");
            for (&logit, &found) in logits.iter().zip(&found) {
                let expected = f64::from(logit) - total.ln();
                assert!((f64::from(found) - expected).abs() < 4e-6, "{length}: {found} instead of {expected}");
            }
        }
    }

    #[test]
    fn a_token_that_is_nearly_certain_keeps_its_digits() {
        for (logit, gap) in [(30.0, 12.0), (-100.0, 9.0), (1_000.0, 7.5)] {
            let mut logits = [logit - gap, logit];
            log_softmax(&mut logits).expect("finite logits");
            let expected = -(-f64::from(gap)).exp().ln_1p();
            // One ulp of the sum of exponentials, which is near 1, is lost.
            let error = (f64::from(logits[1]) - expected).abs();
            assert!(error < 2e-7, "{logit}: {} instead of {expected}", logits[1]);
        }
    }

    #[test]
    fn minus_infinity_is_a_probability_of_zero() {
        let mut logits = [0.0, f32::NEG_INFINITY, 0.0];
        log_softmax(&mut logits).expect("one finite logit is enough");
        assert_eq!(logits, [-std::f32::consts::LN_2, f32::NEG_INFINITY, -std::f32::consts::LN_2]);
    }

    #[test]
    fn what_is_not_a_number_is_reported() {
        for bad in [&mut [0.0, f32::NAN][..], &mut [0.0, f32::INFINITY], &mut [f32::NEG_INFINITY; 2], &mut []] {
            assert_eq!(log_softmax(bad), None, "{bad:?}");
        }
    }
}
