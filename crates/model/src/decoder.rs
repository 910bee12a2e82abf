//! The decoder: a standard transformer decoder with cross-attention to the encoded document.

use std::ops::Range;

use candle_core::Tensor;
use epitome_kernels::Segments;

use crate::cache::LayerMemory;
use crate::decoder_layer::{DecoderInputs, DecoderLayer};
use crate::layers::Embedding;
use crate::schema::DECODER_POSITIONS;
use crate::step_input::StepInput;
use crate::weights::Source;
use crate::{Config, CrossMemory, DecoderCache, Dropouts, GradientSums, Keep, Result};

/// Distinguishes the decoder's dropout masks from the encoder's.
pub(crate) const STACK: usize = 1;

/// The summary decoder. Its steps are public so that training can run them one at a time.
#[derive(Clone, Debug)]
pub struct Decoder {
    embedding: Embedding,
    layers: Vec<DecoderLayer>,
}

impl Decoder {
    pub(crate) fn load(config: &Config, source: Source<'_>, shared: &Tensor) -> Result<Self> {
        let positions = (DECODER_POSITIONS, config.max_decoder_position_embeddings);
        Ok(Self {
            embedding: Embedding::load(source, "led.decoder", positions, shared)?,
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

    /// One step for the rows of `cache`: the last token of each row in, hidden states `[R, d]` out, in memory that may be that of
    /// the next step's. `rows` says how many consecutive rows belong to each document of `memory`, none for a finished one.
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
        self.step_to(last, rows, memory, cache, (0, Ok))
    }

    /// One step, and what `end` makes of its hidden states by packed layers: on a GPU they are launched as one, where other steps of
    /// this `kind` have the same end. Kind 0 has none.
    pub(crate) fn step_to(
        &self,
        last: &[u32],
        rows: &Segments,
        memory: &CrossMemory,
        cache: &mut DecoderCache,
        (kind, end): (usize, impl Fn(Tensor) -> Result<Tensor>),
    ) -> Result<Tensor> {
        let DecoderCache { layers: caches, step, .. } = cache.attending_to(memory);
        let positions = &self.embedding.positions;
        let tables = [self.embedding.shared.dim(0)?, positions.dim(0)?];
        step.advance(last, (rows, memory.sources()), tables, positions.device())?;
        let is_packed = self.layers.iter().all(|layer| layer.encoder_attn.is_packed());
        step.run((is_packed && memory.is_kept()).then_some(kind), |step| {
            let mut input = StepInput::Rows(self.embedding.normalise(&self.embedding.step(step)?, None)?);
            for (layer, cache) in self.layers.iter().zip(caches.iter_mut()) {
                input = layer.step(&input, step, memory, cache)?;
            }
            end(input.rows()?)
        })
    }
}
