//! [`LedSession`]: a LED model as the search sees it.

use epitome_kernels::Segments;
use epitome_model::{CrossMemory, DecoderCache, Documents, Led};

use crate::{Result, Stepper};

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

    fn reorder(&mut self, parents: &[usize]) -> Result<()> {
        self.owners = parents.iter().map(|&parent| self.owners[parent]).collect();
        self.cache.reorder(parents);
        Ok(())
    }
}
