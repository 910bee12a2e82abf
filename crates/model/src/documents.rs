//! A batch of source documents.

use std::ops::Range;

use epitome_kernels::{RowIndex, Segments};

use crate::{Error, Result};

/// Source documents laid end to end, with the positions of their global tokens.
#[derive(Clone, Debug)]
pub struct Documents {
    ids: Vec<u32>,
    segments: Segments,
    global: Vec<Vec<usize>>,
    global_rows: RowIndex,
    global_segments: Segments,
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
        let segments = Segments::from_lengths(&lengths);
        let in_rows = |(range, positions): (Range<usize>, &Vec<usize>)| -> Vec<usize> {
            positions.iter().map(|position| range.start + position).collect()
        };
        let global_rows = RowIndex::new(segments.ranges().zip(&global).flat_map(in_rows).collect());
        let global_segments = Segments::from_lengths(&global.iter().map(Vec::len).collect::<Vec<_>>());
        Ok(Self { ids: packed, segments, global, global_rows, global_segments })
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
    pub(crate) fn global_rows(&self) -> &RowIndex {
        &self.global_rows
    }

    /// How many global tokens each document has.
    pub(crate) fn global_segments(&self) -> &Segments {
        &self.global_segments
    }
}
