//! `attention_forward` and its backward at the borders of its blocks and groups of queries, and with products of bf16.

use crate::attention_reference::{Reference, band, check, plain, with_dropout};
use crate::numbers::{Numbers, close, tensor};
use candle_core::Tensor;
use epitome_kernels::{Attention, Precision, Visibility, attention_forward};
use half::bf16;

/// Queries around a block's 64 and around a group's 256.
const LENGTHS: [usize; 10] = [1, 63, 64, 65, 255, 256, 257, 300, 320, 513];

/// Global positions at both ends of a document and around a block's border, where it has them.
fn positions(length: usize) -> Vec<usize> {
    [0, 1, 63, 64, 65, 255, 256, 257].into_iter().filter(|position| *position < length).collect()
}

/// Whether the processor multiplies bf16; elsewhere attention stays in f32.
fn multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Fails unless bf16 attention is that of operands rounded to bf16. These go into the reference, so that what is left
/// is one rounding of each probability, 2^-8 of it, before it weighs a value: at most 2^-8 of the largest value, or
/// of what dropout makes of it. Sums in f32 add what they add elsewhere.
#[track_caller]
fn check_bf16(heads: usize, size: usize, spec: &Attention) {
    let mut numbers = Numbers::seeded((heads * 1000 + size) as u64 + spec.keys.total() as u64);
    let (queries, keys) = (spec.queries.total() * heads * size, spec.keys.total() * heads * size);
    let (q, k, v) = (numbers.vector(queries), numbers.vector(keys), numbers.vector(keys));
    let spec = Attention { precision: Precision::Bf16, ..spec.clone() };
    let found = attention_forward(
        &tensor(&q, &[spec.queries.total(), heads, size]),
        &tensor(&k, &[spec.keys.total(), heads, size]),
        &tensor(&v, &[spec.keys.total(), heads, size]),
        &spec,
    );
    let native = multiplies_bf16();
    let round = |value: f32| if native { f64::from(bf16::from_f32(value)) } else { f64::from(value) };
    let q: Vec<f64> = q.iter().map(|q| round(spec.scale * *q as f32)).collect();
    let [k, v] = [k, v].map(|values| values.iter().map(|value| round(*value as f32)).collect::<Vec<f64>>());
    let scaled = Attention { scale: 1.0, ..spec.clone() };
    let wanted = Reference { spec: &scaled, heads, size, q: &q, k: &k, v: &v }.run(&vec![0.0; q.len()]).output;
    let kept = spec.dropout.map_or(1.0, |dropout| 1.0 / (1.0 - f64::from(dropout.probability)));
    let tolerance = if native { 1.5 * kept / 256.0 + 1e-5 } else { 1e-5 };
    // `close` allows the tolerance times the largest wanted number, at least 1: no number here is larger than `most`.
    let most = wanted.iter().fold(1.0f64, |most, value| most.max(value.abs()));
    close("output", &found.unwrap().output, &wanted, tolerance / most);
}

#[test]
fn lengths_around_blocks_and_groups() {
    for length in LENGTHS {
        check(1, 4, &band(&[length], 33, vec![positions(length)]));
        check(1, 4, &plain(&[length], &[length], Visibility::Causal { past: 0 }));
        check(1, 4, &plain(&[length], &[length / 2 + 1], Visibility::Full));
    }
    check(2, 3, &band(&LENGTHS, 5, LENGTHS.map(positions).to_vec()));
}

#[test]
fn dropout_of_a_group_of_blocks() {
    check(2, 4, &with_dropout(band(&[300, 65], 19, vec![vec![0, 200], vec![64]])));
}

#[test]
fn bf16_in_a_band_at_lengths_around_blocks_and_groups() {
    for length in LENGTHS {
        for radius in [1, 2, 33, 64, 150] {
            check_bf16(2, 8, &band(&[length], radius, vec![positions(length)]));
        }
        check_bf16(1, 64, &band(&[length], 40, vec![vec![]]));
    }
}

#[test]
fn bf16_of_many_documents() {
    let lengths = [1, 0, 17, 2, 129, 64, 300, 65];
    check_bf16(3, 5, &band(&lengths, 5, lengths.map(positions).to_vec()));
    check_bf16(2, 8, &plain(&[3, 0, 300, 2], &[301, 5, 0, 1], Visibility::Full));
}

#[test]
fn bf16_of_all_head_sizes() {
    for size in [1, 2, 3, 7, 15, 16, 17, 33, 64, 65, 96, 100] {
        check_bf16(2, size, &band(&[75], 20, vec![vec![0, 40, 41]]));
        check_bf16(1, size, &plain(&[65], &[131], Visibility::Full));
    }
}

#[test]
fn bf16_of_other_masks() {
    for (queries, keys, past) in [(1, 1, 0), (100, 100, 0), (3, 80, 77), (65, 70, 5), (10, 4, 0), (300, 301, 1)] {
        check_bf16(2, 8, &plain(&[queries], &[keys], Visibility::Causal { past }));
    }
    for (queries, keys) in [(1, 1), (4, 300), (130, 7), (300, 511), (16, 2501)] {
        check_bf16(2, 8, &plain(&[queries], &[keys], Visibility::Full));
    }
    check_bf16(1, 4, &band(&[700], 10, vec![(0..700).filter(|position| position % 2 == 0).collect()]));
}

#[test]
fn bf16_with_dropout() {
    check_bf16(2, 8, &with_dropout(band(&[290, 31], 7, vec![vec![0, 45], vec![30]])));
    check_bf16(3, 5, &with_dropout(plain(&[20, 9], &[301, 9], Visibility::Full)));
}

#[test]
fn bf16_of_random_shapes() {
    let mut numbers = Numbers::seeded(77);
    for _ in 0..25 {
        let lengths = [(); 3].map(|()| numbers.below(330));
        let global: Vec<Vec<usize>> =
            lengths.iter().map(|length| (0..*length).filter(|_| numbers.below(40) == 0).collect()).collect();
        let (heads, size, radius) = (1 + numbers.below(3), 1 + numbers.below(40), 1 + numbers.below(90));
        check_bf16(heads, size, &band(&lengths, radius, global));
    }
}

/// In every precision, at lengths where blocks and groups begin at other rows of the batch than of the document.
#[test]
fn a_document_is_bit_identical_alone_and_in_a_batch() {
    let (lengths, heads, size) = ([37, 301, 65], 2, 7);
    let total = lengths.iter().sum::<usize>();
    let mut numbers = Numbers::seeded(3);
    let [q, k, v] = [(); 3].map(|()| tensor(&numbers.vector(total * heads * size), &[total, heads, size]));
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let run = |from: usize, lengths: &[usize]| {
            let [q, k, v] = [&q, &k, &v].map(|t| t.narrow(0, from, lengths.iter().sum()).unwrap());
            let spec = Attention { precision, ..band(lengths, 9, lengths.iter().map(|n| positions(*n)).collect()) };
            values(&attention_forward(&q, &k, &v, &spec).unwrap().output)
        };
        let together = run(0, &lengths);
        for (b, from) in [0, 37, 338].into_iter().enumerate() {
            let alone = run(from, &lengths[b..=b]);
            assert!(together[from * heads * size..][..alone.len()] == alone, "document {b} in {precision:?}");
        }
    }
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}
