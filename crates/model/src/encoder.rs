//! The encoder: embeddings and post-LN layers of windowed self-attention and feed-forward.

use candle_core::Tensor;

use crate::layers::{Embedding, FeedForward, LayerNorm, Site, at};
use crate::longformer_attention::LongformerSelfAttention;
use crate::weights::Source;
use crate::{Config, Documents, Dropouts, Result};

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

impl Encoder {
    pub(crate) fn load(config: &Config, source: Source<'_>, shared: &Tensor) -> Result<Self> {
        let rows = config.max_encoder_position_embeddings;
        Ok(Self {
            embedding: Embedding::load(source, "led.encoder", shared, rows)?,
            layers: (0..config.encoder_layers)
                .map(|index| EncoderLayer::load(config, source, index))
                .collect::<Result<_>>()?,
        })
    }

    /// The layers, first to last.
    pub fn layers(&self) -> &[EncoderLayer] {
        &self.layers
    }

    /// Rows of the position table that the documents' tokens read, `[T]`.
    ///
    /// # Errors
    /// When the table has no rows.
    pub fn position_ids(&self, documents: &Documents) -> Result<Vec<u32>> {
        self.embedding.position_ids(documents.segments())
    }

    /// Token plus position embedding, `[T, d]`, outside the graph.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary.
    pub fn embedding_sum(&self, documents: &Documents) -> Result<Tensor> {
        self.embedding.sum(documents.ids(), &self.position_ids(documents)?)
    }

    /// `dropout(layernorm_embedding(sum))`, `[T, d]`.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn normalise_embedding(&self, sum: &Tensor, dropouts: Option<Dropouts>) -> Result<Tensor> {
        self.embedding.normalise(sum, dropouts.map(|all| all.part(STACK).part(0)))
    }

    /// Hidden states of all documents, `[T, d]`.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, or an operation fails.
    pub fn forward(&self, documents: &Documents, dropouts: Option<Dropouts>) -> Result<Tensor> {
        let mut hidden = self.normalise_embedding(&self.embedding_sum(documents)?, dropouts)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, documents, dropouts)?;
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

    /// `[T, d]` to `[T, d]`. `dropouts` are those of the whole forward pass.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn forward(&self, hidden: &Tensor, documents: &Documents, dropouts: Option<Dropouts>) -> Result<Tensor> {
        let dropouts = dropouts.map(|all| all.part(STACK).part(self.index + 1));
        let attended = self.self_attn.forward(hidden, documents, dropouts)?;
        let hidden = self.self_attn_layer_norm.add(&attended, hidden, at(dropouts, Site::SelfAttentionOutput))?;
        self.feed_forward.forward(&hidden, dropouts)
    }
}
