//! Learning-rate schedules, with the names and meaning of `transformers` (`optimization.py`).

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::OptimConfig;
use crate::optimizer::{RelativeStep, within};

/// The shape of the learning rate over a run, after a linear warm-up from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Down to 0 at the last step.
    Linear,
    /// Half a cosine down to 0 at the last step, or `num_cycles` whole waves.
    Cosine,
    /// `(1 - progress)^power`, down to `lr_end` at the last step.
    Polynomial,
    /// No decay and no warm-up.
    Constant,
    /// No decay after the warm-up.
    ConstantWithWarmup,
    /// `1 / sqrt(step)`, scaled so that the warm-up ends at the full rate.
    InverseSqrt,
}

/// Details of some schedules, with the names of `transformers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerOptions {
    /// Of the polynomial; 3 by default, as Longformer was trained (appendix B of the paper; `transformers` has 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<f64>,
    /// The polynomial's rate at the last step; 1e-7 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_end: Option<f64>,
    /// Waves of the cosine; 0.5 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_cycles: Option<f64>,
}

impl SchedulerOptions {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn power(&self) -> f64 {
        self.power.unwrap_or(3.0)
    }

    fn lr_end(&self) -> f64 {
        self.lr_end.unwrap_or(1e-7)
    }

    /// Checks values, and that there is none which the schedule does not know.
    pub(crate) fn validate(&self, schedule: Schedule, learning_rate: f64) -> Result<(), String> {
        for (key, value, known, least) in [
            ("power", self.power, (Schedule::Polynomial, "polynomial"), f64::MIN_POSITIVE),
            ("lr_end", self.lr_end, (Schedule::Polynomial, "polynomial"), 0.0),
            ("num_cycles", self.num_cycles, (Schedule::Cosine, "cosine"), f64::MIN_POSITIVE),
        ] {
            let Some(value) = value else { continue };
            if schedule != known.0 {
                return Err(format!("optim.lr_scheduler_kwargs.{key} needs optim.lr_scheduler_type = \"{}\"", known.1));
            }
            within(&format!("lr_scheduler_kwargs.{key}"), value, least..f64::INFINITY)?;
        }
        if schedule == Schedule::Polynomial && learning_rate <= self.lr_end() {
            let end = self.lr_end();
            return Err(format!(
                "optim.learning_rate is {learning_rate}, not above optim.lr_scheduler_kwargs.lr_end, which is {end}"
            ));
        }
        Ok(())
    }
}

/// The learning rate of an update of a run of `total` updates. `step` counts from 0, as in `transformers`: with a warm-up the
/// first update has rate 0. Where Adafactor sets the rate, it is that of a parameter which every update had a gradient for.
pub fn learning_rate(optim: &OptimConfig, step: usize, total: usize) -> f64 {
    match RelativeStep::of(optim) {
        Some(relative) => relative.learning_rate(step + 1),
        None => optim.learning_rate * factor(optim, step, total),
    }
}

/// What the schedule multiplies the learning rate with.
fn factor(optim: &OptimConfig, step: usize, total: usize) -> f64 {
    let OptimConfig { lr_scheduler_type: schedule, warmup_steps, lr_scheduler_kwargs: options, .. } = optim;
    if *schedule == Schedule::Constant {
        return 1.0;
    }
    if step < *warmup_steps {
        return step as f64 / *warmup_steps as f64;
    }
    let decay_steps = total.saturating_sub(*warmup_steps).max(1) as f64;
    let progress = ((step - warmup_steps) as f64 / decay_steps).min(1.0);
    match schedule {
        Schedule::Linear => 1.0 - progress,
        Schedule::Cosine => 0.5 * (1.0 + (PI * options.num_cycles.unwrap_or(0.5) * 2.0 * progress).cos()),
        Schedule::Polynomial => {
            let end = options.lr_end() / optim.learning_rate;
            (1.0 - end) * (1.0 - progress).powf(options.power()) + end
        }
        Schedule::Constant | Schedule::ConstantWithWarmup => 1.0,
        Schedule::InverseSqrt => {
            // transformers decays from 10,000 steps when there is no warm-up.
            let timescale = if *warmup_steps > 0 { *warmup_steps } else { 10_000 };
            ((step - warmup_steps + timescale) as f64 / timescale as f64).sqrt().recip()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(lr_scheduler_type: Schedule, warmup_steps: usize, total: usize) -> Vec<f64> {
        let optim = OptimConfig { learning_rate: 1.0, lr_scheduler_type, warmup_steps, ..OptimConfig::default() };
        (0..=total).map(|step| learning_rate(&optim, step, total)).collect()
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
        let rates = rates(Schedule::InverseSqrt, 10, 100);
        assert_eq!((rates[10], rates[40]), (1.0, 0.5));
    }
}
