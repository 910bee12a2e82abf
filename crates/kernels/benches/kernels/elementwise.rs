//! What is done to rows and to single numbers: bounded by memory.

use crate::measure::{Bench, Work};
use crate::{WIDTH, both_ways, numbers};
use candle_core::{Result, Tensor};
use epitome_kernels::{
    AffineSums, Dropout, DropoutKey, ResidualSum, RowIndex, add_assign, add_layer_norm, add_layer_norm_backward,
    dropout, gather_rows, gelu, gelu_backward, layer_norm, layer_norm_backward, lerp_assign, scale_assign,
    sum_of_squares, write_rows,
};

/// Rows of hidden states, 96 MiB, that no cache holds.
const TOKENS: usize = 32_768;

const VALUES: usize = TOKENS * WIDTH;

pub(crate) fn run(bench: &mut Bench) {
    norms(bench);
    let wide = || Ok([numbers(&[TOKENS / 4, 4 * WIDTH])?, numbers(&[TOKENS / 4, 4 * WIDTH])?]);
    let work = [2, 3].map(|n| Work::values(n * VALUES));
    both_ways(bench, "gelu/wide", work, wide, |[x, _]| gelu(x), |[x, dy], _| gelu_backward(x, dy));
    // Its own backward.
    let spec = Some(Dropout { probability: 0.1, key: DropoutKey::new(3) });
    bench.run("dropout/hidden", Work::values(2 * VALUES), one, |t| dropout(t, spec));
    accumulators(bench);
    rows(bench);
}

fn one() -> Result<Tensor> {
    numbers(&[TOKENS, WIDTH])
}

fn two() -> Result<[Tensor; 2]> {
    Ok([one()?, one()?])
}

/// What a norm of `x` or `x + residual` gets, both ways.
struct Norm {
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    dy: Tensor,
    sums: AffineSums,
}

impl Norm {
    fn new() -> Result<Self> {
        let row = || numbers(&[WIDTH]);
        let sums = AffineSums { weight: Some(row()?), bias: Some(row()?) };
        Ok(Self { x: one()?, residual: one()?, weight: row()?, bias: row()?, dy: one()?, sums })
    }

    fn sum(&self) -> ResidualSum<'_> {
        ResidualSum { x: &self.x, residual: &self.residual, dropout: None, first: 0 }
    }
}

/// Backward, x and the gradient are read and a gradient is written.
fn norms(bench: &mut Bench) {
    let work = [2, 3].map(|n| Work::values(n * VALUES));
    let forward = |n: &Norm| layer_norm(&n.x, &n.weight, &n.bias, 1e-5);
    both_ways(bench, "layer norm/hidden", work, Norm::new, forward, |n, _| {
        layer_norm_backward(&n.x, &n.weight, &n.dy, 1e-5, &n.sums)
    });
    let work = [3, 4].map(|n| Work::values(n * VALUES));
    let forward = |n: &Norm| add_layer_norm(n.sum(), &n.weight, &n.bias, 1e-5);
    both_ways(bench, "add layer norm/hidden", work, Norm::new, forward, |n, _| {
        add_layer_norm_backward(n.sum(), &n.weight, &n.dy, 1e-5, &n.sums, None)
    });
}

fn accumulators(bench: &mut Bench) {
    bench.run("add assign/hidden", Work::values(3 * VALUES), two, |[sum, gradient]| add_assign(sum, gradient));
    bench.run("lerp assign/hidden", Work::values(3 * VALUES), two, |[average, values]| {
        lerp_assign(average, values, 1e-3)
    });
    bench.run("scale assign/hidden", Work::values(2 * VALUES), one, |t| scale_assign(t, 1.0));
    bench.run("sum of squares/hidden", Work::read(4 * VALUES), one, |t| sum_of_squares(&[t]));
}

fn rows(bench: &mut Bench) {
    let rows: Vec<usize> = (0..TOKENS).map(|i| i * 2_741 % TOKENS).collect();
    let (index, sixteenth) = (RowIndex::new(rows.clone()), RowIndex::new(rows[..TOKENS / 16].to_vec()));
    bench.run("gather rows/all", Work::values(2 * VALUES), one, |t| gather_rows(t, &index));
    let setup = || Ok((numbers(&[TOKENS, WIDTH])?, numbers(&[TOKENS / 16, WIDTH])?));
    let work = Work::values(2 * VALUES / 16);
    bench.run("write rows/a sixteenth", work, setup, |(base, rows)| write_rows(base, &sixteenth, rows));
}
