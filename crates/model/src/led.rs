//! The whole network.

use candle_core::Tensor;
use epitome_kernels as kernels;

use crate::schema::{FINAL_LOGITS_BIAS, SHARED};
use crate::{Config, Decoder, Documents, Encoder, Result, Weights};

/// A LED model: encoder, decoder and the tied output head. Stateless: everything that changes is passed in.
#[derive(Clone, Debug)]
pub struct Led {
    config: Config,
    encoder: Encoder,
    decoder: Decoder,
    shared: Tensor,
    final_logits_bias: Tensor,
}

impl Led {
    /// Builds the network over `weights`; nothing is copied.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        let shared = weights.get(SHARED, &[config.vocab_size, config.d_model])?;
        let bias = weights.get(FINAL_LOGITS_BIAS, &[1, config.vocab_size])?;
        Ok(Self {
            config: config.clone(),
            encoder: Encoder::load(config, weights, &shared)?,
            decoder: Decoder::load(config, weights, &shared)?,
            final_logits_bias: bias.flatten_all()?,
            shared,
        })
    }

    /// The architecture.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The document encoder.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The summary decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The shared embedding, `[V, d]`: input of both stacks and output head (semantics B5).
    pub fn shared(&self) -> &Tensor {
        &self.shared
    }

    /// The bias on the logits, `[V]`.
    pub fn final_logits_bias(&self) -> &Tensor {
        &self.final_logits_bias
    }

    /// Hidden states of the documents, `[T, d]`.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, or an operation fails.
    pub fn encode(&self, documents: &Documents) -> Result<Tensor> {
        self.encoder.forward(documents, None)
    }

    /// Logits `[R, V]` of hidden states `[R, d]`.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(kernels::linear(hidden, &self.shared, Some(&self.final_logits_bias))?)
    }
}
