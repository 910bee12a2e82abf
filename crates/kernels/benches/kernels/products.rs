//! Matrix products with weights.

use crate::ceilings::Limit;
use crate::measure::{Bench, InTurn, Work};
use crate::{HEADS, TOKENS, WIDTH, both_ways, numbers};
use candle_core::{DType, Result};
use epitome_kernels::{
    AffineSums, HeadProjection, PackedLinear, Precision, fold_heads, head_projection_backward, linear, linear_backward,
    linear_input_gradient, project_heads,
};

/// What a weight's products are bounded by, and the bytes of a number of it.
const PRECISIONS: [(Precision, Limit, usize); 3] =
    [(Precision::F32, Limit::F32, 4), (Precision::Bf16, Limit::Bf16, 2), (Precision::Int8, Limit::Int8, 1)];

const SHAPES: [(usize, usize); 3] = [(WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)];

pub(crate) fn run(bench: &mut Bench) {
    for (precision, limit, bytes) in PRECISIONS {
        for (inputs, outputs) in SHAPES {
            many_rows(bench, precision, limit, (inputs, outputs));
        }
        few_rows(bench, precision, bytes);
        feed_forward(bench, precision, limit);
    }
    plain(bench);
    heads(bench);
}

fn packed(precision: Precision, outputs: usize, inputs: usize) -> Result<PackedLinear> {
    let (weight, bias) = (numbers(&[outputs, inputs])?, numbers(&[outputs])?);
    PackedLinear::new(&weight, Some(&bias), precision)
}

fn many_rows(bench: &mut Bench, precision: Precision, limit: Limit, (inputs, outputs): (usize, usize)) {
    let work = Work::operations(limit, 2 * TOKENS * inputs * outputs);
    let setup = || Ok((packed(precision, outputs, inputs)?, numbers(&[TOKENS, inputs])?));
    let name = format!("packed/{precision:?} {TOKENS} x {inputs} x {outputs}");
    bench.run(&name, work, setup, |(linear, x)| linear.forward(x));
}

/// A decoding step's rows: the weight is read from memory.
fn few_rows(bench: &mut Bench, precision: Precision, bytes: usize) {
    let (inputs, outputs) = (WIDTH, 4 * WIDTH);
    let bytes = inputs * outputs * bytes;
    let setup = || Ok((InTurn::new(|| packed(precision, outputs, inputs), bytes)?, numbers(&[4, inputs])?));
    let name = format!("packed/{precision:?} 4 x {inputs} x {outputs}");
    bench.run(&name, Work::read(bytes), setup, |(linear, x)| linear.next().forward(x));
}

fn feed_forward(bench: &mut Bench, precision: Precision, limit: Limit) {
    let setup = || {
        let (first, second) = (packed(precision, 4 * WIDTH, WIDTH)?, packed(precision, WIDTH, 4 * WIDTH)?);
        Ok((first, second, numbers(&[TOKENS, WIDTH])?))
    };
    let work = Work::operations(limit, 2 * 2 * TOKENS * WIDTH * 4 * WIDTH);
    let name = format!("feed forward/{precision:?} {TOKENS} x {WIDTH}");
    bench.run(&name, work, setup, |(first, second, x)| first.feed_forward(second, x));
}

fn plain(bench: &mut Bench) {
    let (inputs, outputs) = (WIDTH, 4 * WIDTH);
    let setup = || {
        let (weight, bias) = (numbers(&[outputs, inputs])?, numbers(&[outputs])?);
        let sums = AffineSums { weight: Some(numbers(&[outputs, inputs])?), bias: Some(numbers(&[outputs])?) };
        Ok((numbers(&[TOKENS, inputs])?, weight, bias, numbers(&[TOKENS, outputs])?, sums))
    };
    let flop = 2 * TOKENS * inputs * outputs;
    let work = [flop, 2 * flop].map(|flop| Work::operations(Limit::F32, flop));
    let name = format!("linear/{TOKENS} x {inputs} x {outputs}");
    both_ways(
        bench,
        &name,
        work,
        setup,
        |(x, weight, bias, ..)| linear(x, weight, Some(bias)),
        |(x, weight, _, dy, sums), _| {
            linear_backward(x, dy, sums)?;
            linear_input_gradient(dy, weight)
        },
    );
}

fn heads(bench: &mut Bench) {
    const ROWS: usize = 64;
    let setup = || {
        let sums = AffineSums { weight: Some(numbers(&[WIDTH, WIDTH])?), bias: Some(numbers(&[WIDTH])?) };
        Ok((numbers(&[ROWS, WIDTH])?, numbers(&[WIDTH, WIDTH])?, numbers(&[WIDTH])?, sums))
    };
    let flop = 2 * ROWS * WIDTH * WIDTH;
    let work = [flop, 2 * flop].map(|flop| Work::operations(Limit::F32, flop));
    both_ways(
        bench,
        &format!("fold heads/{ROWS} rows"),
        work,
        setup,
        |(x, weight, bias, _)| fold_heads(x, HeadProjection { weight, bias, heads: HEADS, scale: 0.125 }),
        |(x, weight, bias, sums), y| {
            head_projection_backward(x, y, 0.125, sums)?;
            project_heads(y, HeadProjection { weight, bias, heads: HEADS, scale: 0.125 }, DType::F32)
        },
    );
}
