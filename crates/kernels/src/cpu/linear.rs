//! y = x W^T + b with its gradients: `dx = dy W`, `dW = dy^T x`, `db = sum over rows of dy`.

use super::few_rows;
use super::matmul::matmul;
use super::view::View;
use rayon::prelude::*;

/// Rows whose output is initialised with the bias by one task, and summed by one task in the bias gradient.
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
    if few_rows::fits(sizes) {
        return few_rows::forward(x, weight, bias, sizes);
    }
    let mut y = vec![0.0; rows * outputs];
    if outputs == 0 {
        return y;
    }
    if let Some(bias) = bias {
        y.par_chunks_mut(ROWS * outputs).for_each(|chunk| {
            chunk.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias));
        });
    }
    let weight = View::dense(weight, outputs, inputs).transposed();
    matmul(&mut y, View::dense(x, rows, inputs), weight, bias.is_some());
    y
}

/// dx [rows, inputs].
pub(crate) fn input_gradient(dy: &[f32], weight: &[f32], sizes: Sizes) -> Vec<f32> {
    let Sizes { rows, inputs, outputs } = sizes;
    let mut dx = vec![0.0; rows * inputs];
    matmul(&mut dx, View::dense(dy, rows, outputs), View::dense(weight, outputs, inputs), false);
    dx
}

/// dW [outputs, inputs].
pub(crate) fn weight_gradient(x: &[f32], dy: &[f32], sizes: Sizes) -> Vec<f32> {
    let Sizes { rows, inputs, outputs } = sizes;
    let mut dw = vec![0.0; outputs * inputs];
    let dy = View::dense(dy, rows, outputs).transposed();
    matmul(&mut dw, dy, View::dense(x, rows, inputs), false);
    dw
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
