//! Attention. What `attention_reference::check` asks of the CPU's kernels it asks of these too.

use super::{close, device, numbers_of, place, rounded};
use crate::attention_reference::{Reference, Results, band, plain, with_dropout};
use crate::numbers::Numbers;
use candle_core::{DType, Tensor};
use epitome_kernels::cuda::{Units, attention_backward, attention_forward};
use epitome_kernels::{Attention, Visibility};

/// How far output and gradients may be off, as [`close`] has it. Sums in f32 are that of the CPU; what is rounded to bf16 is the
/// output or gradient itself, 2^-9 of it, each probability or its gradient, as much, and the output from which the softmax's
/// backward starts.
const EXACT: [f64; 2] = [1e-5, 2e-5];
const ROUNDED: [f64; 2] = [0.01, 0.015];

/// Fails unless the kernels agree with the whole matrix of scores in f64: those for any head size in f32 and bf16, and those on
/// the matrix units where there are some.
#[track_caller]
pub(crate) fn check(heads: usize, size: usize, spec: &Attention) {
    let mut numbers = Numbers::seeded((heads * 1000 + size) as u64 + spec.keys.total() as u64);
    let [queries, keys] = [&spec.queries, &spec.keys].map(|rows| rows.total() * heads * size);
    let inputs = [queries, keys, keys, queries].map(|length| numbers.vector(length));
    compare(DType::F32, (heads, size), spec, &inputs, Units::Plain, EXACT);
    compare(DType::BF16, (heads, size), spec, &inputs, Units::Plain, ROUNDED);
    if size == 64 || size == 128 {
        for units in matrix_units() {
            compare(DType::BF16, (heads, size), spec, &inputs, units, ROUNDED);
        }
    }
}

/// The kernels on matrix units that the device has.
fn matrix_units() -> impl Iterator<Item = Units> {
    [Units::Matrix, Units::WarpGroups].into_iter().filter(|units| units.are_of(&device()).unwrap())
}

#[track_caller]
fn compare(
    dtype: DType,
    (heads, head_size): (usize, usize),
    spec: &Attention,
    inputs: &[Vec<f64>; 4],
    units: Units,
    [tolerance, gradient_tolerance]: [f64; 2],
) {
    let [q, k, v, gradient] = inputs.each_ref().map(|values| rounded(values, dtype));
    let reference = Reference { spec, heads, size: head_size, q: &q, k: &k, v: &v };
    let Results { output, q: dq, k: dk, v: dv } = reference.run(&gradient);
    let [q, k, v, gradient] = inputs.each_ref().map(|values| rows(values, heads, head_size, dtype));
    let attended = attention_forward(&q, &k, &v, spec, units).unwrap();
    close("output", &attended.output, &output, tolerance);
    let gradients = attention_backward([&q, &k, &v], spec, &attended, &gradient, units).unwrap();
    for ((what, found), wanted) in ["dq", "dk", "dv"].into_iter().zip(&gradients).zip([dq, dk, dv]) {
        close(what, found, &wanted, gradient_tolerance);
    }
}

/// `[T, H, D]`.
fn rows(values: &[f64], heads: usize, size: usize, dtype: DType) -> Tensor {
    place(values, &[values.len() / (heads * size), heads, size], dtype)
}

/// As models have it: scores of about 1.
fn scaled(size: usize, spec: Attention) -> Attention {
    Attention { scale: 1.0 / (size as f32).sqrt(), ..spec }
}

#[test]
fn bands_on_matrix_units() {
    for size in [64, 128] {
        for (lengths, radius) in [(vec![1], 1), (vec![70], 3), (vec![130], 64), (vec![300], 40), (vec![200], 1000)] {
            check(2, size, &scaled(size, band(&lengths, radius, vec![vec![]])));
        }
    }
}

/// Radii at which the first or last key that all queries see is the first or last of a tile, or beside it.
#[test]
fn bands_that_end_beside_tiles() {
    for radius in [95, 96, 97, 125, 126, 127, 128, 129, 190] {
        check(1, 64, &scaled(64, band(&[450], radius, vec![vec![]])));
    }
}

#[test]
fn many_documents_on_matrix_units() {
    let lengths = [1, 17, 2, 129, 64, 0, 257];
    check(3, 64, &scaled(64, band(&lengths, 5, vec![vec![]; 7])));
    check(1, 128, &scaled(128, plain(&[3, 0, 130], &[10, 5, 1], Visibility::Full)));
}

/// Eight are few, nine are not.
#[test]
fn global_keys_on_matrix_units() {
    for global in [
        vec![0],
        vec![199],
        vec![0, 1, 63, 64, 65, 128, 199],
        (90..98).collect(),
        (90..99).collect(),
        (0..200).collect(),
        (50..150).collect(),
    ] {
        check(1, 64, &scaled(64, band(&[200], 6, vec![global])));
    }
    check(2, 128, &scaled(128, band(&[20, 1, 190, 3], 70, vec![vec![0, 19], vec![0], vec![7, 100], vec![1]])));
    // Beside tiles that all queries see: a few, and more, of which there is a tile right before those.
    for (size, globals) in [(64, 200..209), (128, 200..209), (64, 90..98), (128, 90..98)] {
        check(1, size, &scaled(size, band(&[400], 150, vec![globals.collect()])));
    }
    check(1, 128, &with_dropout(scaled(128, band(&[400], 150, vec![(90..98).collect()]))));
}

#[test]
fn global_keys_of_more_queries_than_a_chunk() {
    let positions = (0..2200).filter(|position| position % 16 == 3).collect();
    check(1, 64, &scaled(64, band(&[2200], 3, vec![positions])));
}

#[test]
fn other_masks_on_matrix_units() {
    for (queries, keys, past) in [(1, 1, 0), (200, 200, 0), (3, 80, 77), (65, 70, 5), (10, 4, 0)] {
        check(2, 64, &scaled(64, plain(&[queries], &[keys], Visibility::Causal { past })));
    }
    for (queries, keys) in [(4, 300), (130, 7), (3, 0), (300, 129)] {
        check(1, 64, &scaled(64, plain(&[queries], &[keys], Visibility::Full)));
    }
    check(1, 128, &scaled(128, plain(&[150], &[150], Visibility::Causal { past: 0 })));
}

/// Keys that are split so that there are enough blocks, in f64 as a whole.
#[test]
fn few_queries_of_many_keys() {
    check(2, 64, &scaled(64, plain(&[5], &[3100], Visibility::Full)));
    check(1, 64, &scaled(64, plain(&[3, 0, 140, 2], &[2111, 9, 1300, 0], Visibility::Full)));
    check(1, 128, &scaled(128, plain(&[1], &[2049], Visibility::Full)));
}

#[test]
fn dropout_on_matrix_units() {
    check(2, 64, &with_dropout(scaled(64, band(&[190, 30], 37, vec![vec![0, 45], vec![29]]))));
    check(3, 128, &with_dropout(scaled(128, plain(&[20, 9], &[300, 9], Visibility::Full))));
    check(1, 64, &with_dropout(scaled(64, plain(&[180], &[180], Visibility::Causal { past: 0 }))));
}

/// Keys whose scores grow along the document, so that what was summed is rescaled, or not: by little less and by more than the slack
/// of a maximum.
#[test]
fn growing_scores_on_matrix_units() {
    for (size, growth) in [(64, 0.02), (64, 0.1), (128, 0.5)] {
        let spec = scaled(size, band(&[400], 150, vec![vec![3]]));
        let mut numbers = Numbers::seeded(5);
        let mut inputs = [(); 4].map(|()| numbers.vector(400 * size));
        for (row, key) in inputs[1].chunks_mut(size).enumerate() {
            key.iter_mut().for_each(|value| *value *= 1.0 + growth * row as f64);
        }
        for units in matrix_units() {
            compare(DType::BF16, (1, size), &spec, &inputs, units, [0.02, 0.03]);
        }
    }
}

/// Nearly each exponential by itself: where values are parts of a unit, outputs are sums of four weights, and where gradients are parts
/// of one, so are gradients of values.
#[test]
fn exponentials_on_matrix_units() {
    let (length, size) = (256, 64);
    let mut numbers = Numbers::seeded(5);
    let mut scores = || firsts(&numbers.vector(length), size);
    let parts: Vec<f64> = (0..length * size).map(|i| f64::from(i / size % size == i % size)).collect();
    let [q, k] = [scores(), scores()].map(|values| rounded(&values, DType::BF16));
    let spec = Attention { scale: 4.0, ..plain(&[length], &[length], Visibility::Full) };
    let wanted = Reference { spec: &spec, heads: 1, size, q: &q, k: &k, v: &parts }.run(&parts);
    let [q, k, parts] = [q, k, parts].map(|values| rows(&values, 1, size, DType::BF16));
    for units in matrix_units() {
        let attended = attention_forward(&q, &k, &parts, &spec, units).unwrap();
        close("output", &attended.output, &wanted.output, 0.0025);
        let [_, _, dv] = attention_backward([&q, &k, &parts], &spec, &attended, &parts, units).unwrap();
        close("dv", &dv, &wanted.v, 0.0025);
    }
}

/// A key so far beyond all before it that a power of two of the difference is none of f32, or that is no number, at each place that a
/// lane has.
#[test]
fn one_score_beyond_all_on_matrix_units() {
    let (length, size) = (256, 64);
    let spec = plain(&[length], &[length], Visibility::Full);
    let values = Numbers::seeded(5).vector(length * size);
    let [q, v] = [firsts(&vec![1.0; length], size), values.clone()].map(|values| rows(&values, 1, size, DType::BF16));
    for key in 128..144 {
        for score in [150.0, 250.0, f64::NAN] {
            let keys: Vec<f64> = (0..length).map(|row| if row == key { score } else { 0.0 }).collect();
            let k = rows(&firsts(&keys, size), 1, size, DType::BF16);
            for units in matrix_units() {
                let output = attention_forward(&q, &k, &v, &spec, units).unwrap().output;
                if score.is_nan() {
                    assert!(numbers_of(&output).iter().all(|number| number.is_nan()), "{units:?}, key {key}");
                } else {
                    let wanted = rounded(&values[key * size..][..size], DType::BF16).repeat(length);
                    close("output", &output, &wanted, 0.0);
                }
            }
        }
    }
}

/// Rows of `size` of which only the first number is not 0.
fn firsts(numbers: &[f64], size: usize) -> Vec<f64> {
    numbers.iter().flat_map(|&number| std::iter::once(number).chain(std::iter::repeat_n(0.0, size - 1))).collect()
}

#[test]
fn large_scores_on_matrix_units() {
    let mut spec = band(&[150], 20, vec![vec![3]]);
    spec.scale = 20.0;
    let mut numbers = Numbers::seeded(5);
    let inputs = [(); 4].map(|()| numbers.vector(150 * 64));
    let [q, k, v, _] = inputs.each_ref().map(|values| rounded(values, DType::BF16));
    let wanted = Reference { spec: &spec, heads: 1, size: 64, q: &q, k: &k, v: &v }.run(&inputs[3]);
    let [q, k, v, _] = inputs.each_ref().map(|values| rows(values, 1, 64, DType::BF16));
    for units in matrix_units() {
        let attended = attention_forward(&q, &k, &v, &spec, units).unwrap();
        close("output", &attended.output, &wanted.output, 0.01);
    }
}

#[test]
fn a_document_is_bit_identical_alone_and_in_a_batch() {
    let (lengths, heads, size) = ([37, 301, 65], 2, 64);
    let global = [vec![1], vec![0, 77, 200], vec![]];
    let mut numbers = Numbers::seeded(3);
    let [q, k, v] = [(); 3].map(|()| rows(&numbers.vector(403 * heads * size), heads, size, DType::BF16));
    let run = |units: Units, from: usize, lengths: &[usize], global: &[Vec<usize>]| {
        let [q, k, v] = [&q, &k, &v].map(|rows| rows.narrow(0, from, lengths.iter().sum()).unwrap());
        let spec = band(lengths, 9, global.to_vec());
        let attended = attention_forward(&q, &k, &v, &spec, units).unwrap();
        let [dq, dk, dv] = attention_backward([&q, &k, &v], &spec, &attended, &q, units).unwrap();
        [attended.output, dq, dk, dv].map(|tensor| numbers_of(&tensor))
    };
    for units in matrix_units() {
        let together = run(units, 0, &lengths, &global);
        for (b, from) in [0, 37, 338].into_iter().enumerate() {
            for (alone, together) in run(units, from, &lengths[b..=b], &global[b..=b]).iter().zip(&together) {
                assert!(together[from * heads * size..][..alone.len()] == alone[..], "{units:?}, document {b}");
            }
        }
    }
}
