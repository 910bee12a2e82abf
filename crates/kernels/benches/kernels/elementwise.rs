//! What is done to rows and to single numbers: bounded by memory.

use crate::measure::{Bench, Work};
use crate::{WIDTH, both_ways, numbers};
use candle_core::{Result, Var};
use epitome_kernels::{
    Dropout, DropoutKey, add_assign, add_layer_norm, dropout, gather_rows, gelu, layer_norm, scale_assign,
    sum_of_squares, write_rows,
};

/// Rows of hidden states, 96 MiB, that no cache holds.
const TOKENS: usize = 32_768;

const VALUES: usize = TOKENS * WIDTH;

pub(crate) fn run(bench: &mut Bench) {
    norms(bench);
    let wide = || Ok(vec![numbers(&[TOKENS / 4, 4 * WIDTH])?]);
    both_ways(bench, "gelu/wide", [2, 3].map(|n| Work::values(n * VALUES)), wide, |t| gelu(&t[0]));
    let spec = Some(Dropout { probability: 0.1, key: DropoutKey::new(3) });
    both_ways(bench, "dropout/hidden", [2, 2].map(|n| Work::values(n * VALUES)), one, |t| dropout(&t[0], spec));
    accumulators(bench);
    rows(bench);
}

fn one() -> Result<Vec<Var>> {
    Ok(vec![numbers(&[TOKENS, WIDTH])?])
}

/// Backward, x and the gradient are read and a gradient is written.
fn norms(bench: &mut Bench) {
    let setup =
        || [vec![TOKENS, WIDTH], vec![TOKENS, WIDTH], vec![WIDTH], vec![WIDTH]].iter().map(|s| numbers(s)).collect();
    let work = [2, 3].map(|n| Work::values(n * VALUES));
    both_ways(bench, "layer norm/hidden", work, setup, |t| layer_norm(&t[0], &t[2], &t[3], 1e-5));
    let work = [3, 4].map(|n| Work::values(n * VALUES));
    both_ways(bench, "add layer norm/hidden", work, setup, |t| add_layer_norm(&t[0], &t[1], &t[2], &t[3], 1e-5));
}

fn accumulators(bench: &mut Bench) {
    let two = || Ok((numbers(&[TOKENS, WIDTH])?, numbers(&[TOKENS, WIDTH])?));
    bench.run("add assign/hidden", Work::values(3 * VALUES), two, |(sum, gradient)| add_assign(sum, gradient));
    bench.run("scale assign/hidden", Work::values(2 * VALUES), one, |t| scale_assign(&t[0], 1.0));
    bench.run("sum of squares/hidden", Work::read(4 * VALUES), one, |t| sum_of_squares(&t[0]));
}

fn rows(bench: &mut Bench) {
    let index: Vec<usize> = (0..TOKENS).map(|i| i * 2_741 % TOKENS).collect();
    bench.run("gather rows/all", Work::values(2 * VALUES), one, |t| gather_rows(&t[0], &index));
    let setup = || Ok((numbers(&[TOKENS, WIDTH])?, numbers(&[TOKENS / 16, WIDTH])?));
    let sixteenth = &index[..TOKENS / 16];
    let work = Work::values(2 * VALUES / 16);
    bench.run("write rows/a sixteenth", work, setup, |(base, rows)| write_rows(base, sixteenth, rows));
}
