//! Learning-rate schedules (semantics F1, F2), with the names and meaning of `transformers`.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// The shape of the learning rate over a run, after a linear warm-up from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Down to 0 at the last step.
    Linear,
    /// Half a cosine down to 0 at the last step.
    Cosine,
    /// `(1 - progress)^power`, down to `lr_end`.
    Polynomial,
    /// No decay and no warm-up.
    Constant,
    /// No decay after the warm-up.
    ConstantWithWarmup,
    /// `1 / sqrt(step)`, scaled so that the warm-up ends at the full rate.
    InverseSqrt,
}

/// Power of [`Schedule::Polynomial`], Longformer's (appendix B of the paper).
const POLYNOMIAL_POWER: i32 = 3;
/// Final rate of [`Schedule::Polynomial`] as in `transformers`.
const POLYNOMIAL_END: f64 = 1e-7;

/// The learning rate of an update. `step` counts from 0, as in `transformers`: with a warm-up the first update has rate 0.
/// `peak` is the rate at the end of the warm-up of `warmup_steps`; `total` is the number of updates of the run.
pub fn learning_rate(schedule: Schedule, peak: f64, step: usize, warmup_steps: usize, total: usize) -> f64 {
    if schedule == Schedule::Constant {
        return peak;
    }
    if step < warmup_steps {
        return peak * step as f64 / warmup_steps as f64;
    }
    let decay_steps = total.saturating_sub(warmup_steps).max(1) as f64;
    let progress = ((step - warmup_steps) as f64 / decay_steps).min(1.0);
    match schedule {
        Schedule::Linear => peak * (1.0 - progress),
        Schedule::Cosine => peak * 0.5 * (1.0 + (PI * progress).cos()),
        Schedule::Polynomial => {
            let end = POLYNOMIAL_END.min(peak);
            (peak - end) * (1.0 - progress).powi(POLYNOMIAL_POWER) + end
        }
        Schedule::Constant | Schedule::ConstantWithWarmup => peak,
        Schedule::InverseSqrt => {
            // transformers decays from 10,000 steps when there is no warm-up.
            let timescale = if warmup_steps > 0 { warmup_steps } else { 10_000 };
            let shift = timescale - warmup_steps;
            peak / (((step + shift) as f64) / timescale as f64).sqrt()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Schedule, learning_rate};

    fn rates(schedule: Schedule, warmup: usize, total: usize) -> Vec<f64> {
        (0..=total).map(|step| learning_rate(schedule, 1.0, step, warmup, total)).collect()
    }

    #[test]
    fn linear_rises_from_zero_and_ends_at_zero() {
        assert_eq!(rates(Schedule::Linear, 2, 6), [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(rates(Schedule::Linear, 0, 4), [1.0, 0.75, 0.5, 0.25, 0.0]);
    }

    #[test]
    fn cosine_is_half_way_at_half_the_decay() {
        let rates = rates(Schedule::Cosine, 1, 5);
        assert_eq!(rates[1], 1.0);
        assert!((rates[3] - 0.5).abs() < 1e-15);
        assert!(rates[5].abs() < 1e-15);
    }

    #[test]
    fn polynomial_is_cubic_and_ends_at_its_floor() {
        let rates = rates(Schedule::Polynomial, 0, 2);
        assert!((rates[1] - (0.125 + 1e-7 * 0.875)).abs() < 1e-12);
        assert!((rates[2] - 1e-7).abs() < 1e-15);
    }

    #[test]
    fn constant_ignores_the_warm_up_unless_named() {
        assert_eq!(rates(Schedule::Constant, 2, 3), [1.0; 4]);
        assert_eq!(rates(Schedule::ConstantWithWarmup, 2, 3), [0.0, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn inverse_square_root_halves_at_four_times_the_warm_up() {
        assert_eq!(learning_rate(Schedule::InverseSqrt, 1.0, 10, 10, 100), 1.0);
        assert_eq!(learning_rate(Schedule::InverseSqrt, 1.0, 40, 10, 100), 0.5);
    }
}
