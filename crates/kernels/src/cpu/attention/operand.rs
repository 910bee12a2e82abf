//! What the forward multiplies in: numbers, or pairs of bf16.

use crate::cpu::panels::Panels;
use crate::cpu::softmax::{OnlineSoftmax, TileMask, drop_probabilities, pair_rows};
use crate::cpu::tile::{Bf16x2, Word};
use crate::cpu::view::View;

/// A kind of word whose products attention can be made of.
pub(crate) trait Operand: Word<Left = Self> {
    /// `scale q^T`, the queries padded to whole vectors.
    fn pack_queries(panels: &mut Panels<Self>, transposed: View<'_>, scale: f32);

    /// Keys as the left operand, in place or in `buffer`.
    fn keys<'a>(buffer: &'a mut Vec<Self>, keys: View<'a>) -> View<'a, Self>;

    fn pack_values(panels: &mut Panels<Self>, values: View<'_>);

    /// The words of `exp(score - running maximum)` [keys / VALUES, lanes] of the scores [keys, lanes], after dropout; in place
    /// or in `buffer`.
    fn exponentials<'a>(
        softmax: &mut OnlineSoftmax,
        scores: &'a mut [f32],
        buffer: &'a mut Vec<Self>,
        mask: Option<&TileMask<'_>>,
    ) -> &'a [Self];
}

impl Operand for f32 {
    fn pack_queries(panels: &mut Panels, transposed: View<'_>, scale: f32) {
        panels.pack_lanes(transposed, scale);
    }

    fn keys<'a>(_: &'a mut Vec<f32>, keys: View<'a>) -> View<'a> {
        keys
    }

    fn pack_values(panels: &mut Panels, values: View<'_>) {
        panels.pack(values, 1.0);
    }

    fn exponentials<'a>(
        softmax: &mut OnlineSoftmax,
        scores: &'a mut [f32],
        _: &'a mut Vec<f32>,
        mask: Option<&TileMask<'_>>,
    ) -> &'a [f32] {
        exponentials(softmax, scores, mask);
        scores
    }
}

impl Operand for Bf16x2 {
    fn pack_queries(panels: &mut Panels<Self>, transposed: View<'_>, scale: f32) {
        panels.pack_pair_lanes(transposed, scale);
    }

    fn keys<'a>(buffer: &'a mut Vec<Self>, keys: View<'a>) -> View<'a, Self> {
        Bf16x2::round_rows(buffer, keys)
    }

    fn pack_values(panels: &mut Panels<Self>, values: View<'_>) {
        panels.pack_pairs(values, 1.0);
    }

    fn exponentials<'a>(
        softmax: &mut OnlineSoftmax,
        scores: &'a mut [f32],
        buffer: &'a mut Vec<Self>,
        mask: Option<&TileMask<'_>>,
    ) -> &'a [Self] {
        exponentials(softmax, scores, mask);
        let lanes = softmax.rescale().len();
        buffer.resize(scores.len().div_ceil(2 * lanes) * lanes, Bf16x2::default());
        pair_rows(buffer, scores, lanes);
        buffer
    }
}

fn exponentials(softmax: &mut OnlineSoftmax, scores: &mut [f32], mask: Option<&TileMask<'_>>) {
    softmax.exponentials(scores);
    if let Some(mask) = mask {
        drop_probabilities(scores, mask);
    }
}
