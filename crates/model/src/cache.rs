//! What decoding keeps between steps. It belongs to the caller; the model only reads and appends.

use candle_core::Tensor;
use epitome_kernels::{AttentionMemory, KeyValueRows, Segments, cached_attention};

use crate::pooling::Pooling;
use crate::{Error, Result};

/// What every decoder layer attends to in the encoded documents, once per document and shared by its beams.
#[derive(Clone, Debug)]
pub struct CrossMemory {
    layers: Vec<LayerMemory>,
    sources: Segments,
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
        Self { layers, sources }
    }

    pub(crate) fn layer(&self, index: usize) -> &LayerMemory {
        &self.layers[index]
    }

    /// Which rows belong to which document.
    pub fn sources(&self) -> &Segments {
        &self.sources
    }
}

/// Keys and values of the generated tokens. Every step appends one row per hypothesis; which rows a hypothesis has come
/// through is a table of row numbers, so that reordering the beams moves no keys and values.
#[derive(Clone, Debug)]
pub struct DecoderCache {
    layers: Vec<KeyValueRows>,
    ancestors: Vec<Vec<u32>>,
    position: usize,
    stored: usize,
}

impl DecoderCache {
    /// An empty cache for `rows` hypotheses of a decoder with `layers` layers.
    pub fn new(layers: usize, rows: usize) -> Self {
        Self {
            layers: vec![KeyValueRows::default(); layers],
            ancestors: vec![Vec::new(); rows],
            position: 0,
            stored: 0,
        }
    }

    /// How many tokens each hypothesis holds.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Row r of the next step continues row `parents[r]` of the last one. Hypotheses that nobody continues leave.
    pub fn reorder(&mut self, parents: &[usize]) {
        self.ancestors = parents.iter().map(|&parent| self.ancestors[parent].clone()).collect();
    }

    /// Opens the next step and returns its row in a position table of `table` rows, which is tiled.
    pub(crate) fn advance(&mut self, rows: usize, table: usize) -> Result<u32> {
        if rows != self.ancestors.len() {
            return Err(Error::Input(format!(
                "a decoder step of {rows} rows, but the cache holds {}",
                self.ancestors.len()
            )));
        }
        for (row, ancestors) in self.ancestors.iter_mut().enumerate() {
            ancestors.push((self.stored + row) as u32);
        }
        self.stored += rows;
        self.position += 1;
        Ok(((self.position - 1) % table) as u32)
    }

    /// Appends the step's keys and values `[R, H, D]` to a layer and attends to all of each row's past, `[R, H, D]`.
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        query: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        scale: f32,
    ) -> Result<Tensor> {
        self.layers[layer].append(keys, values)?;
        Ok(cached_attention(query, &self.layers[layer], &self.ancestors, scale)?)
    }
}
