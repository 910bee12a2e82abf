//! A decoding step: attention to memory and past, and the most probable tokens.

use super::{close, numbers_of, place, rounded};
use crate::attention_reference::{Reference, plain};
use crate::numbers::{Numbers, dot};
use candle_core::{DType, Tensor};
use epitome_kernels::cuda::{memory_attention, past_attention, top_k};
use epitome_kernels::{Attention, Segments, Visibility};

/// `[T, H, D]`.
fn rows(values: &[f64], heads: usize, size: usize, dtype: DType) -> Tensor {
    place(values, &[values.len() / (heads * size), heads, size], dtype)
}

fn check_memory(heads: usize, size: usize, queries: &[usize], keys: &[usize]) {
    let spec = Attention { scale: 2.0 / (size as f32).sqrt(), ..plain(queries, keys, Visibility::Full) };
    let mut numbers = Numbers::seeded((heads * 1000 + size) as u64);
    let lengths = [&spec.queries, &spec.keys, &spec.keys].map(|rows| rows.total() * heads * size);
    let [q, k, v] = lengths.map(|length| rounded(&numbers.vector(length), DType::BF16));
    let wanted = Reference { spec: &spec, heads, size, q: &q, k: &k, v: &v }.run(&vec![0.0; q.len()]).output;
    let [q, k, v] = [q, k, v].map(|values| rows(&values, heads, size, DType::BF16));
    let segments = (&spec.queries, &spec.keys);
    close("output", &memory_attention([&q, &k, &v], segments, spec.scale).unwrap(), &wanted, 0.01);
}

#[test]
fn memories_of_many_lengths() {
    for keys in [1, 31, 32, 33, 130, 511, 512, 513, 1500] {
        check_memory(1, 64, &[4], &[keys]);
    }
    check_memory(5, 64, &[4, 0, 1, 17, 2], &[600, 40, 7, 33, 0]);
    check_memory(2, 128, &[1, 33], &[1100, 70]);
}

#[test]
fn a_row_is_bit_identical_alone_and_beside_others() {
    let (heads, size) = (2, 64);
    let mut numbers = Numbers::seeded(8);
    let [q, k, v] = [5, 700, 700].map(|count| rows(&numbers.vector(count * heads * size), heads, size, DType::BF16));
    let keys = Segments::single(700);
    let together = memory_attention([&q, &k, &v], (&Segments::single(5), &keys), 0.3).unwrap();
    for row in 0..5 {
        let [q, together] = [&q, &together].map(|rows| rows.narrow(0, row, 1).unwrap());
        let alone = memory_attention([&q, &k, &v], (&Segments::single(1), &keys), 0.3).unwrap();
        assert!(numbers_of(&alone) == numbers_of(&together));
    }
}

fn check_past(dtype: DType, (heads, size): (usize, usize), far: f64) {
    let (stored, scale) = (400, 0.6f32);
    let mut numbers = Numbers::seeded((heads * 1000 + size) as u64);
    let width = heads * size;
    let lengths = [1, 2, 32, 33, 0, 130, 257];
    let ancestors: Vec<Vec<u32>> =
        lengths.iter().map(|seen| (0..*seen).map(|_| numbers.below(stored) as u32).collect()).collect();
    let counts = [ancestors.len(), stored, stored];
    let [q, keys, values] = counts.map(|count| rounded(&numbers.vector(count * width), dtype));
    let mut wanted = vec![0.0; q.len()];
    for (row, head) in (0..ancestors.len()).flat_map(|row| (0..heads).map(move |head| (row, head))) {
        let head_of = |row: usize| row * width + head * size..row * width + (head + 1) * size;
        let seen = || ancestors[row].iter().map(|at| head_of(*at as usize));
        let weights: Vec<f64> = seen().map(|at| (f64::from(scale) * dot(&q[head_of(row)], &keys[at])).exp()).collect();
        let total: f64 = weights.iter().sum();
        for (at, weight) in seen().zip(&weights) {
            for (wanted, value) in wanted[head_of(row)].iter_mut().zip(&values[at]) {
                *wanted += weight / total * value;
            }
        }
    }
    let [q, keys, values] = [q, keys, values].map(|numbers| rows(&numbers, heads, size, dtype));
    let found = past_attention([&q, &keys, &values], &ancestors, scale).unwrap();
    close("context", &found, &wanted, far);
}

#[test]
fn rows_attend_to_their_past() {
    for (heads, size) in [(1, 1), (3, 7), (2, 33), (2, 64), (1, 128)] {
        check_past(DType::F32, (heads, size), 1e-5);
        check_past(DType::BF16, (heads, size), 0.005);
    }
}

fn check_top_k(dtype: DType, (vocabulary, stride): (usize, usize), k: usize, with_bias: bool) {
    let rows = 3;
    let mut numbers = Numbers::seeded((vocabulary * k) as u64);
    // Few different values, so that many are equal.
    let logits: Vec<f64> = numbers.vector(rows * stride).iter().map(|x| (x * 40.0).round() / 8.0).collect();
    let bias: Vec<f64> = (0..vocabulary).map(|v| if v % 7 == 2 { f64::NEG_INFINITY } else { (v % 3) as f64 }).collect();
    let single = place(&bias, &[vocabulary], DType::F32);
    let placed = place(&logits, &[rows, stride], dtype);
    let [values, indices] = top_k(&placed, vocabulary, with_bias.then_some(&single), k).unwrap();
    let (values, indices) = (numbers_of(&values), indices.flatten_all().unwrap().to_vec1::<i32>().unwrap());
    for (row, logits) in logits.chunks(stride).enumerate() {
        let biased: Vec<f64> = (0..vocabulary).map(|v| logits[v] + if with_bias { bias[v] } else { 0.0 }).collect();
        let total = biased.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        let mut order: Vec<usize> = (0..vocabulary).collect();
        order.sort_by(|a, b| biased[*b].total_cmp(&biased[*a]));
        for (n, wanted) in order[..k].iter().enumerate() {
            let (value, index) = (values[row * k + n], indices[row * k + n] as usize);
            assert_eq!(index, *wanted, "row {row}, place {n}");
            let log_p = biased[*wanted] - total;
            assert!(value == log_p || (value - log_p).abs() < 1e-5, "{value}, not {log_p}");
        }
    }
}

#[test]
fn the_most_probable_entries() {
    for (shape, k) in [((1, 1), 1), ((5, 5), 5), ((101, 104), 8), ((2000, 2000), 16), ((5003, 5008), 9)] {
        for with_bias in [false, true] {
            check_top_k(DType::F32, shape, k, with_bias);
            check_top_k(DType::BF16, shape, k, with_bias);
        }
    }
}
