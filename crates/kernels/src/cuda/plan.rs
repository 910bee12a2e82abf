//! Which documents, global positions and blocks of rows a call of attention has: everything that is not a tensor.

use super::ffi;
use crate::ops::attention::check_spec;
use crate::{Attention, Segments, Visibility};
use candle_core::{Result, bail};
use std::ffi::c_int;
use std::ops::Range;

/// Queries or keys that a block of threads owns: `BLOCK` of `cuda/attention/problem.cuh`.
pub(super) const BLOCK: usize = 128;

/// Queries over which one block sums the gradients of global keys: 16 blocks a head at 16,384 tokens.
const CHUNK: usize = 1024;

/// Lengths and radii that sums of two still fit 32 bits.
const MOST: usize = 1 << 30;

/// Keys of a split in decoding are a multiple of this: a tile for each warp of `cuda/decoding/memory_attention.cu`.
const SPLIT: usize = 128;

/// Blocks of that kernel that run at the same time on a processor like the H100's: two on each of 132.
const AT_ONCE: usize = 264;

/// Queries of a block in decoding: `ROWS` of `cuda/decoding/memory_attention.cu`.
const FEW: usize = 16;

/// Everything that attention over the documents of a batch has to know beside its tensors, as one array of words, so that
/// one small copy brings it to the device for all layers.
#[derive(Debug)]
pub struct Plan {
    words: Vec<c_int>,
    parts: [Range<usize>; PARTS],
    /// Counters of the blocks of attention to memory that have come, a query block and head each.
    arrivals: Range<usize>,
    documents: usize,
    queries: usize,
    partial_rows: usize,
    chunk: usize,
}

/// The arrays of a plan, in the order of `ffi::Plan`.
const PARTS: usize = 8;

/// A document, a row of it, and a chunk: `Block` of `cuda/attention/problem.cuh`.
type Block = [usize; ffi::BLOCK_WORDS];

impl Plan {
    /// Of `attention_forward` and `attention_backward`.
    ///
    /// # Errors
    /// When the documents of queries and keys or the global positions do not fit, or there are 2^30 rows or more.
    pub fn new(spec: &Attention) -> Result<Self> {
        check_spec(spec)?;
        let (queries, keys) = (&spec.queries, &spec.keys);
        let documents = queries.count();
        let global = |b: usize| spec.visibility.global(b);
        let chunks = |b: usize| queries.length(b).div_ceil(CHUNK);
        let counts: Vec<usize> = (0..documents).map(|b| global(b).len()).collect();
        let partial: Vec<usize> = (0..documents).map(|b| chunks(b) * counts[b]).collect();
        let mut query_blocks = blocks(queries, BLOCK, |_| 1);
        if matches!(spec.visibility, Visibility::Causal { .. }) {
            // The last queries have most keys: they begin first.
            query_blocks.reverse();
        }
        let positions = (0..documents).flat_map(|b| global(b).iter().copied()).collect();
        let counts = Segments::from_lengths(&counts);
        let global_blocks = blocks(&counts, BLOCK, chunks);
        let blocks = [query_blocks, blocks(keys, BLOCK, |_| 1), global_blocks];
        Self::of((queries, keys), (&counts, positions), &Segments::from_lengths(&partial), blocks, CHUNK)
    }

    /// Of few queries of each document to all its keys, for so many heads.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn memory(queries: &Segments, keys: &Segments, heads: usize) -> Result<Self> {
        let documents = queries.count();
        if documents != keys.count() {
            bail!("attention: queries of {documents} documents, keys of {}", keys.count());
        }
        let split = split(queries, keys, heads);
        // One has none where there are no keys, and writes that.
        let splits = |b: usize| keys.length(b).div_ceil(split).max(1);
        let partial: Vec<usize> = (0..documents).map(|b| splits(b) * queries.length(b)).collect();
        let none = Segments::from_lengths(&vec![0; documents]);
        let blocks = [blocks(queries, FEW, splits), Vec::new(), Vec::new()];
        let arrivals = blocks[0].len() * heads;
        let mut plan =
            Self::of((queries, keys), (&none, Vec::new()), &Segments::from_lengths(&partial), blocks, split)?;
        plan.arrivals = plan.words.len()..plan.words.len() + arrivals;
        plan.words.resize(plan.arrivals.end, 0);
        Ok(plan)
    }

    fn of(
        (queries, keys): (&Segments, &Segments),
        (global, positions): (&Segments, Vec<usize>),
        partial: &Segments,
        blocks: [Vec<Block>; 3],
        chunk: usize,
    ) -> Result<Self> {
        if queries.total().max(keys.total()).max(partial.total()) >= MOST {
            bail!("attention: {} queries and {} keys; at most 2^30", queries.total(), keys.total());
        }
        let mut words: Vec<c_int> = Vec::new();
        let mut push = |values: Vec<usize>| {
            let first = words.len();
            words.extend(values.into_iter().map(|value| value as c_int));
            first..words.len()
        };
        let [query_blocks, key_blocks, global_blocks] = blocks.map(|blocks| blocks.concat());
        let parts = [
            push(offsets(queries)),
            push(offsets(keys)),
            push(offsets(global)),
            push(positions),
            push(offsets(partial)),
            push(query_blocks),
            push(key_blocks),
            push(global_blocks),
        ];
        let (documents, queries, partial_rows) = (queries.count(), queries.total(), partial.total());
        let arrivals = words.len()..words.len();
        Ok(Self { words, parts, arrivals, documents, queries, partial_rows, chunk })
    }

    /// What has to lie in the device's memory.
    pub fn words(&self) -> &[c_int] {
        &self.words
    }

    /// Rows of the partial sums: of global keys' gradients, or of the splits of keys.
    pub fn partial_rows(&self) -> usize {
        self.partial_rows
    }

    /// Where the counters are among the words that kernels change: each is 0 when none of them runs.
    pub(super) fn arrivals(&self) -> Range<usize> {
        self.arrivals.clone()
    }

    /// The plan whose words lie at `base`.
    pub(crate) fn at(&self, base: *const c_int) -> ffi::Plan {
        let part = |index: usize| base.wrapping_add(self.parts[index].start);
        let blocks = |index: usize| (self.parts[index].len() / ffi::BLOCK_WORDS) as c_int;
        ffi::Plan {
            query_offsets: part(0),
            key_offsets: part(1),
            global_offsets: part(2),
            global_positions: part(3),
            partial_offsets: part(4),
            query_blocks: part(5),
            key_blocks: part(6),
            global_blocks: part(7),
            query_block_count: blocks(5),
            key_block_count: blocks(6),
            global_block_count: blocks(7),
            documents: self.documents as c_int,
            queries: self.queries as c_int,
            globals: self.parts[3].len() as c_int,
            chunk: self.chunk as c_int,
        }
    }
}

/// Keys of a split: so many that all blocks run at the same time, or nearly; where a short document's blocks end early, a long one
/// is split as finely as if they were not there.
fn split(queries: &Segments, keys: &Segments, heads: usize) -> usize {
    let documents: Vec<(usize, usize)> =
        (0..keys.count()).map(|b| (queries.length(b).div_ceil(FEW), keys.length(b))).collect();
    let blocks = |split: usize| -> usize {
        documents.iter().map(|(blocks, keys)| blocks * keys.div_ceil(split)).sum::<usize>() * heads
    };
    let total: usize = documents.iter().map(|(blocks, keys)| blocks * keys).sum();
    let balanced = (total * heads).div_ceil(AT_ONCE).next_multiple_of(SPLIT).max(2 * SPLIT);
    let mut choices = (balanced..=balanced + balanced / 2).step_by(SPLIT);
    choices.find(|split| blocks(*split) <= AT_ONCE).unwrap_or(balanced)
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

/// Blocks of `size` rows of all documents, each once for every chunk that its document has.
fn blocks(segments: &Segments, size: usize, chunks: impl Fn(usize) -> usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (document, rows) in segments.ranges().enumerate() {
        for first in (0..rows.len()).step_by(size) {
            blocks.extend((0..chunks(document)).map(|chunk| [document, first, chunk]));
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::{AT_ONCE, split};
    use crate::Segments;

    fn of(queries: &[usize], keys: &[usize], heads: usize) -> usize {
        split(&Segments::from_lengths(queries), &Segments::from_lengths(keys), heads)
    }

    #[test]
    fn splits_run_at_the_same_time_and_long_documents_are_split_beside_short_ones() {
        let one = of(&[4], &[16_384], 12);
        assert!(16_384usize.div_ceil(one) * 12 <= AT_ONCE && one < 1000, "{one}");
        let eight = of(&[4; 8], &[16_384; 8], 12);
        assert_eq!(16_384usize.div_ceil(eight), 2, "{eight}");
        let mut keys = [1000; 16];
        keys[3] = 100_000;
        let mixed = of(&[4; 16], &keys, 16);
        assert!(mixed < 12_000, "{mixed}");
        // What has ended, and nothing at all.
        assert_eq!(of(&[0, 4], &[90_000, 16_384], 12), one);
        assert!(of(&[0], &[5], 12) > 0);
    }
}
