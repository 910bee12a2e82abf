//! Attention of one query to rows of keys and values that lie apart: the past of a hypothesis.

use super::math::{dispatch, exp, larger, multiply_add};
use super::panels::PANEL;

/// Rows of `width` numbers, and which of them are seen.
#[derive(Clone, Copy)]
pub(crate) struct Past<'a> {
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    pub(crate) width: usize,
    pub(crate) ancestors: &'a [u32],
}

impl<'a> Past<'a> {
    /// The numbers of one head, from `offset` on, in row `row` of keys or values.
    #[inline(always)]
    fn head(&self, rows: &'a [f32], row: u32, offset: usize, size: usize) -> &'a [f32] {
        &rows[row as usize * self.width + offset..][..size]
    }
}

dispatch! {
    /// `softmax(scale q k^T) v` of one head, which begins at `offset` of every row; `output` comes as zeros.
    pub(crate) fn attend(query: &[f32], past: &Past<'_>, offset: usize, scale: f32, output: &mut [f32]) = attend_body
}

#[inline(always)]
fn attend_body<const FMA: bool>(query: &[f32], past: &Past<'_>, offset: usize, scale: f32, output: &mut [f32]) {
    let size = query.len();
    // Loops, not closures, which would be compiled without the instructions of this function.
    let mut weights = vec![0.0; past.ancestors.len()];
    for (weight, row) in weights.iter_mut().zip(past.ancestors) {
        *weight = scale * dot::<FMA>(query, past.head(past.keys, *row, offset, size));
    }
    let maximum = weights.iter().fold(f32::NEG_INFINITY, |most, score| larger(*score, most));
    let mut total = 0.0;
    for weight in &mut weights {
        *weight = exp::<FMA>(*weight - maximum);
        total += *weight;
    }
    for (row, weight) in past.ancestors.iter().zip(&weights) {
        let weight = weight / total;
        for (output, value) in output.iter_mut().zip(past.head(past.values, *row, offset, size)) {
            *output = multiply_add::<FMA>(weight, *value, *output);
        }
    }
}

#[inline(always)]
fn dot<const FMA: bool>(left: &[f32], right: &[f32]) -> f32 {
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<PANEL>(), right.as_chunks::<PANEL>());
    let mut lanes = [0.0; PANEL];
    for (left, right) in left.iter().zip(right) {
        for (lane, (left, right)) in lanes.iter_mut().zip(left.iter().zip(right)) {
            *lane = multiply_add::<FMA>(*left, *right, *lane);
        }
    }
    lanes.iter().sum::<f32>() + left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum::<f32>()
}
