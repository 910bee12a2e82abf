//! What is trained, as far as memory depends on it.

use epitome_model::{Config, ParameterKind, SHARED, parameter_shapes};

use super::F32;
use crate::frozen::{Frozen, reached_layers};
use crate::{OptimConfig, Result, optimizer};

/// The trained part of a model, and what an optimizer keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trained {
    /// Bytes of the optimizer's state and of averaged weights.
    pub(super) kept: usize,
    /// Bytes of the gradients of the shared embedding, of all else but the encoder, and of the encoder.
    shared: usize,
    decoder: usize,
    encoder: usize,
    /// Layers that the backward pass reaches.
    pub(super) encoder_layers: usize,
    pub(super) decoder_layers: usize,
}

impl Trained {
    /// All parameters, by AdamW.
    pub fn all(config: &Config) -> Self {
        Self::new(config, &OptimConfig::default()).expect("without groups every parameter is trained")
    }

    /// What `optim` says.
    ///
    /// # Errors
    /// When a group's pattern matches no parameter, or all are frozen.
    pub fn new(config: &Config, optim: &OptimConfig) -> Result<Self> {
        let mut shapes = parameter_shapes(config);
        shapes.retain(|parameter| parameter.kind != ParameterKind::Buffer);
        let names: Vec<&str> = shapes.iter().map(|parameter| parameter.name.as_str()).collect();
        let trained = optimizer::trained(optim, &names)?;
        let is_trained = |name: &str| trained.contains(name);
        let frozen = Frozen::new(&names, is_trained);
        let (mut shared, mut decoder, mut encoder, mut kept) = (0, 0, 0, 0);
        for parameter in shapes.iter().filter(|parameter| is_trained(&parameter.name)) {
            let bytes = parameter.shape.iter().product::<usize>() * F32;
            let gradient = match parameter.name.as_str() {
                SHARED => &mut shared,
                name if name.starts_with("led.encoder.") => &mut encoder,
                _ => &mut decoder,
            };
            *gradient += bytes;
            kept += optimizer::state_bytes(optim, &parameter.shape) + if optim.ema_decay.is_some() { bytes } else { 0 };
        }
        Ok(Self {
            kept,
            shared,
            decoder,
            encoder,
            encoder_layers: reached_layers(frozen.encoder_start, config.encoder_layers),
            decoder_layers: reached_layers(frozen.decoder_start, config.decoder_layers),
        })
    }

    /// Bytes of gradients while the last decoder layer, the last encoder layer and the first one are gone through. An
    /// update's first micro-batch makes them one by one; before a later one all `exist`.
    pub(super) fn gradients(&self, exist: bool) -> [usize; 3] {
        let all = self.shared + self.decoder + self.encoder;
        if exist { [all; 3] } else { [self.shared, self.shared + self.decoder, all] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GroupConfig, OptimizerName};

    #[test]
    fn what_is_frozen_or_kept_otherwise_counts() {
        let config = Config::default();
        let all = Trained::all(&config);
        assert_eq!((all.encoder_layers, all.decoder_layers), (config.encoder_layers, config.decoder_layers));
        assert_eq!(all.kept, 2 * all.gradients(true)[0]);
        let averaged = OptimConfig { ema_decay: Some(0.99), ..OptimConfig::default() };
        assert_eq!(Trained::new(&config, &averaged).unwrap().kept, 3 * all.gradients(true)[0]);
        let adafactor = OptimConfig { optimizer: OptimizerName::Adafactor, ..OptimConfig::default() };
        assert!(Trained::new(&config, &adafactor).unwrap().kept < all.kept / 100);
        let group = |pattern: &str| GroupConfig { pattern: pattern.into(), frozen: true, ..GroupConfig::default() };
        let groups = vec![group("encoder.*"), group("shared*")];
        let decoder = Trained::new(&config, &OptimConfig { groups, ..OptimConfig::default() }).unwrap();
        assert_eq!((decoder.encoder_layers, decoder.decoder_layers), (0, config.decoder_layers));
        assert_eq!(decoder.gradients(false), [0, all.decoder, all.decoder]);
    }
}
