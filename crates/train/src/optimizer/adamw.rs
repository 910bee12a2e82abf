//! AdamW's rule.

use epitome_kernels::{self as kernels, AdamWParameter};

use super::{OptimConfig, Rule, Slot, Update};
use crate::Result;

/// AdamW, as `torch.optim.AdamW`.
#[derive(Debug)]
pub(super) struct AdamW(kernels::AdamW);

impl AdamW {
    pub(super) fn new(config: &OptimConfig) -> Self {
        Self(kernels::AdamW { beta1: config.adam_beta1, beta2: config.adam_beta2, epsilon: config.adam_epsilon })
    }
}

impl Rule for AdamW {
    /// First and second moments, one after the other.
    fn slots(&self, dims: &[usize]) -> Vec<Slot> {
        vec![("", [&[2], dims].concat())]
    }

    fn update(&self, updates: &[Update<'_>], gradient_scale: f32) -> Result<()> {
        let parameters = updates.iter().map(|update| {
            let Update { parameter, state, gradient, copy, learning_rate, weight_decay, count } = *update;
            AdamWParameter { parameter, moments: &state[0], gradient, copy, learning_rate, weight_decay, step: count }
        });
        Ok(kernels::adamw_step(&parameters.collect::<Vec<_>>(), gradient_scale, &self.0)?)
    }
}
