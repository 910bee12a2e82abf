//! AdamW's rule.

use candle_core::Tensor;
use epitome_kernels::{self as kernels};

use super::{OptimConfig, Rule, Slot, Step};
use crate::Result;

/// AdamW, as `torch.optim.AdamW`.
#[derive(Debug)]
pub(super) struct AdamW {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
}

impl AdamW {
    pub(super) fn new(config: &OptimConfig) -> Self {
        Self { beta1: config.adam_beta1, beta2: config.adam_beta2, epsilon: config.adam_epsilon }
    }
}

impl Rule for AdamW {
    /// First and second moments, one after the other.
    fn slots(&self, dims: &[usize]) -> Vec<Slot> {
        vec![("", [&[2], dims].concat())]
    }

    fn update(&self, parameter: &Tensor, state: &[Tensor], gradient: &Tensor, step: Step) -> Result<()> {
        let hyper = kernels::AdamW {
            learning_rate: step.learning_rate,
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: step.weight_decay,
            step: step.count,
        };
        Ok(kernels::adamw_step(parameter, &state[0], gradient, step.gradient_scale, &hyper)?)
    }
}
