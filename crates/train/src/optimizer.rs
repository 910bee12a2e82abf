//! AdamW over named parameters.

use std::collections::BTreeMap;

use candle_core::Tensor;
use epitome_kernels::{self as kernels, AdamW};
use epitome_model::Parameters;

use crate::{Gradients, OptimConfig, Result};

/// Moments and update counts by parameter name. A parameter without a gradient is not touched: neither decayed nor counted.
#[derive(Debug, Default)]
pub struct Optimizer {
    moments: BTreeMap<String, Tensor>,
    updates: BTreeMap<String, usize>,
}

impl Optimizer {
    /// An optimizer that continues from saved moments and counts.
    pub(crate) fn restore(moments: BTreeMap<String, Tensor>, updates: BTreeMap<String, usize>) -> Self {
        Self { moments, updates }
    }

    /// Moments by parameter name, each `[2, ...]`: first and second.
    pub(crate) fn moments(&self) -> &BTreeMap<String, Tensor> {
        &self.moments
    }

    /// Updates made per parameter.
    pub(crate) fn updates(&self) -> &BTreeMap<String, usize> {
        &self.updates
    }

    /// One update of every parameter that has a gradient; the gradients are multiplied by the clipping coefficient on the
    /// way, which follows from their L2 `norm`. Biases and layer norms are not decayed.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients,
        norm: f64,
        config: &OptimConfig,
        learning_rate: f64,
    ) -> Result<()> {
        let coefficient = clip_coefficient(norm, config.max_grad_norm) as f32;
        for (name, parameter) in parameters.iter() {
            let Some(gradient) = gradients.get(name) else { continue };
            if !self.moments.contains_key(name) {
                let shape = [&[2], parameter.dims()].concat();
                let zeros = Tensor::zeros(shape, parameter.dtype(), parameter.device())?;
                self.moments.insert(name.to_owned(), zeros);
            }
            let step = self.updates.entry(name.to_owned()).or_insert(0);
            *step += 1;
            let hyper = AdamW {
                learning_rate,
                beta1: config.adam_beta1,
                beta2: config.adam_beta2,
                epsilon: config.adam_epsilon,
                weight_decay: if is_decayed(name) { config.weight_decay } else { 0.0 },
                step: *step,
            };
            kernels::adamw_step(parameter, &self.moments[name], gradient, coefficient, &hyper)?;
        }
        Ok(())
    }
}

/// PyTorch's `clip_grad_norm_`: `min(1, max_norm / (norm + 1e-6))`; 0 turns clipping off.
fn clip_coefficient(norm: f64, max_norm: f64) -> f64 {
    if max_norm == 0.0 { 1.0 } else { (max_norm / (norm + 1e-6)).min(1.0) }
}

/// Weight matrices and embeddings are decayed, biases and layer norms are not.
fn is_decayed(name: &str) -> bool {
    !(name.ends_with(".bias") || name.contains("layer_norm") || name.contains("layernorm"))
}

#[cfg(test)]
mod tests {
    use super::{clip_coefficient, is_decayed};

    #[test]
    fn clipping_scales_down_only() {
        assert_eq!(clip_coefficient(0.5, 1.0), 1.0);
        assert!((clip_coefficient(4.0, 1.0) - 0.25).abs() < 1e-6);
        assert_eq!(clip_coefficient(4.0, 0.0), 1.0);
    }

    #[test]
    fn biases_and_norms_are_not_decayed() {
        assert!(is_decayed("led.shared.weight"));
        assert!(is_decayed("led.encoder.layers.0.fc1.weight"));
        assert!(!is_decayed("led.encoder.layers.0.fc1.bias"));
        assert!(!is_decayed("led.encoder.layernorm_embedding.weight"));
        assert!(!is_decayed("led.decoder.layers.1.encoder_attn_layer_norm.weight"));
    }
}
