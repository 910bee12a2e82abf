//! Which documents, global positions and blocks of rows a call of attention has: everything that is not a tensor.

use super::ffi;
use crate::{Attention, Segments, Visibility};
use candle_core::{Result, bail};
use std::ffi::c_int;
use std::ops::Range;

/// Queries or keys that a block of threads owns: `BLOCK` of `cuda/attention/problem.cuh`.
const BLOCK: usize = 128;

/// Queries over which one block sums the gradients of global keys: 16 blocks a head at 16,384 tokens.
const CHUNK: usize = 1024;

/// Lengths and radii that sums of two still fit 32 bits.
const MOST: usize = 1 << 30;

/// Everything that attention over the documents of a batch has to know beside its tensors, as one array of words, so that
/// one small copy brings it to the device for all layers.
pub struct Plan {
    words: Vec<c_int>,
    query_offsets: Range<usize>,
    key_offsets: Range<usize>,
    global_offsets: Range<usize>,
    global_positions: Range<usize>,
    partial_offsets: Range<usize>,
    query_blocks: Range<usize>,
    key_blocks: Range<usize>,
    global_blocks: Range<usize>,
    documents: usize,
    queries: usize,
    partial_rows: usize,
}

impl Plan {
    /// # Errors
    /// When there are 2^30 rows or more.
    pub fn new(spec: &Attention) -> Result<Self> {
        let (queries, keys) = (&spec.queries, &spec.keys);
        if queries.total().max(keys.total()) >= MOST {
            bail!("attention: {} queries and {} keys; at most 2^30", queries.total(), keys.total());
        }
        let documents = queries.count();
        let global = |b: usize| spec.visibility.global(b);
        let counts: Vec<usize> = (0..documents).map(|b| global(b).len()).collect();
        let partial: Vec<usize> = (0..documents).map(|b| queries.length(b).div_ceil(CHUNK) * counts[b]).collect();
        let partial = Segments::from_lengths(&partial);

        let mut words = Vec::new();
        let mut push = |values: Vec<usize>| {
            let first = words.len();
            words.extend(values.into_iter().map(|value| value as c_int));
            first..words.len()
        };
        let query_offsets = push(offsets(queries));
        let key_offsets = push(offsets(keys));
        let global_offsets = push(offsets(&Segments::from_lengths(&counts)));
        let global_positions = push((0..documents).flat_map(|b| global(b).iter().copied()).collect());
        let partial_offsets = push(offsets(&partial));
        let mut query_blocks = blocks(queries);
        if matches!(spec.visibility, Visibility::Causal { .. }) {
            // The last queries have most keys: they begin first.
            query_blocks.reverse();
        }
        let query_blocks = push(query_blocks.concat());
        let key_blocks = push(blocks(keys).concat());
        let chunks = |b: usize| {
            let pairs = (0..counts[b]).step_by(BLOCK);
            pairs.flat_map(move |first| (0..queries.length(b).div_ceil(CHUNK)).flat_map(move |chunk| [b, first, chunk]))
        };
        let global_blocks = push((0..documents).flat_map(chunks).collect());
        Ok(Self {
            words,
            query_offsets,
            key_offsets,
            global_offsets,
            global_positions,
            partial_offsets,
            query_blocks,
            key_blocks,
            global_blocks,
            documents,
            queries: queries.total(),
            partial_rows: partial.total(),
        })
    }

    /// What has to lie in the device's memory.
    pub fn words(&self) -> &[c_int] {
        &self.words
    }

    /// Rows of the partial sums of global keys.
    pub fn partial_rows(&self) -> usize {
        self.partial_rows
    }

    /// The plan whose words lie at `base`.
    pub(crate) fn at(&self, base: *const c_int) -> ffi::Plan {
        let part = |range: &Range<usize>| base.wrapping_add(range.start);
        let count = |range: &Range<usize>| (range.len() / ffi::BLOCK_WORDS) as c_int;
        ffi::Plan {
            query_offsets: part(&self.query_offsets),
            key_offsets: part(&self.key_offsets),
            global_offsets: part(&self.global_offsets),
            global_positions: part(&self.global_positions),
            partial_offsets: part(&self.partial_offsets),
            query_blocks: part(&self.query_blocks),
            key_blocks: part(&self.key_blocks),
            global_blocks: part(&self.global_blocks),
            query_block_count: count(&self.query_blocks),
            key_block_count: count(&self.key_blocks),
            global_block_count: count(&self.global_blocks),
            documents: self.documents as c_int,
            queries: self.queries as c_int,
            globals: self.global_positions.len() as c_int,
            chunk: CHUNK as c_int,
        }
    }
}

impl From<&Visibility> for ffi::Visibility {
    fn from(visibility: &Visibility) -> Self {
        let (kind, reach) = match visibility {
            Visibility::Band { radius, .. } => (0, *radius),
            Visibility::Causal { past } => (1, *past),
            Visibility::Full => (2, 0),
        };
        Self { kind, reach: reach.min(MOST) as c_int }
    }
}

fn offsets(segments: &Segments) -> Vec<usize> {
    [0].into_iter().chain(segments.ranges().map(|range| range.end)).collect()
}

/// The blocks of all documents' rows.
fn blocks(segments: &Segments) -> Vec<[usize; ffi::BLOCK_WORDS]> {
    let documents = segments.ranges().map(|range| range.len()).enumerate();
    documents.flat_map(|(b, length)| (0..length).step_by(BLOCK).map(move |first| [b, first, 0])).collect()
}
