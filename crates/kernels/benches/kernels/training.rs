//! What training does beside its layers: embeddings, the output head with its loss, and the optimizer.

use crate::ceilings::Limit;
use crate::measure::{Bench, Work};
use crate::{TOKENS, WIDTH, numbers};
use candle_core::{DType, Tensor};
use epitome_kernels::{
    Adafactor, AdamW, AdamWParameter, accumulate_rows, adafactor_step, adamw_step, cross_entropy,
    cross_entropy_backward, embed, token_log_probabilities,
};

const VOCABULARY: usize = 50_265;

/// Tokens of a summary.
const TARGETS: usize = 128;

pub(crate) fn run(bench: &mut Bench) {
    embeddings(bench);
    loss(bench);
    optimizer(bench);
}

fn embeddings(bench: &mut Bench) {
    let ids: Vec<u32> = (0..TOKENS).map(|i| (5 + (i * 7919 + 13) % 50_000) as u32).collect();
    let positions: Vec<u32> = (0..TOKENS as u32).collect();
    let setup = || Ok((numbers(&[VOCABULARY, WIDTH])?, numbers(&[TOKENS, WIDTH])?));
    let work = Work::values(3 * TOKENS * WIDTH);
    bench.run("embed/tokens and positions", work, setup, |(tokens, table)| {
        embed(&[(tokens, &ids), (table, &positions)], DType::F32)
    });
    bench.run("accumulate rows/tokens", work, setup, |(tokens, gradient)| {
        accumulate_rows(tokens, &ids, gradient, Some(1))
    });
}

fn loss(bench: &mut Bench) {
    let targets: Vec<i64> = (0..TARGETS as i64).map(|i| i * 97).collect();
    let setup = || Ok((numbers(&[TARGETS, WIDTH])?, numbers(&[VOCABULARY, WIDTH])?));
    let product = 2 * TARGETS * VOCABULARY * WIDTH;
    let work = Work::operations(Limit::F32, product);
    bench
        .run("cross entropy/forward", work, setup, |(hidden, table)| cross_entropy(hidden, table, None, &targets, 0.1));
    bench.run("cross entropy/log probabilities", work, setup, |(hidden, table)| {
        token_log_probabilities(hidden, table, None, &targets)
    });
    let setup = || setup().and_then(|(hidden, table)| Ok((hidden, table.zeros_like()?, table)));
    let work = Work::operations(Limit::F32, 3 * product);
    bench.run("cross entropy/both ways", work, setup, |(hidden, gradient, table)| {
        cross_entropy_backward(hidden, table, None, &targets, 0.1, 1.0, Some(gradient))
    });
}

fn optimizer(bench: &mut Bench) {
    adamw(bench);
    adafactor(bench);
}

/// Parameter, moments and gradient are read, all but the last are written.
fn adamw(bench: &mut Bench) {
    let shape = [16_384, WIDTH];
    let setup = || {
        let parameter = numbers(&shape)?;
        let moments = Tensor::zeros((2, shape[0], shape[1]), parameter.dtype(), parameter.device())?;
        Ok((parameter, moments, numbers(&shape)?))
    };
    let hyper = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    bench.run("adamw/a table", Work::values(7 * shape[0] * shape[1]), setup, |(parameter, moments, gradient)| {
        let one = AdamWParameter {
            parameter,
            moments,
            gradient,
            copy: None,
            learning_rate: 1e-4,
            weight_decay: 0.01,
            step: 10,
        };
        adamw_step(&[one], 1.0, &hyper)
    });
}

/// The gradient is read for its squares, for those of the update, and for the update, and the parameter is changed; with a
/// mean of updates this is changed instead, then read to change the parameter.
fn adafactor(bench: &mut Bench) {
    let shape = [16_384, WIDTH];
    let values = shape[0] * shape[1];
    let plain = Adafactor {
        learning_rate: 1e-4,
        least_scale: None,
        beta1: None,
        decay: 0.9,
        epsilon: 1e-30,
        clip_threshold: 1.0,
        weight_decay: 0.01,
    };
    for (name, work, hyper) in
        [("a table", 5, plain), ("a table with a mean of updates", 8, Adafactor { beta1: Some(0.9), ..plain })]
    {
        let setup = || {
            let parameter = numbers(&shape)?;
            let moments = Tensor::ones(shape[0] + shape[1], parameter.dtype(), parameter.device())?;
            let mean = hyper.beta1.map(|_| parameter.zeros_like()).transpose()?;
            Ok((parameter, moments, mean, numbers(&shape)?))
        };
        bench.run(
            &format!("adafactor/{name}"),
            Work::values(work * values),
            setup,
            |(parameter, moments, mean, gradient)| {
                adafactor_step(parameter, moments, mean.as_ref(), gradient, 1.0, &hyper)
            },
        );
    }
}
