//! The encoder: embeddings and post-LN layers of windowed self-attention and feed-forward.

use candle_core::Tensor;

use crate::feed_forward::{FeedForward, FeedForwardKept};
use crate::layers::{Embedding, LayerNorm, Site, at, residual_sum};
use crate::longformer_attention::{LongformerSelfAttention, SelfAttentionKept};
use crate::schema::ENCODER_POSITIONS;
use crate::weights::Source;
use crate::{Config, Documents, Dropouts, GradientSums, Keep, Result};

/// Distinguishes the encoder's dropout masks from the decoder's.
const STACK: usize = 0;

/// The document encoder. Its steps are public so that training can run them one at a time.
#[derive(Clone, Debug)]
pub struct Encoder {
    embedding: Embedding,
    layers: Vec<EncoderLayer>,
}

/// One encoder layer.
#[derive(Clone, Debug)]
pub struct EncoderLayer {
    index: usize,
    self_attn: LongformerSelfAttention,
    self_attn_layer_norm: LayerNorm,
    feed_forward: FeedForward,
}

/// What a forward pass keeps of a layer for its backward pass: its input and, as asked, more.
#[derive(Debug)]
pub struct EncoderLayerKept {
    hidden: Tensor,
    attention: SelfAttentionKept,
    /// The output of attention.
    attended: Option<Tensor>,
    /// That of its sublayer, which the layer norm ends.
    middle: Option<Tensor>,
    feed_forward: FeedForwardKept,
}

impl Encoder {
    pub(crate) fn load(config: &Config, source: Source<'_>, shared: &Tensor) -> Result<Self> {
        let positions = (ENCODER_POSITIONS, config.max_encoder_position_embeddings);
        Ok(Self {
            embedding: Embedding::load(source, "led.encoder", positions, shared)?,
            layers: (0..config.encoder_layers)
                .map(|index| EncoderLayer::load(config, source, index))
                .collect::<Result<_>>()?,
        })
    }

    /// The layers, first to last.
    pub fn layers(&self) -> &[EncoderLayer] {
        &self.layers
    }

    /// The position table, `[P, d]`.
    pub fn position_table(&self) -> &Tensor {
        &self.embedding.positions
    }

    /// Rows of the position table that the documents' tokens read, `[T]`.
    pub fn position_ids(&self, documents: &Documents) -> Vec<u32> {
        self.embedding.position_ids(documents.segments())
    }

    /// Token plus position embedding, `[T, d]`.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary.
    pub fn embedding_sum(&self, documents: &Documents) -> Result<Tensor> {
        self.embedding.sum(documents.ids(), &self.position_ids(documents))
    }

    /// `dropout(layernorm_embedding(sum))`, `[T, d]`.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn normalise_embedding(&self, sum: &Tensor, dropouts: Option<Dropouts>) -> Result<Tensor> {
        self.embedding.normalise(sum, dropouts.map(|all| all.part(STACK).part(0)))
    }

    /// The gradient of [`Encoder::embedding_sum`], given that of [`Encoder::normalise_embedding`]'s result.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn embedding_backward(
        &self,
        sum: &Tensor,
        gradient: &Tensor,
        dropouts: Option<Dropouts>,
        sums: &mut dyn GradientSums,
    ) -> Result<Tensor> {
        self.embedding.backward(sum, gradient, dropouts.map(|all| all.part(STACK).part(0)), sums)
    }

    /// Hidden states of all documents, `[T, d]`.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, or an operation fails.
    pub fn forward(&self, documents: &Documents) -> Result<Tensor> {
        let mut hidden = self.normalise_embedding(&self.embedding_sum(documents)?, None)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, documents, None, Keep::Input)?.0;
        }
        Ok(hidden)
    }
}

impl EncoderLayer {
    fn load(config: &Config, source: Source<'_>, index: usize) -> Result<Self> {
        let prefix = format!("led.encoder.layers.{index}");
        let d = config.d_model;
        Ok(Self {
            index,
            self_attn: LongformerSelfAttention::load(source, &format!("{prefix}.self_attn"), config, index)?,
            self_attn_layer_norm: LayerNorm::load(source, &format!("{prefix}.self_attn_layer_norm"), d)?,
            feed_forward: FeedForward::load(source, &prefix, d, config.encoder_ffn_dim)?,
        })
    }

    /// `[T, d]` to `[T, d]`, and what the backward pass is given. `dropouts` are those of the whole forward pass.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn forward(
        &self,
        hidden: &Tensor,
        documents: &Documents,
        dropouts: Option<Dropouts>,
        keep: Keep,
    ) -> Result<(Tensor, EncoderLayerKept)> {
        let dropouts = self.dropouts(dropouts);
        let (attended, attention) = self.self_attn.forward(hidden, documents, dropouts, keep)?;
        let sum = residual_sum(&attended, hidden, at(dropouts, Site::SelfAttentionOutput));
        let middle = self.self_attn_layer_norm.add(sum)?;
        let (output, feed_forward) = self.feed_forward.forward(&middle, dropouts, keep)?;
        let attended = (keep >= Keep::Outputs).then_some(attended);
        let middle = (keep == Keep::Everything).then_some(middle);
        Ok((output, EncoderLayerKept { hidden: hidden.clone(), attention, attended, middle, feed_forward }))
    }

    /// The gradient of the input `[T, d]`, given that of the output; adds those of the parameters.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn backward(
        &self,
        kept: EncoderLayerKept,
        gradient: &Tensor,
        documents: &Documents,
        dropouts: Option<Dropouts>,
        sums: &mut dyn GradientSums,
    ) -> Result<Tensor> {
        let dropouts = self.dropouts(dropouts);
        let EncoderLayerKept { hidden, mut attention, attended, middle, feed_forward } = kept;
        let attended = match attended {
            Some(attended) => attended,
            None => {
                let (attended, again) = self.self_attn.forward(&hidden, documents, dropouts, Keep::Everything)?;
                attention = again;
                attended
            }
        };
        let sum = residual_sum(&attended, &hidden, at(dropouts, Site::SelfAttentionOutput));
        let middle = middle.map_or_else(|| self.self_attn_layer_norm.add(sum), Ok)?;
        let gradient = self.feed_forward.backward(&middle, &feed_forward, gradient, dropouts, sums)?;
        drop(middle);
        let [hidden_gradient, attended_gradient] =
            self.self_attn_layer_norm.add_backward(sum, self.self_attn.output(), &gradient, sums)?;
        drop((attended, gradient));
        self.self_attn.backward(
            &hidden,
            attention,
            &attended_gradient,
            (documents, dropouts),
            &hidden_gradient,
            sums,
        )?;
        Ok(hidden_gradient)
    }

    fn dropouts(&self, all: Option<Dropouts>) -> Option<Dropouts> {
        all.map(|all| all.part(STACK).part(self.index + 1))
    }
}
