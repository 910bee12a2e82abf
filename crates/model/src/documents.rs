//! A batch of source documents.

use epitome_kernels::Segments;

use crate::{Error, Result};

/// Source documents laid end to end, with the positions of their global tokens.
#[derive(Clone, Debug)]
pub struct Documents {
    ids: Vec<u32>,
    segments: Segments,
    global: Vec<Vec<usize>>,
}

impl Documents {
    /// Packs documents given as (ids, global positions); the positions may come in any order and repeat.
    ///
    /// # Errors
    /// When a document has no tokens or a global position lies outside it.
    pub fn new<'a>(documents: impl IntoIterator<Item = (&'a [u32], &'a [usize])>) -> Result<Self> {
        let mut packed = Vec::new();
        let mut lengths = Vec::new();
        let mut global = Vec::new();
        for (ids, positions) in documents {
            if ids.is_empty() {
                return Err(Error::Input(format!("document {} of the batch has no tokens", lengths.len())));
            }
            let mut positions = positions.to_vec();
            positions.sort_unstable();
            positions.dedup();
            if let Some(outside) = positions.last().filter(|&&position| position >= ids.len()) {
                return Err(Error::Input(format!(
                    "global position {outside} lies outside a document of {} tokens",
                    ids.len()
                )));
            }
            packed.extend_from_slice(ids);
            lengths.push(ids.len());
            global.push(positions);
        }
        Ok(Self { ids: packed, segments: Segments::from_lengths(&lengths), global })
    }

    /// Token ids of all documents, `[T]`.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Which rows belong to which document.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Global positions of each document, sorted and unique.
    pub fn global(&self) -> &[Vec<usize>] {
        &self.global
    }

    /// Rows of the global tokens in the packed tensor, document by document.
    pub(crate) fn global_rows(&self) -> Vec<usize> {
        self.segments
            .ranges()
            .zip(&self.global)
            .flat_map(|(range, positions)| positions.iter().map(move |position| range.start + position))
            .collect()
    }

    /// How many global tokens each document has.
    pub(crate) fn global_segments(&self) -> Segments {
        let counts: Vec<usize> = self.global.iter().map(Vec::len).collect();
        Segments::from_lengths(&counts)
    }
}
