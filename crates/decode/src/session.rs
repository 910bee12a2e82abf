//! [`LedSession`]: a LED model as the search sees it.

use std::ops::Range;

use epitome_kernels::Segments;
use epitome_model::{CrossMemory, DecoderCache, Documents, Led};

use crate::{BestTokens, Result, Stepper};

/// Decodes a batch of documents step by step. Cross-attention keys and values are computed once per document and shared
/// by its rows; the keys and values of generated tokens are appended and never moved.
pub struct LedSession<'a> {
    led: &'a Led,
    memory: CrossMemory,
    cache: DecoderCache,
    /// The document of each row.
    owners: Vec<usize>,
}

impl<'a> LedSession<'a> {
    /// Encodes the documents and prepares one row for each. `keep` as in [`epitome_model::Decoder::cross_memory`].
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, or an operation fails.
    pub fn new(led: &'a Led, documents: &Documents, keep: bool) -> Result<Self> {
        let encoded = led.encode(documents)?;
        let count = documents.segments().count();
        Ok(Self {
            memory: led.decoder().cross_memory(&encoded, documents.segments(), keep)?,
            cache: DecoderCache::new(led.config().decoder_layers, count),
            owners: (0..count).collect(),
            led,
        })
    }

    /// Where cross-attention lies while the decoder reads `inputs`, any number of sequences of each document: see
    /// [`epitome_model::Decoder::attention_mass`]. One row of masses for each token, in order.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, the spans do not fit the documents, or an operation fails.
    pub fn attention_mass(&self, inputs: &[Vec<Vec<u32>>], spans: &[Vec<Range<usize>>]) -> Result<Vec<Vec<f32>>> {
        let sequences = || inputs.iter().flatten();
        let lengths: Vec<usize> = sequences().map(Vec::len).collect();
        let rows: Vec<usize> = inputs.iter().map(|sequences| sequences.iter().map(Vec::len).sum()).collect();
        let ids: Vec<u32> = sequences().flatten().copied().collect();
        let (targets, rows) = (Segments::from_lengths(&lengths), Segments::from_lengths(&rows));
        Ok(self.led.decoder().attention_mass(&ids, &targets, &self.memory, &rows, spans)?)
    }

    /// How many rows each document has, none if it has ended.
    fn rows(&self) -> Segments {
        let mut counts = vec![0; self.memory.sources().count()];
        self.owners.iter().for_each(|&owner| counts[owner] += 1);
        Segments::from_lengths(&counts)
    }
}

impl Stepper for LedSession<'_> {
    fn vocab_size(&self) -> usize {
        self.led.config().vocab_size
    }

    fn step(&mut self, last: &[u32], logits: &mut Vec<f32>) -> Result<()> {
        let hidden = self.led.decoder().step(last, &self.rows(), &self.memory, &mut self.cache)?; // [R, d]
        Ok(self.led.logits(&hidden, logits)?)
    }

    fn step_best(&mut self, last: &[u32], count: usize) -> Result<Option<Vec<BestTokens>>> {
        if !self.led.finds_best() {
            return Ok(None);
        }
        Ok(Some(self.led.step_best(last, &self.rows(), &self.memory, &mut self.cache, count)?))
    }

    fn reorder(&mut self, parents: &[usize]) -> Result<()> {
        self.owners = parents.iter().map(|&parent| self.owners[parent]).collect();
        self.cache.reorder(parents);
        Ok(())
    }
}
