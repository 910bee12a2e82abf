//! The decoder: a standard transformer decoder with cross-attention to the encoded document.

use std::ops::Range;

use candle_core::Tensor;
use epitome_kernels::{DecodingStep, KeyValueRows, Precision, Segments, Visibility};

use crate::attention::{AttentionKept, MultiHeadAttention, Scope};
use crate::cache::LayerMemory;
use crate::feed_forward::{FeedForward, FeedForwardKept};
use crate::layers::{Embedding, LayerNorm, Site, at, residual_sum};
use crate::step_input::StepInput;
use crate::weights::Source;
use crate::{Config, CrossMemory, DecoderCache, Dropouts, Error, GradientSums, Keep, Result};

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

/// What a forward pass keeps of a layer for its backward pass: its input and, as asked, more.
#[derive(Debug)]
pub struct DecoderLayerKept {
    hidden: Tensor,
    self_attn: AttentionKept,
    /// The output of self-attention, and that of its sublayer, which the layer norm ends.
    self_attended: Option<Tensor>,
    query: Option<Tensor>,
    encoder_attn: AttentionKept,
    /// Those of cross-attention.
    cross_attended: Option<Tensor>,
    middle: Option<Tensor>,
    feed_forward: FeedForwardKept,
}

/// What a decoder layer is run on besides its input: the documents of its rows, and the encoded documents `[S, d]`.
#[derive(Clone, Copy, Debug)]
pub struct DecoderInputs<'a> {
    /// Which document each row belongs to.
    pub targets: &'a Segments,
    /// The encoded documents, `[S, d]`.
    pub encoded: &'a Tensor,
    /// Which of its rows belong to which document.
    pub sources: &'a Segments,
    /// Those of the whole forward pass.
    pub dropouts: Option<Dropouts>,
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

    /// The position table, `[P, d]`.
    pub fn position_table(&self) -> &Tensor {
        &self.embedding.positions
    }

    /// Rows of the position table that packed decoder inputs read, `[T]`.
    pub fn position_ids(&self, targets: &Segments) -> Vec<u32> {
        self.embedding.position_ids(targets)
    }

    /// Token plus position embedding of packed decoder inputs, `[T, d]`.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary.
    pub fn embedding_sum(&self, ids: &[u32], targets: &Segments) -> Result<Tensor> {
        self.embedding.sum(ids, &self.position_ids(targets))
    }

    /// `dropout(layernorm_embedding(sum))`, `[T, d]`.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn normalise_embedding(&self, sum: &Tensor, dropouts: Option<Dropouts>) -> Result<Tensor> {
        self.embedding.normalise(sum, dropouts.map(|all| all.part(STACK).part(0)))
    }

    /// The gradient of [`Decoder::embedding_sum`], given that of [`Decoder::normalise_embedding`]'s result.
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

    /// Hidden states of packed decoder inputs `[T]` (`targets` says which document each belongs to) given the encoded
    /// documents `[S, d]` packed by `sources`: teacher forcing. `[T, d]`.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, or an operation fails.
    pub fn forward(&self, ids: &[u32], targets: &Segments, encoded: &Tensor, sources: &Segments) -> Result<Tensor> {
        let mut hidden = self.normalise_embedding(&self.embedding_sum(ids, targets)?, None)?;
        let inputs = DecoderInputs { targets, encoded, sources, dropouts: None };
        for layer in &self.layers {
            hidden = layer.forward(&hidden, inputs, Keep::Input)?.0;
        }
        Ok(hidden)
    }

    /// Bytes of the keys and values of a document of `tokens` tokens, in all layers.
    pub fn memory_bytes(&self, tokens: usize) -> usize {
        let precision = self.layers.first().map_or_else(Precision::default, |layer| layer.encoder_attn.precision());
        let width = self.embedding.positions.dims()[1];
        2 * self.layers.len() * tokens * width * bytes_of(precision)
    }

    /// What all layers attend to in the encoded documents `[S, d]`: with `keep` their keys and values, computed once and
    /// shared by a document's beams; else the documents themselves, into which each step folds its queries, which takes
    /// less memory and more time and is the same up to rounding.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn cross_memory(&self, encoded: &Tensor, sources: &Segments, keep: bool) -> Result<CrossMemory> {
        let memory = |layer: &DecoderLayer| {
            Ok(if keep {
                LayerMemory::Kept(layer.encoder_attn.memory(encoded, sources)?)
            } else {
                LayerMemory::Folded { pooling: layer.encoder_attn.pooling()?, encoded: encoded.clone() }
            })
        };
        Ok(CrossMemory::new(self.layers.iter().map(memory).collect::<Result<_>>()?, sources.clone()))
    }

    /// Where the cross-attention lies while decoder inputs `[T]` are read, each packed by `targets`: for every row the mass
    /// that it has on each of its document's `spans` of tokens, which are ascending and do not overlap, in the mean over
    /// layers and heads. What lies on other tokens is what is missing to 1. `rows` says how many consecutive rows belong to
    /// each document of `memory`; a document may have several targets.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, the spans do not fit the documents, or an operation fails.
    pub fn attention_mass(
        &self,
        ids: &[u32],
        targets: &Segments,
        memory: &CrossMemory,
        rows: &Segments,
        spans: &[Vec<Range<usize>>],
    ) -> Result<Vec<Vec<f32>>> {
        let mut hidden = self.normalise_embedding(&self.embedding_sum(ids, targets)?, None)?;
        let mut means: Vec<Vec<f32>> = vec![Vec::new(); ids.len()];
        for layer in &self.layers {
            let (output, masses) = layer.read_with_mass(&hidden, targets, memory, rows, spans)?;
            for (mean, masses) in means.iter_mut().zip(masses) {
                mean.resize(masses.len(), 0.0);
                mean.iter_mut().zip(masses).for_each(|(mean, mass)| *mean += mass / self.layers.len() as f32);
            }
            hidden = output;
        }
        Ok(means)
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
        let DecoderCache { layers: caches, step, .. } = cache.attending_to(memory);
        let positions = &self.embedding.positions;
        let tables = [self.embedding.shared.dim(0)?, positions.dim(0)?];
        step.advance(last, (rows, memory.sources()), tables, positions.device())?;
        let is_packed = self.layers.iter().all(|layer| layer.encoder_attn.is_packed());
        step.run(is_packed && memory.is_kept(), |step| {
            let mut input = StepInput::Rows(self.embedding.normalise(&self.embedding.step(step)?, None)?);
            for (layer, cache) in self.layers.iter().zip(caches.iter_mut()) {
                input = layer.step(&input, step, memory, cache)?;
            }
            input.rows()
        })
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

    /// Teacher forcing: `[T, d]` to `[T, d]`, and what the backward pass is given.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn forward(
        &self,
        hidden: &Tensor,
        inputs: DecoderInputs<'_>,
        keep: Keep,
    ) -> Result<(Tensor, DecoderLayerKept)> {
        let dropouts = self.dropouts(inputs);
        let (self_attended, self_attn) = self.self_attn.forward(hidden, hidden, self_scope(inputs, dropouts), keep)?;
        let sum = residual_sum(&self_attended, hidden, at(dropouts, Site::SelfAttentionOutput));
        let query = self.self_attn_layer_norm.add(sum)?;
        let (cross_attended, encoder_attn) =
            self.encoder_attn.forward(&query, inputs.encoded, cross_scope(inputs, dropouts), keep)?;
        let sum = residual_sum(&cross_attended, &query, at(dropouts, Site::CrossAttentionOutput));
        let middle = self.encoder_attn_layer_norm.add(sum)?;
        let (output, feed_forward) = self.feed_forward.forward(&middle, dropouts, keep)?;
        let at_least = |least: Keep, tensor: Tensor| (keep >= least).then_some(tensor);
        let kept = DecoderLayerKept {
            hidden: hidden.clone(),
            self_attn,
            self_attended: at_least(Keep::Outputs, self_attended),
            query: at_least(Keep::Everything, query),
            encoder_attn,
            cross_attended: at_least(Keep::Outputs, cross_attended),
            middle: at_least(Keep::Everything, middle),
            feed_forward,
        };
        Ok((output, kept))
    }

    /// The gradient of the input `[T, d]`, given that of the output; adds that of the encoded documents to
    /// `encoded_gradient`, if anything asks for it, and those of the parameters.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn backward(
        &self,
        kept: DecoderLayerKept,
        gradient: &Tensor,
        inputs: DecoderInputs<'_>,
        encoded_gradient: Option<&Tensor>,
        sums: &mut dyn GradientSums,
    ) -> Result<Tensor> {
        let dropouts = self.dropouts(inputs);
        let kept = match kept {
            DecoderLayerKept { hidden, self_attended: None, .. } => self.forward(&hidden, inputs, Keep::Everything)?.1,
            kept => kept,
        };
        let DecoderLayerKept {
            hidden,
            self_attn,
            self_attended,
            query,
            encoder_attn,
            cross_attended,
            middle,
            feed_forward,
        } = kept;
        let (Some(self_attended), Some(cross_attended)) = (self_attended, cross_attended) else {
            return Err(Error::Input("a decoder layer kept one attention's output without the other's".into()));
        };
        let self_sum = residual_sum(&self_attended, &hidden, at(dropouts, Site::SelfAttentionOutput));
        let query = query.map_or_else(|| self.self_attn_layer_norm.add(self_sum), Ok)?;
        let cross_sum = residual_sum(&cross_attended, &query, at(dropouts, Site::CrossAttentionOutput));
        let middle = middle.map_or_else(|| self.encoder_attn_layer_norm.add(cross_sum), Ok)?;
        let gradient = self.feed_forward.backward(&middle, &feed_forward, gradient, dropouts, sums)?;
        drop(middle);

        let [sum, gradient] =
            self.encoder_attn_layer_norm.add_backward(cross_sum, self.encoder_attn.output(), &gradient, sums)?;
        let scope = cross_scope(inputs, dropouts);
        let targets = (&sum, encoded_gradient);
        self.encoder_attn.backward((&query, inputs.encoded), encoder_attn, &gradient, scope, targets, sums)?;

        let [sum, gradient] = self.self_attn_layer_norm.add_backward(self_sum, self.self_attn.output(), &sum, sums)?;
        let scope = self_scope(inputs, dropouts);
        self.self_attn.backward((&hidden, &hidden), self_attn, &gradient, scope, (&sum, Some(&sum)), sums)?;
        Ok(sum)
    }

    fn step(
        &self,
        input: &StepInput<'_>,
        step: &DecodingStep,
        memory: &CrossMemory,
        cache: &mut KeyValueRows,
    ) -> Result<StepInput<'_>> {
        let [residual, x] = self.self_attn.attend_past(input, step, cache)?;
        let query = StepInput::Sum { x, residual, norm: &self.self_attn_layer_norm };
        let [residual, x] = self.encoder_attn.attend_memory(&query, memory, self.index, step)?;
        self.feed_forward.step(&StepInput::Sum { x, residual, norm: &self.encoder_attn_layer_norm })
    }

    /// Teacher forcing over what decoding keeps of the documents: `[T, d]` to `[T, d]`, and each row's masses.
    fn read_with_mass(
        &self,
        hidden: &Tensor,
        targets: &Segments,
        memory: &CrossMemory,
        rows: &Segments,
        spans: &[Vec<Range<usize>>],
    ) -> Result<(Tensor, Vec<Vec<f32>>)> {
        let causal = &Visibility::Causal { past: 0 };
        let scope = Scope { queries: targets, keys: targets, visibility: causal, dropout: None };
        let attended = self.self_attn.forward(hidden, hidden, scope, Keep::Input)?.0;
        let query = self.self_attn_layer_norm.add(residual_sum(&attended, hidden, None))?;
        let (attended, masses) = self.encoder_attn.attend_memory_with_mass(&query, memory, self.index, rows, spans)?;
        let middle = self.encoder_attn_layer_norm.add(residual_sum(&attended, &query, None))?;
        Ok((self.feed_forward.forward(&middle, None, Keep::Input)?.0, masses))
    }

    fn dropouts(&self, inputs: DecoderInputs<'_>) -> Option<Dropouts> {
        inputs.dropouts.map(|all| all.part(STACK).part(self.index + 1))
    }
}

/// Bytes of a number of kept keys and values.
fn bytes_of(precision: Precision) -> usize {
    match precision {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
        Precision::Int8 => 1,
    }
}

fn self_scope<'a>(inputs: DecoderInputs<'a>, dropouts: Option<Dropouts>) -> Scope<'a> {
    let targets = inputs.targets;
    let dropout = at(dropouts, Site::SelfAttention);
    Scope { queries: targets, keys: targets, visibility: &Visibility::Causal { past: 0 }, dropout }
}

fn cross_scope<'a>(inputs: DecoderInputs<'a>, dropouts: Option<Dropouts>) -> Scope<'a> {
    let dropout = at(dropouts, Site::CrossAttention);
    Scope { queries: inputs.targets, keys: inputs.sources, visibility: &Visibility::Full, dropout }
}
