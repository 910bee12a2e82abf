//! y = x W^T + b with its gradients: `dx = dy W`, `db = sum over rows of dy`.

use super::matmul::matmul;
use super::view::View;
use rayon::prelude::*;

/// Rows summed by one task in the bias gradient.
const ROWS: usize = 256;

/// Sizes of a layer call: x [rows, inputs], weight [outputs, inputs], y [rows, outputs].
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) rows: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

pub(crate) fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, sizes: Sizes) -> Vec<f32> {
    let Sizes { rows, inputs, outputs } = sizes;
    matmul(View::dense(x, rows, inputs), View::dense(weight, outputs, inputs).transposed(), bias)
}

/// dx [rows, inputs].
pub(crate) fn input_gradient(dy: &[f32], weight: &[f32], sizes: Sizes) -> Vec<f32> {
    let Sizes { rows, inputs, outputs } = sizes;
    matmul(View::dense(dy, rows, outputs), View::dense(weight, outputs, inputs), None)
}

/// Sum of the rows of dy [rows, width].
pub(crate) fn sum_rows(dy: &[f32], width: usize) -> Vec<f32> {
    let mut total = vec![0.0; width];
    if width == 0 {
        return total;
    }
    let partial: Vec<Vec<f32>> = dy
        .par_chunks(ROWS * width)
        .map(|chunk| {
            let mut sum = vec![0.0; width];
            chunk.chunks_exact(width).for_each(|row| add(&mut sum, row));
            sum
        })
        .collect();
    partial.iter().for_each(|sum| add(&mut total, sum));
    total
}

/// `sum += values`.
pub(crate) fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}
