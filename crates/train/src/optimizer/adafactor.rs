//! Adafactor's rule.

use epitome_kernels::{self as kernels};

use super::{OptimConfig, Rule, Slot, Update};
use crate::Result;

/// Adafactor, as `transformers.optimization.Adafactor`.
#[derive(Debug)]
pub(super) struct Adafactor {
    scale_parameter: bool,
    /// Instead of the step's learning rate; with or without a warm-up.
    relative_step: Option<RelativeStep>,
    clip_threshold: f64,
    decay_rate: f64,
    /// Of squared gradients, and the least root mean square of a parameter.
    epsilon: [f64; 2],
    beta1: Option<f64>,
}

/// A learning rate that follows from the number of updates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelativeStep {
    warmup_init: bool,
}

impl RelativeStep {
    /// That of `config`, if it sets the learning rate.
    pub(crate) fn of(config: &OptimConfig) -> Option<Self> {
        config.has_relative_step().then_some(Self { warmup_init: config.adafactor_warmup_init })
    }

    /// The rate of an update, counted from 1.
    pub(crate) fn learning_rate(self, count: usize) -> f64 {
        let most = if self.warmup_init { 1e-6 * count as f64 } else { 1e-2 };
        (count as f64).sqrt().recip().min(most)
    }
}

impl Adafactor {
    pub(super) fn new(config: &OptimConfig) -> Self {
        Self {
            scale_parameter: config.adafactor_scale_parameter,
            relative_step: RelativeStep::of(config),
            clip_threshold: config.adafactor_clip_threshold,
            decay_rate: config.adafactor_decay_rate,
            epsilon: config.adafactor_eps,
            beta1: config.adafactor_beta1,
        }
    }

    fn hyper(&self, update: &Update<'_>) -> kernels::Adafactor {
        let relative = self.relative_step.map(|relative| relative.learning_rate(update.count));
        kernels::Adafactor {
            learning_rate: relative.unwrap_or(update.learning_rate),
            least_scale: self.scale_parameter.then_some(self.epsilon[1]),
            beta1: self.beta1,
            decay: 1.0 - (update.count as f64).powf(self.decay_rate),
            epsilon: self.epsilon[0],
            clip_threshold: self.clip_threshold,
            weight_decay: update.weight_decay,
        }
    }
}

impl Rule for Adafactor {
    /// Second moments of the rows and columns of a matrix, of the elements of a vector; the mean of updates, if one is kept.
    fn slots(&self, dims: &[usize]) -> Vec<Slot> {
        let moments = ("", vec![dims.iter().sum()]);
        let mean = self.beta1.map(|_| (".exp_avg", dims.to_vec()));
        [moments].into_iter().chain(mean).collect()
    }

    fn update(&self, updates: &[Update<'_>], gradient_scale: f32) -> Result<()> {
        updates.iter().try_for_each(|update| {
            let hyper = self.hyper(update);
            let (moments, mean) = (&update.state[0], update.state.get(1));
            kernels::adafactor_step(update.parameter, moments, mean, update.gradient, gradient_scale, &hyper)
        })?;
        let pairs: Vec<_> = updates.iter().filter_map(|update| Some([update.parameter, update.copy?])).collect();
        Ok(kernels::round_all(&pairs)?)
    }
}
