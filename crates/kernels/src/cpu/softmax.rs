//! Softmax over a tile of scores that lie key by key: row j holds the scores of key j for a block of queries, which are
//! the vector lanes. No sum runs across lanes, and a mask is a range of lanes.

use super::math::{dispatch, exp, larger};
use super::panels::PANEL;
use super::tile::Bf16x2;
use crate::random::{Mask, Stream};

/// Running maximum and sum of a block of queries, and what a new tile does to what was accumulated before it.
#[derive(Default)]
pub(crate) struct OnlineSoftmax {
    maximum: Vec<f32>,
    sum: Vec<f32>,
    /// What earlier sums must be multiplied by after the last [`OnlineSoftmax::exponentials`].
    rescale: Vec<f32>,
}

/// Where the draws of a tile lie: the stream of each lane, and the index of the tile's first key within them.
pub(crate) struct TileMask<'a> {
    pub(crate) mask: Mask,
    pub(crate) streams: &'a [Stream],
    /// Index of the key of each row of the tile.
    pub(crate) keys: KeyIndices<'a>,
}

/// Positions, within the document, of the keys of a tile.
#[derive(Clone, Copy)]
pub(crate) enum KeyIndices<'a> {
    From(usize),
    Listed(&'a [usize]),
}

impl KeyIndices<'_> {
    #[inline(always)]
    pub(crate) fn get(self, row: usize) -> usize {
        match self {
            KeyIndices::From(first) => first + row,
            KeyIndices::Listed(positions) => positions[row],
        }
    }
}

impl OnlineSoftmax {
    /// Begins a block of `lanes` queries (a multiple of the panel width).
    pub(crate) fn start(&mut self, lanes: usize) {
        for (values, initial) in
            [(&mut self.maximum, f32::NEG_INFINITY), (&mut self.sum, 0.0), (&mut self.rescale, 1.0)]
        {
            values.clear();
            values.resize(lanes, initial);
        }
    }

    /// Replaces scores [keys, lanes] by exp(score - running maximum), adds them to the running sums and leaves in
    /// [`OnlineSoftmax::rescale`] the factors for everything accumulated with the former maximum.
    pub(crate) fn exponentials(&mut self, scores: &mut [f32]) {
        exponentials(self, scores);
    }

    pub(crate) fn rescale(&self) -> &[f32] {
        &self.rescale
    }

    /// One over the sum of a lane; 0 when it saw no key.
    pub(crate) fn inverse_sum(&self, lane: usize) -> f32 {
        if self.maximum[lane] == f32::NEG_INFINITY && self.sum[lane] == 0.0 { 0.0 } else { 1.0 / self.sum[lane] }
    }

    /// log(sum(exp(scores))) of a lane; plus infinity when it saw no key, so that exp(score - it) is 0.
    pub(crate) fn log_sum_exp(&self, lane: usize) -> f32 {
        if self.maximum[lane] == f32::NEG_INFINITY && self.sum[lane] == 0.0 {
            f32::INFINITY
        } else {
            self.maximum[lane] + self.sum[lane].ln()
        }
    }

    pub(crate) fn maximum(&self, lane: usize) -> f32 {
        self.maximum[lane]
    }

    pub(crate) fn sum(&self, lane: usize) -> f32 {
        self.sum[lane]
    }
}

dispatch! {
    fn exponentials(state: &mut OnlineSoftmax, scores: &mut [f32]) = exponentials_body
}

#[inline(always)]
fn exponentials_body<const FMA: bool>(state: &mut OnlineSoftmax, scores: &mut [f32]) {
    let lanes = state.maximum.len();
    for first in (0..lanes).step_by(PANEL) {
        let mut maximum = [0.0; PANEL];
        maximum.copy_from_slice(&state.maximum[first..][..PANEL]);
        let before = maximum;
        for row in scores.chunks_exact(lanes) {
            for (maximum, score) in maximum.iter_mut().zip(&row[first..][..PANEL]) {
                *maximum = larger(*score, *maximum);
            }
        }
        let base = maximum.map(|maximum| if maximum == f32::NEG_INFINITY { 0.0 } else { maximum });
        let mut rescale = [0.0; PANEL];
        let mut sum = [0.0; PANEL];
        for lane in 0..PANEL {
            rescale[lane] = exp::<FMA>(before[lane] - base[lane]);
            sum[lane] = state.sum[first + lane] * rescale[lane];
        }
        for row in scores.chunks_exact_mut(lanes) {
            let row: &mut [f32; PANEL] = (&mut row[first..][..PANEL]).try_into().expect("PANEL values");
            for lane in 0..PANEL {
                row[lane] = exp::<FMA>(row[lane] - base[lane]);
                sum[lane] += row[lane];
            }
        }
        state.maximum[first..][..PANEL].copy_from_slice(&maximum);
        state.rescale[first..][..PANEL].copy_from_slice(&rescale);
        state.sum[first..][..PANEL].copy_from_slice(&sum);
    }
}

dispatch! {
    /// Rounds rows of `lanes` numbers to words of two rows each, the second of an odd last one zeros.
    pub(crate) fn pair_rows(pairs: &mut [Bf16x2], rows: &[f32], lanes: usize) = pair_rows_body
}

#[inline(always)]
fn pair_rows_body<const FMA: bool>(pairs: &mut [Bf16x2], rows: &[f32], lanes: usize) {
    for (pairs, rows) in pairs.chunks_exact_mut(lanes).zip(rows.chunks(2 * lanes)) {
        let (first, second) = rows.split_at(lanes);
        if second.is_empty() {
            pairs.iter_mut().zip(first).for_each(|(pair, first)| *pair = Bf16x2::new(*first, 0.0));
        } else {
            for ((pair, first), second) in pairs.iter_mut().zip(first).zip(second) {
                *pair = Bf16x2::new(*first, *second);
            }
        }
    }
}

dispatch! {
    /// Multiplies a tile of probabilities [keys, lanes] by its dropout mask.
    pub(crate) fn drop_probabilities(tile: &mut [f32], mask: &TileMask<'_>) = drop_probabilities_body
}

#[inline(always)]
fn drop_probabilities_body<const FMA: bool>(tile: &mut [f32], mask: &TileMask<'_>) {
    let TileMask { mask, streams, keys } = mask;
    for (row, values) in tile.chunks_exact_mut(streams.len()).enumerate() {
        let key = keys.get(row) as u32;
        for (value, stream) in values.iter_mut().zip(*streams) {
            *value *= mask.factor(*stream, key);
        }
    }
}

/// What the backward of a tile needs of each lane (query).
pub(crate) struct Lanes<'a> {
    pub(crate) log_sum_exp: &'a [f32],
    /// Inner product of the output and its gradient.
    pub(crate) delta: &'a [f32],
}

dispatch! {
    /// The softmax's backward on one tile, p = exp(s - L): on entry `scores` holds s and `gradients` dL/d(m p); on exit
    /// `scores` holds m p and `gradients` ds = p (m dp - delta), with m the dropout factor.
    pub(crate) fn tile_backward(
        scores: &mut [f32],
        gradients: &mut [f32],
        lanes: &Lanes<'_>,
        mask: Option<&TileMask<'_>>,
    ) = tile_backward_body
}

#[inline(always)]
fn tile_backward_body<const FMA: bool>(
    scores: &mut [f32],
    gradients: &mut [f32],
    lanes: &Lanes<'_>,
    mask: Option<&TileMask<'_>>,
) {
    let width = lanes.delta.len();
    let rows = scores.chunks_exact_mut(width).zip(gradients.chunks_exact_mut(width));
    for (row, (scores, gradients)) in rows.enumerate() {
        let statistics = lanes.log_sum_exp.iter().zip(lanes.delta);
        let lanes = scores.iter_mut().zip(gradients).zip(statistics);
        if let Some(TileMask { mask, streams, keys }) = mask {
            let key = keys.get(row) as u32;
            for (((score, gradient), (log_sum_exp, delta)), stream) in lanes.zip(*streams) {
                let p = exp::<FMA>(*score - log_sum_exp);
                let factor = mask.factor(*stream, key);
                *gradient = p * (factor * *gradient - delta);
                *score = p * factor;
            }
        } else {
            for ((score, gradient), (log_sum_exp, delta)) in lanes {
                let p = exp::<FMA>(*score - log_sum_exp);
                *gradient = p * (*gradient - delta);
                *score = p;
            }
        }
    }
}
