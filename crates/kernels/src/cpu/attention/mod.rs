//! Attention over packed documents, blocked, forward and backward, after FlashAttention (Dao et al., 2022): nothing of
//! size queries x keys is stored.
//!
//! For query i with visible keys S(i), q already scaled:
//! `s_ij = q_i . k_j`, `L_i = log sum_j exp s_ij`, `p_ij = exp(s_ij - L_i)`, `o_i = sum_j m_ij p_ij v_j` with the dropout
//! factor m. The forward keeps L (a float for each head and query). The backward, from `do`:
//! `D_i = do_i . o_i`, `ds_ij = p_ij (m_ij do_i . v_j - D_i)`, `dq_i = sum_j ds_ij k_j`, `dk_j = sum_i ds_ij q_i`,
//! `dv_j = sum_i m_ij p_ij do_i`.
//!
//! A block is up to 64 queries of one document and head. Its scores are computed for a tile of keys at a time and lie
//! key by key, with the queries as vector lanes. Global keys are gathered once for a call and come as tiles of their
//! own; in the band they are masked, so that none counts twice.

mod backward;
mod forward;
mod operand;

pub(crate) use backward::{Incoming, backward};

use super::panels::PANEL;
use super::softmax::{KeyIndices, TileMask};
use super::tile::Bf16x2;
use super::view::View;
use crate::random::{Mask, Stream, active};
use crate::{Attention, Precision, Segments};
use std::ops::Range;

/// Queries of a block.
const BLOCK: usize = 64;

/// Values of a tile of keys or values: with 64 queries its scores take as much, and both fit the second-level cache.
const TILE_VALUES: usize = 16_384;

/// The tensors and sizes of one call: q [Tq, H, D], k and v [Tk, H, D].
pub(crate) struct Problem<'a> {
    pub(crate) spec: &'a Attention,
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) heads: usize,
    pub(crate) head_size: usize,
}

/// The global keys of all documents, [G, H, D], document by document.
struct Gathered {
    rows: Segments,
    k: Vec<f32>,
    v: Vec<f32>,
}

/// Some keys of a document that are next to each other in memory.
#[derive(Clone, Copy)]
struct KeyTile {
    /// Whether `first` counts rows of the gathered global keys; else rows of the document, from its start.
    global: bool,
    first: usize,
    keys: usize,
}

/// The attention's output [Tq, H, D] and its log-sum-exp [H, Tq] (plus infinity where a query sees no key or is global).
pub(crate) fn forward(problem: &Problem<'_>) -> (Vec<f32>, Vec<f32>) {
    if problem.spec.precision != Precision::F32 && Bf16x2::is_native() {
        forward::forward::<Bf16x2>(problem)
    } else {
        forward::forward::<f32>(problem)
    }
}

impl<'a> Problem<'a> {
    fn stride(&self) -> usize {
        self.heads * self.head_size
    }

    /// Rows `first..first + rows` of one head of a [_, H, D] tensor.
    fn head_view<'b>(&self, values: &'b [f32], first: usize, rows: usize, head: usize) -> View<'b> {
        let start = first * self.stride() + head * self.head_size;
        View::rows(&values[start.min(values.len())..], rows, self.head_size, self.stride())
    }

    fn gather(&self) -> Gathered {
        let documents = 0..self.spec.keys.count();
        let lengths: Vec<usize> = documents.clone().map(|b| self.spec.visibility.global(b).len()).collect();
        let rows = Segments::from_lengths(&lengths);
        let gather = |values: &[f32]| {
            let mut gathered = Vec::with_capacity(rows.total() * self.stride());
            for b in documents.clone() {
                let start = self.spec.keys.range(b).start;
                for position in self.spec.visibility.global(b) {
                    gathered.extend_from_slice(&values[(start + position) * self.stride()..][..self.stride()]);
                }
            }
            gathered
        };
        Gathered { k: gather(self.k), v: gather(self.v), rows }
    }

    fn tile_keys(&self) -> usize {
        (TILE_VALUES / self.head_size.max(1)).clamp(32, 256)
    }

    /// The tiles that hold the keys visible to the queries `block` of document `b`.
    fn tiles(&self, b: usize, block: &Range<usize>) -> impl Iterator<Item = KeyTile> {
        let step = self.tile_keys();
        let split = move |range: Range<usize>, global| {
            let end = range.end;
            range.step_by(step).map(move |first| KeyTile { global, first, keys: step.min(end - first) })
        };
        let listed = 0..self.spec.visibility.global(b).len();
        let nearby = self.spec.visibility.key_range(block, self.spec.keys.length(b));
        split(listed, true).chain(split(nearby, false))
    }

    /// The tile's rows of one head of keys or values, from the packed tensor or from the gathered rows.
    fn tile_view<'b>(&self, packed: &'b [f32], gathered: (&Segments, &'b [f32]), tile: KeyTile, at: Place) -> View<'b> {
        let (rows, values) = if tile.global { gathered } else { (&self.spec.keys, packed) };
        self.head_view(values, rows.range(at.document).start + tile.first, tile.keys, at.head)
    }

    /// Sets scores [keys, lanes] of invisible keys to minus infinity.
    fn hide(&self, scores: &mut [f32], lanes: usize, tile: KeyTile, b: usize, block: &Range<usize>) {
        if tile.global {
            return;
        }
        for (row, scores) in scores.chunks_exact_mut(lanes).enumerate() {
            let visible = self.spec.visibility.query_range(block, tile.first + row);
            scores[..visible.start].fill(f32::NEG_INFINITY);
            if visible.end < block.len() {
                scores[visible.end..].fill(f32::NEG_INFINITY);
            }
        }
        let global = self.spec.visibility.global(b);
        let first = global.partition_point(|position| *position < tile.first);
        for position in global[first..].iter().take_while(|position| **position < tile.first + tile.keys) {
            scores[(position - tile.first) * lanes..][..lanes].fill(f32::NEG_INFINITY);
        }
    }

    /// Whether query `position` of document `b` is written by the global path instead.
    fn skipped(&self, b: usize, position: usize) -> bool {
        self.spec.visibility.global(b).binary_search(&position).is_ok()
    }
}

/// Which document and head a block belongs to.
#[derive(Clone, Copy)]
struct Place {
    document: usize,
    head: usize,
}

/// The dropout streams of a block's queries: element (query row t, head h, key position j) has index
/// `(t * H + h) << 32 | j`, t counted in the packed tensor and j in the document.
#[derive(Default)]
struct Draws {
    mask: Option<Mask>,
    streams: Vec<Stream>,
}

impl Draws {
    fn start(&mut self, problem: &Problem<'_>, first_row: usize, rows: usize, head: usize) {
        self.mask = active(problem.spec.dropout).map(Mask::new);
        self.streams.clear();
        if let Some(mask) = &self.mask {
            self.streams
                .extend((first_row..first_row + rows).map(|row| mask.stream((row * problem.heads + head) as u32)));
            self.streams.resize(rows.next_multiple_of(PANEL), Stream::default());
        }
    }

    fn tile<'a>(&'a self, problem: &'a Problem<'_>, tile: KeyTile, document: usize) -> Option<TileMask<'a>> {
        let keys = if tile.global {
            KeyIndices::Listed(&problem.spec.visibility.global(document)[tile.first..])
        } else {
            KeyIndices::From(tile.first)
        };
        self.mask.map(|mask| TileMask { mask, streams: &self.streams, keys })
    }
}
