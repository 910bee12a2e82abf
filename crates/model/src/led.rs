//! The whole network.

use std::sync::Arc;

use candle_core::Tensor;
use epitome_kernels::{self as kernels, PackedLinear, Precision};

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
    /// The head, once packed.
    packed_head: Option<Arc<PackedLinear>>,
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
            packed_head: None,
        })
    }

    /// The same network for inference: its weights are copied into the order in which products read them, and the copied
    /// tensors are let go. In f32 results are the same to the bit.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn packed(mut self, precision: Precision) -> Result<Self> {
        self.encoder.pack(precision)?;
        self.decoder.pack(precision)?;
        self.packed_head = Some(Arc::new(PackedLinear::new(&self.shared, Some(&self.final_logits_bias), precision)?));
        Ok(self)
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
        Ok(match &self.packed_head {
            Some(head) => head.forward(hidden)?,
            None => kernels::linear(hidden, &self.shared, Some(&self.final_logits_bias))?,
        })
    }
}
