//! The speed of every kernel beside what this machine can do at most: `cargo bench -p epitome-kernels -- [FILTER]`.
//!
//! First the ceilings are measured: multiply-adds without memory, and memory without arithmetic, on all threads; one more
//! try before every operation raises them if something else held the first back. Then every operation runs at the sizes
//! of LED-base, and its rate is printed with its share of the ceiling that it is closest to. A rate counts the
//! arithmetic, or the bytes, that the operation cannot do without; a number that is read and written counts twice.

#![allow(clippy::unwrap_used)]

mod attention;
mod ceilings;
mod elementwise;
mod measure;
mod products;
mod training;

use candle_core::{Device, Result, Tensor};
use epitome_kernels::prepare_process;
use measure::{Bench, Work};

const HEADS: usize = 12;
const HEAD_SIZE: usize = 64;
const WIDTH: usize = HEADS * HEAD_SIZE;

/// Tokens of a document.
const TOKENS: usize = 4096;

fn main() {
    prepare_process();
    let ceilings = ceilings::Ceilings::measure();
    println!("{} threads; {ceilings}\n", rayon::current_num_threads());
    let mut bench = Bench::new(ceilings);
    products::run(&mut bench);
    attention::run(&mut bench);
    elementwise::run(&mut bench);
    training::run(&mut bench);
    bench.finish();
}

/// Numbers in -0.5..0.5 that repeat after 1009 values.
fn numbers(shape: &[usize]) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i * 37 % 1009) as f32) / 1009.0 - 0.5).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// An operation and its backward alone: `work` is what either does, `inputs` makes what both get, the gradient of the
/// result included; the backward gets what one forward before gave, too.
fn both_ways<I, K, R>(
    bench: &mut Bench,
    name: &str,
    work: [Work; 2],
    inputs: impl Fn() -> Result<I>,
    forward: impl Fn(&I) -> Result<K>,
    backward: impl Fn(&I, &K) -> Result<R>,
) {
    bench.run(&format!("{name} forward"), work[0], &inputs, &forward);
    let setup = || {
        let inputs = inputs()?;
        let kept = forward(&inputs)?;
        Ok((inputs, kept))
    };
    bench.run(&format!("{name} backward"), work[1], setup, |(inputs, kept)| backward(inputs, kept));
}
