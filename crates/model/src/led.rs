//! The whole network.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use epitome_kernels::{self as kernels, Device, PackedLinear, Precision, Segments};

use crate::schema::{FINAL_LOGITS_BIAS, SHARED};
use crate::weights::{Packing, Source};
use crate::{Config, CrossMemory, Decoder, DecoderCache, Documents, Encoder, Error, Result, TensorSource};

/// A LED model: encoder, decoder and the tied output head. Stateless: everything that changes is passed in.
#[derive(Clone, Debug)]
pub struct Led {
    config: Config,
    encoder: Encoder,
    decoder: Decoder,
    shared: Tensor,
    /// The same in the type of hidden states; there may be rows of zeros behind it.
    head: Tensor,
    final_logits_bias: Tensor,
    /// The head as decoding reads it, where that is not the table itself.
    packed_head: Option<Arc<PackedLinear>>,
}

impl Led {
    /// Builds the network over the tensors of `source`.
    ///
    /// # Errors
    /// When a tensor is missing, has the wrong shape or cannot be read.
    pub fn load(config: &Config, source: &dyn TensorSource) -> Result<Self> {
        Self::load_for_training(config, source, DType::F32)
    }

    /// The same with hidden states of another type than the tensors, which are in f32: what training on a GPU computes in.
    ///
    /// # Errors
    /// As [`Led::load`].
    pub fn load_for_training(config: &Config, source: &dyn TensorSource, activations: DType) -> Result<Self> {
        Self::build(config, Source { tensors: source, packed: None, activations })
    }

    /// The same network for inference on a device: weights are brought into the order in which products read them, one after the other,
    /// so that safetensors files are never in memory whole. On the CPU results in f32 are the same to the bit.
    ///
    /// # Errors
    /// As [`Led::load`], and when the device does not compute in this precision.
    pub fn load_packed(
        config: &Config,
        source: &dyn TensorSource,
        precision: Precision,
        device: &Device,
    ) -> Result<Self> {
        let activations = precision.activations(device)?;
        Self::build(config, Source { tensors: source, packed: Some(Packing { precision, device }), activations })
    }

    fn build(config: &Config, source: Source<'_>) -> Result<Self> {
        let shared = source.table(SHARED, &[config.vocab_size, config.d_model])?;
        let bias = source.get(FINAL_LOGITS_BIAS, &[1, config.vocab_size])?.flatten_all()?;
        let head = match source.packed {
            Some(_) => shared.clone(),
            None => source.head_in_activations(&shared, SHARED)?,
        };
        let pack = |table: &Tensor, precision| PackedLinear::new(table, Some(&bias), precision).map(Arc::new);
        let packed_head = match source.packed {
            Some(Packing { precision, .. }) => Some(pack(&shared, precision)?),
            // A GPU's products read the table where it lies, so that this is no copy and follows every change.
            None if kernels::is_gpu(head.device()) => {
                let table = head.narrow(0, 0, config.vocab_size)?;
                Some(pack(&table, if head.dtype() == DType::BF16 { Precision::Bf16 } else { Precision::F32 })?)
            }
            None => None,
        };
        Ok(Self {
            config: config.clone(),
            head,
            packed_head,
            encoder: Encoder::load(config, source, &shared)?,
            decoder: Decoder::load(config, source, &shared)?,
            final_logits_bias: bias,
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

    /// The shared embedding, `[V, d]`: input of both stacks and output head, as in `LEDForConditionalGeneration`.
    pub fn shared(&self) -> &Tensor {
        &self.shared
    }

    /// The shared embedding as the output head's products read it, in the type of hidden states, `[V, d]` or with a few rows of zeros
    /// behind it, as [`kernels::cross_entropy`] takes it.
    pub fn head(&self) -> &Tensor {
        &self.head
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
        self.encoder.forward(documents)
    }

    /// Whether [`Led::step_best`] is a short way to the most probable tokens.
    pub fn finds_best(&self) -> bool {
        self.packed_head.as_ref().is_some_and(|head| head.finds_best())
    }

    /// A step of the decoder (see [`Decoder::step`]), and of each of its hidden states the `count` most probable tokens with their
    /// log-probabilities (nats), the best first and of equal ones the first: see [`PackedLinear::find_best`]. Only where
    /// [`Led::finds_best`].
    ///
    /// # Errors
    /// As [`Decoder::step`].
    pub fn step_best(
        &self,
        last: &[u32],
        rows: &Segments,
        memory: &CrossMemory,
        cache: &mut DecoderCache,
        count: usize,
    ) -> Result<Vec<Vec<(u32, f32)>>> {
        let Some(head) = &self.packed_head else {
            return Err(Error::Input("a model that is not packed has no short way to the best tokens".into()));
        };
        // Counts change from step to step: of few kinds, most steps are ones that a GPU has been given before.
        let found = count.next_power_of_two().min(self.config.vocab_size).max(count);
        let end = |hidden: Tensor| Ok(head.find_best(&hidden, found)?);
        let mut best = kernels::read_best(&self.decoder.step_to(last, rows, memory, cache, (found, end))?)?;
        best.iter_mut().for_each(|tokens| tokens.truncate(count));
        Ok(best)
    }

    /// Logits of hidden states `[R, d]`: `logits` becomes `[R, V]`, row-major; a packed model uses its memory again.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn logits(&self, hidden: &Tensor, logits: &mut Vec<f32>) -> Result<()> {
        match &self.packed_head {
            Some(head) => head.forward_into(hidden, logits)?,
            None => {
                let table = self.head.narrow(0, 0, self.config.vocab_size)?;
                let tensor = kernels::linear(hidden, &table, Some(&self.final_logits_bias))?;
                *logits = tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
            }
        }
        Ok(())
    }
}
