//! The decoder: a standard transformer decoder with cross-attention to the encoded document.

use candle_core::Tensor;
use epitome_kernels::{self as kernels, Attention, AttentionMemory, Dropout, Segments, Visibility};

use crate::layers::{Embedding, FeedForward, LayerNorm, Linear, Site, at};
use crate::weights::Source;
use crate::{Config, CrossMemory, DecoderCache, Dropouts, Result};

/// Distinguishes the decoder's dropout masks from the encoder's.
const STACK: usize = 1;

/// The summary decoder. Its steps are public so that training can run them one at a time.
#[derive(Clone, Debug)]
pub struct Decoder {
    embedding: Embedding,
    layers: Vec<DecoderLayer>,
}

/// One decoder layer.
#[derive(Clone, Debug)]
pub struct DecoderLayer {
    index: usize,
    self_attn: MultiHeadAttention,
    self_attn_layer_norm: LayerNorm,
    encoder_attn: MultiHeadAttention,
    encoder_attn_layer_norm: LayerNorm,
    feed_forward: FeedForward,
}

/// BART's attention with names as in its checkpoints.
#[derive(Clone, Debug)]
struct MultiHeadAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
    scale: f32,
}

impl Decoder {
    pub(crate) fn load(config: &Config, source: Source<'_>, shared: &Tensor) -> Result<Self> {
        let rows = config.max_decoder_position_embeddings;
        Ok(Self {
            embedding: Embedding::load(source, "led.decoder", shared, rows)?,
            layers: (0..config.decoder_layers)
                .map(|index| DecoderLayer::load(config, source, index))
                .collect::<Result<_>>()?,
        })
    }

    /// The layers, first to last.
    pub fn layers(&self) -> &[DecoderLayer] {
        &self.layers
    }

    /// Rows of the position table that packed decoder inputs read, `[T]`.
    ///
    /// # Errors
    /// When the table has no rows.
    pub fn position_ids(&self, targets: &Segments) -> Result<Vec<u32>> {
        self.embedding.position_ids(targets)
    }

    /// Token plus position embedding of packed decoder inputs, `[T, d]`, outside the graph.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary.
    pub fn embedding_sum(&self, ids: &[u32], targets: &Segments) -> Result<Tensor> {
        self.embedding.sum(ids, &self.position_ids(targets)?)
    }

    /// `dropout(layernorm_embedding(sum))`, `[T, d]`.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn normalise_embedding(&self, sum: &Tensor, dropouts: Option<Dropouts>) -> Result<Tensor> {
        self.embedding.normalise(sum, dropouts.map(|all| all.part(STACK).part(0)))
    }

    /// Hidden states of packed decoder inputs `[T]` (`targets` says which document each belongs to) given the encoded
    /// documents `[S, d]` packed by `sources`: teacher forcing. `[T, d]`.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, or an operation fails.
    pub fn forward(&self, ids: &[u32], targets: &Segments, encoded: &Tensor, sources: &Segments) -> Result<Tensor> {
        let mut hidden = self.normalise_embedding(&self.embedding_sum(ids, targets)?, None)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, targets, encoded, sources, None)?;
        }
        Ok(hidden)
    }

    /// Keys and values of the encoded documents for every layer, computed once and shared by a document's beams.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn cross_memory(&self, encoded: &Tensor, sources: &Segments) -> Result<CrossMemory> {
        let layers = self.layers.iter().map(|layer| layer.encoder_attn.memory(encoded, sources));
        Ok(CrossMemory::new(layers.collect::<Result<_>>()?, sources.clone()))
    }

    /// One step for the rows of `cache`: the last token of each row in, hidden states `[R, d]` out. `rows` says how many
    /// consecutive rows belong to each document of `memory`, none for a finished one.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, or an operation fails.
    pub fn step(
        &self,
        last: &[u32],
        rows: &Segments,
        memory: &CrossMemory,
        cache: &mut DecoderCache,
    ) -> Result<Tensor> {
        let position = cache.advance(last.len(), self.embedding.positions.dim(0)?)?;
        let sum = self.embedding.sum(last, &vec![position; last.len()])?;
        let mut hidden = self.embedding.normalise(&sum, None)?;
        for layer in &self.layers {
            hidden = layer.step(&hidden, rows, memory, cache)?;
        }
        Ok(hidden)
    }
}

impl DecoderLayer {
    fn load(config: &Config, source: Source<'_>, index: usize) -> Result<Self> {
        let prefix = format!("led.decoder.layers.{index}");
        let d = config.d_model;
        let norm = |name: &str| LayerNorm::load(source, &format!("{prefix}.{name}"), d);
        let attention = |name: &str| MultiHeadAttention::load(source, &format!("{prefix}.{name}"), config);
        Ok(Self {
            index,
            self_attn: attention("self_attn")?,
            self_attn_layer_norm: norm("self_attn_layer_norm")?,
            encoder_attn: attention("encoder_attn")?,
            encoder_attn_layer_norm: norm("encoder_attn_layer_norm")?,
            feed_forward: FeedForward::load(source, &prefix, d, config.decoder_ffn_dim)?,
        })
    }

    /// Teacher forcing: hidden `[T, d]` and encoded documents `[S, d]` to `[T, d]`. `dropouts` are those of the whole
    /// forward pass.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn forward(
        &self,
        hidden: &Tensor,
        targets: &Segments,
        encoded: &Tensor,
        sources: &Segments,
        dropouts: Option<Dropouts>,
    ) -> Result<Tensor> {
        let dropouts = dropouts.map(|all| all.part(STACK).part(self.index + 1));
        let causal = Visibility::Causal { past: 0 };
        let attended = self.self_attn.attend(
            hidden,
            &self.self_attn.keys_and_values(hidden)?,
            (targets, targets, causal),
            at(dropouts, Site::SelfAttention),
        )?;
        let hidden = self.self_attn_layer_norm.add(&attended, hidden, at(dropouts, Site::SelfAttentionOutput))?;
        let memory = self.encoder_attn.keys_and_values(encoded)?;
        let attended = self.encoder_attn.attend(
            &hidden,
            &memory,
            (targets, sources, Visibility::Full),
            at(dropouts, Site::CrossAttention),
        )?;
        self.end(&attended, &hidden, dropouts)
    }

    fn step(&self, hidden: &Tensor, rows: &Segments, memory: &CrossMemory, cache: &mut DecoderCache) -> Result<Tensor> {
        let attention = &self.self_attn;
        let query = attention.q_proj.heads(hidden, attention.heads)?;
        let (keys, values) = attention.keys_and_values(hidden)?;
        let context = cache.attend(self.index, &query, &keys, &values, attention.scale)?;
        let attended = attention.out_proj.forward(&context.reshape(hidden.shape())?)?;
        let hidden = self.self_attn_layer_norm.add(&attended, hidden, None)?;
        let attended = self.encoder_attn.attend_memory(&hidden, memory.layer(self.index), rows)?;
        self.end(&attended, &hidden, None)
    }

    /// What follows the cross-attention: `attended` is its output, `hidden` its input.
    fn end(&self, attended: &Tensor, hidden: &Tensor, dropouts: Option<Dropouts>) -> Result<Tensor> {
        let hidden = self.encoder_attn_layer_norm.add(attended, hidden, at(dropouts, Site::CrossAttentionOutput))?;
        self.feed_forward.forward(&hidden, dropouts)
    }
}

impl MultiHeadAttention {
    fn load(source: Source<'_>, prefix: &str, config: &Config) -> Result<Self> {
        let d = config.d_model;
        let projection = |name: &str| Linear::load(source, &format!("{prefix}.{name}"), d, d);
        let heads = config.decoder_attention_heads;
        Ok(Self {
            q_proj: projection("q_proj")?,
            k_proj: projection("k_proj")?,
            v_proj: projection("v_proj")?,
            out_proj: projection("out_proj")?,
            heads,
            scale: ((d / heads) as f32).powf(-0.5),
        })
    }

    /// `[S, d]` to keys and values `[S, H, D]`.
    fn keys_and_values(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.k_proj.heads(x, self.heads)?, self.v_proj.heads(x, self.heads)?))
    }

    /// Keys and values of encoded documents `[S, d]`, kept for decoding.
    fn memory(&self, encoded: &Tensor, sources: &Segments) -> Result<AttentionMemory> {
        let (keys, values) = self.keys_and_values(encoded)?;
        Ok(AttentionMemory::new(&keys, &values, sources, self.k_proj.precision())?)
    }

    /// Output of the attention of `hidden` `[R, d]` to what its documents keep, `[R, d]`.
    fn attend_memory(&self, hidden: &Tensor, memory: &AttentionMemory, rows: &Segments) -> Result<Tensor> {
        let context = memory.attend(&self.q_proj.heads(hidden, self.heads)?, rows, self.scale)?;
        self.out_proj.forward(&context.reshape(hidden.shape())?)
    }

    /// Output of the attention of `hidden` `[T, d]` to `keys` and `values` `[S, H, D]`, `[T, d]`.
    fn attend(
        &self,
        hidden: &Tensor,
        (keys, values): &(Tensor, Tensor),
        (queries, sources, visibility): (&Segments, &Segments, Visibility),
        dropout: Option<Dropout>,
    ) -> Result<Tensor> {
        let spec = Attention {
            queries: queries.clone(),
            keys: sources.clone(),
            visibility,
            scale: self.scale,
            dropout,
            precision: self.q_proj.precision(),
        };
        let context = kernels::attention(&self.q_proj.heads(hidden, self.heads)?, keys, values, spec)?;
        self.out_proj.forward(&context.reshape(hidden.shape())?)
    }
}
