//! Attention of a document's few global rows to all its tokens, with keys and values folded into the query and the
//! output: q_g . (W_k x_j + b_k) = a . x_j + c with a = W_k^T q_g and c = q_g . b_k, and
//! sum_j p_j (W_v x_j + b_v) = W_v (sum_j p_j x_j) + (sum_j p_j) b_v, so neither projection of x is computed or stored.
//!
//! A lane is a (global row g, head h): `s_j = a . x_j + c`, `p_j = exp(s_j - L)`, output `u = sum_j m_j p_j [x_j, 1]` of
//! d + 1 values, with the dropout factor m. The forward keeps L. Backward from `du`, with `delta = du . u`:
//! `dp_j = du . [x_j, 1]`, `ds_j = p_j (m_j dp_j - delta)`, `da = sum_j ds_j x_j`, `dc = sum_j ds_j`,
//! `dx_j = sum over lanes of ds_j a + m_j p_j du`. One pass owns tokens (dx), one owns lanes (da, dc); each computes the
//! scores again, which is cheap beside what a projection of all tokens would cost.

mod backward;
mod forward;

pub(crate) use backward::{Incoming, lane_gradients, token_gradients};
pub(crate) use forward::forward;

use super::panels::{PANEL, Panels};
use super::product::{Target, multiply};
use super::softmax::{KeyIndices, TileMask};
use super::view::View;
use crate::Segments;
use crate::random::{Mask, Stream};
use std::ops::Range;

/// Lanes of a block.
const BLOCK: usize = 64;

/// Values of a tile of tokens.
const TILE_VALUES: usize = 49_152;

/// Tokens below which a document is not split between tasks.
const PART: usize = 512;

/// Parts that a long document is split into.
const PARTS: usize = 16;

/// The tensors and sizes of a call: x [T, d], folded [G * H, d + 1], which are [a | c].
pub(crate) struct Problem<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) folded: &'a [f32],
    pub(crate) rows: &'a Segments,
    pub(crate) documents: &'a Segments,
    pub(crate) mask: Option<Mask>,
    pub(crate) heads: usize,
    pub(crate) width: usize,
}

/// Some lanes of a document and the tokens they are to see, both in packed rows.
#[derive(Clone)]
struct Task {
    document: usize,
    lanes: Range<usize>,
    tokens: Range<usize>,
    /// Whether these are the first tokens of the document, so that a new block of lanes begins.
    first: bool,
}

impl Problem<'_> {
    /// Numbers of a lane: of folded, and of the output.
    fn lane_width(&self) -> usize {
        self.width + 1
    }

    fn lane_count(&self) -> usize {
        self.rows.total() * self.heads
    }

    fn tile_tokens(&self) -> usize {
        (TILE_VALUES / self.width.max(1)).clamp(32, 256)
    }

    /// The blocks of lanes of a document.
    fn blocks(&self, document: usize) -> impl Iterator<Item = Range<usize>> {
        let rows = self.rows.range(document);
        let end = rows.end * self.heads;
        (rows.start * self.heads..end).step_by(BLOCK).map(move |first| first..end.min(first + BLOCK))
    }

    /// Every block of lanes with a part of its document's tokens; the split depends on the document's length alone, and so
    /// does the rounding of its result.
    fn tasks(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (document, tokens) in self.documents.ranges().enumerate() {
            let part = tokens.len().div_ceil(PARTS).max(PART);
            for lanes in self.blocks(document) {
                for start in tokens.clone().step_by(part) {
                    let first = start == tokens.start;
                    let tokens = start..tokens.end.min(start + part);
                    tasks.push(Task { document, lanes: lanes.clone(), tokens, first });
                }
            }
        }
        tasks
    }

    fn tiles(&self, tokens: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let step = self.tile_tokens();
        tokens.clone().step_by(step).map(move |first| first..tokens.end.min(first + step))
    }

    fn x_view(&self, tokens: &Range<usize>) -> View<'_> {
        View::rows(&self.x[tokens.start * self.width..], tokens.len(), self.width, self.width)
    }

    fn lane_view(&self, lanes: &Range<usize>) -> View<'_> {
        View::rows(&self.folded[lanes.start * self.lane_width()..], lanes.len(), self.width, self.lane_width())
    }

    /// The last numbers of some lanes, c.
    fn terms(&self, lanes: &Range<usize>) -> Vec<f32> {
        lanes.clone().map(|lane| self.folded[lane * self.lane_width() + self.width]).collect()
    }

    /// Scores [tokens, lanes padded to panels] of a tile, `a` being the packed lanes.
    fn scores(&self, a: &Panels, lanes: &Range<usize>, tokens: &Range<usize>, scores: &mut [f32]) {
        let padded = lanes.len().next_multiple_of(PANEL);
        multiply(self.x_view(tokens), a, Target { values: scores, row_stride: padded, accumulate: false });
        add_lanes(scores, &self.terms(lanes), padded);
    }

    /// The dropout streams of some lanes: element (lane, token position j in its document) has index `lane << 32 | j`.
    fn streams(&self, lanes: &Range<usize>, streams: &mut Vec<Stream>) {
        streams.clear();
        if let Some(mask) = &self.mask {
            streams.extend(lanes.clone().map(|lane| mask.stream(lane as u32)));
            streams.resize(lanes.len().next_multiple_of(PANEL), Stream::default());
        }
    }

    fn tile_mask<'a>(&self, streams: &'a [Stream], document: usize, tokens: &Range<usize>) -> Option<TileMask<'a>> {
        let keys = KeyIndices::From(tokens.start - self.documents.range(document).start);
        self.mask.map(|mask| TileMask { mask, streams, keys })
    }
}

/// Adds `terms` to the first lanes of every row.
fn add_lanes(tile: &mut [f32], terms: &[f32], padded: usize) {
    for row in tile.chunks_exact_mut(padded) {
        row.iter_mut().zip(terms).for_each(|(value, term)| *value += term);
    }
}
