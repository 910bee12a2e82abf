//! What decoding keeps between steps. It belongs to the caller; the model only reads and appends.

use std::sync::Arc;

use candle_core::Tensor;
use epitome_kernels::{AttentionMemory, DecodingStep, KeyValueRows, Segments};

use crate::pooling::Pooling;

/// What every decoder layer attends to in the encoded documents, once per document and shared by its beams.
#[derive(Clone, Debug)]
pub struct CrossMemory {
    layers: Vec<LayerMemory>,
    sources: Segments,
    /// The same in all copies.
    identity: Arc<()>,
}

/// What a layer attends to.
#[derive(Clone, Debug)]
pub(crate) enum LayerMemory {
    /// Keys and values.
    Kept(AttentionMemory),
    /// The encoded documents themselves, `[S, d]`: less memory, more work in each step.
    Folded {
        /// The layer's key and value projections.
        pooling: Pooling,
        /// The same tensor in all layers.
        encoded: Tensor,
    },
}

impl CrossMemory {
    pub(crate) fn new(layers: Vec<LayerMemory>, sources: Segments) -> Self {
        Self { layers, sources, identity: Arc::default() }
    }

    pub(crate) fn layer(&self, index: usize) -> &LayerMemory {
        &self.layers[index]
    }

    /// Whether all layers keep keys and values.
    pub(crate) fn is_kept(&self) -> bool {
        self.layers.iter().all(|layer| matches!(layer, LayerMemory::Kept(_)))
    }

    /// Which rows belong to which document.
    pub fn sources(&self) -> &Segments {
        &self.sources
    }
}

/// Keys and values of the generated tokens. Every step appends one row per hypothesis; which rows a hypothesis has come
/// through is a table of row numbers, so that reordering the beams moves no keys and values.
#[derive(Debug)]
pub struct DecoderCache {
    pub(crate) layers: Vec<KeyValueRows>,
    pub(crate) step: DecodingStep,
    /// What the last step attended to.
    memory: Option<Arc<()>>,
}

impl DecoderCache {
    /// An empty cache for `rows` hypotheses of a decoder with `layers` layers.
    pub fn new(layers: usize, rows: usize) -> Self {
        Self {
            layers: (0..layers).map(|_| KeyValueRows::default()).collect(),
            step: DecodingStep::new(rows),
            memory: None,
        }
    }

    /// How many tokens each hypothesis holds.
    pub fn position(&self) -> usize {
        self.step.length()
    }

    /// The same for a step that attends to `memory`.
    pub(crate) fn attending_to(&mut self, memory: &CrossMemory) -> &mut Self {
        if !self.memory.as_ref().is_some_and(|last| Arc::ptr_eq(last, &memory.identity)) {
            self.step.forget();
            self.memory = Some(memory.identity.clone());
        }
        self
    }

    /// Row r of the next step continues row `parents[r]` of the last one. Hypotheses that nobody continues leave.
    pub fn reorder(&mut self, parents: &[usize]) {
        self.step.reorder(parents);
    }
}
