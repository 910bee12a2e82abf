//! Layer normalisation of rows, of x or of x + residual: `xhat = (x - mean) rstd`, `y = xhat w + b`; backward with
//! `g = dy w`: `dx = rstd (g - mean(g) - xhat mean(g xhat))`, `dw = sum dy xhat`, `db = sum dy`. Mean and variance in two
//! passes, because E[x^2] - mean^2 cancels.

use super::linear::add;
use super::math::dispatch;
use rayon::prelude::*;

/// Rows of one task.
const ROWS: usize = 64;

/// Independent partial sums of a row, so that a sum vectorises.
const LANES: usize = 16;

/// Inputs of a call: x and perhaps a residual [rows, d], weight [d].
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) residual: Option<&'a [f32]>,
    pub(crate) weight: &'a [f32],
}

impl Inputs<'_> {
    /// Row `row` of x + residual.
    #[inline(always)]
    fn load(&self, row: usize, target: &mut [f32]) {
        let width = target.len();
        target.copy_from_slice(&self.x[row * width..][..width]);
        if let Some(residual) = self.residual {
            add(target, &residual[row * width..][..width]);
        }
    }
}

/// Mean and 1 / standard deviation of a row.
struct Moments {
    mean: f32,
    rstd: f32,
}

/// Gradients of x (and the residual, which has the same), weight and bias.
pub(crate) struct Gradients {
    pub(crate) x: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

pub(crate) fn forward(inputs: Inputs<'_>, bias: &[f32], eps: f32) -> Vec<f32> {
    let width = bias.len();
    let mut y = vec![0.0; inputs.x.len()];
    y.par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, y)| {
        forward_rows(y, &inputs, bias, (chunk * ROWS, eps));
    });
    y
}

#[inline(always)]
fn moments_of(x: &[f32], eps: f32) -> Moments {
    let mean = sum(x, |x| x) / x.len() as f32;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / x.len() as f32;
    Moments { mean, rstd: 1.0 / (variance + eps).sqrt() }
}

dispatch! {
    fn forward_rows(y: &mut [f32], inputs: &Inputs<'_>, bias: &[f32], first_and_eps: (usize, f32)) = forward_rows_body
}

#[inline(always)]
fn forward_rows_body<const FMA: bool>(y: &mut [f32], inputs: &Inputs<'_>, bias: &[f32], (first, eps): (usize, f32)) {
    let width = bias.len();
    for (row, y) in y.chunks_exact_mut(width).enumerate() {
        inputs.load(first + row, y);
        let Moments { mean, rstd } = moments_of(y, eps);
        for ((y, weight), bias) in y.iter_mut().zip(inputs.weight).zip(bias) {
            *y = (*y - mean) * rstd * weight + bias;
        }
    }
}

/// Mean and standard deviation are found again from the rows, which are read anyway.
pub(crate) fn backward(inputs: Inputs<'_>, dy: &[f32], eps: f32) -> Gradients {
    let width = inputs.weight.len();
    let mut x = vec![0.0; dy.len()];
    let chunks: Vec<(Vec<f32>, Vec<f32>)> = x
        .par_chunks_mut(ROWS * width)
        .enumerate()
        .map(|(chunk, dx)| {
            let mut sums = (vec![0.0; width], vec![0.0; width]);
            let first = chunk * ROWS;
            backward_rows(dx, &dy[first * width..], &inputs, (first, eps), &mut sums);
            sums
        })
        .collect();
    let (mut weight, mut bias) = (vec![0.0; width], vec![0.0; width]);
    for (dw, db) in &chunks {
        add(&mut weight, dw);
        add(&mut bias, db);
    }
    Gradients { x, weight, bias }
}

dispatch! {
    fn backward_rows(
        dx: &mut [f32],
        dy: &[f32],
        inputs: &Inputs<'_>,
        first_and_eps: (usize, f32),
        sums: &mut (Vec<f32>, Vec<f32>),
    ) = backward_rows_body
}

#[inline(always)]
fn backward_rows_body<const FMA: bool>(
    dx: &mut [f32],
    dy: &[f32],
    inputs: &Inputs<'_>,
    (first, eps): (usize, f32),
    (dw, db): &mut (Vec<f32>, Vec<f32>),
) {
    let weight = inputs.weight;
    let width = weight.len();
    let mut xhat = vec![0.0; width];
    for (row, (dx, dy)) in dx.chunks_exact_mut(width).zip(dy.chunks_exact(width)).enumerate() {
        inputs.load(first + row, &mut xhat);
        let Moments { mean, rstd } = moments_of(&xhat, eps);
        xhat.iter_mut().for_each(|x| *x = (*x - mean) * rstd);
        for ((dx, dy), weight) in dx.iter_mut().zip(dy).zip(weight) {
            *dx = dy * weight;
        }
        let mean_gradient = sum(dx, |g| g) / width as f32;
        let mean_product = sum_products(dx, &xhat) / width as f32;
        for (dx, xhat) in dx.iter_mut().zip(&xhat) {
            *dx = rstd * (*dx - mean_gradient - xhat * mean_product);
        }
        for (((dw, db), dy), xhat) in dw.iter_mut().zip(db.iter_mut()).zip(dy).zip(&xhat) {
            *dw += dy * xhat;
            *db += dy;
        }
    }
}

/// Sum of `term(value)`.
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let groups = values.chunks_exact(LANES);
    let rest: f32 = groups.remainder().iter().map(|value| term(*value)).sum();
    for group in groups {
        for (lane, value) in lanes.iter_mut().zip(group) {
            *lane += term(*value);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[inline(always)]
fn sum_products(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (groups_a, groups_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = groups_a.remainder().iter().zip(groups_b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in groups_a.zip(groups_b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + rest
}
