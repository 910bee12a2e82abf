//! `attention_forward` and `attention_backward` against the whole matrix of scores in f64.

use crate::attention_reference::{Reference, band, check, plain, with_dropout};
use crate::numbers::{Numbers, close, differences, dot, tensor};
use candle_core::Tensor;
use epitome_kernels::{Visibility, attention_backward, attention_forward};

#[test]
fn band_without_global_keys() {
    for (lengths, radius) in
        [(vec![1], 1), (vec![5], 1), (vec![70], 3), (vec![130], 64), (vec![40], 500), (vec![300], 8)]
    {
        check(2, 8, &band(&lengths, radius, vec![vec![]]));
    }
}

#[test]
fn band_of_many_documents() {
    check(3, 3, &band(&[1, 17, 2, 129, 64, 0, 65], 5, vec![vec![]; 7]));
}

#[test]
fn global_keys_anywhere() {
    for global in
        [vec![0], vec![100], vec![199], vec![0, 1, 63, 64, 65, 128, 199], (0..200).collect(), (50..150).collect()]
    {
        check(2, 8, &band(&[200], 6, vec![global]));
    }
}

#[test]
fn documents_differ_in_their_global_keys() {
    check(2, 4, &band(&[20, 1, 90, 3], 2, vec![vec![0, 19], vec![0], vec![], vec![1]]));
}

#[test]
fn more_global_keys_than_a_tile() {
    check(1, 4, &band(&[700], 10, vec![(0..700).filter(|position| position % 2 == 0).collect()]));
}

#[test]
fn head_sizes() {
    for size in [1, 3, 8, 16, 17, 64, 96] {
        check(2, size, &band(&[75], 20, vec![vec![0, 40]]));
    }
}

#[test]
fn causal() {
    for (queries, keys, past) in [(1, 1, 0), (100, 100, 0), (3, 80, 77), (65, 70, 5), (10, 4, 0)] {
        check(2, 8, &plain(&[queries], &[keys], Visibility::Causal { past }));
    }
    check(1, 8, &plain(&[5, 70, 1], &[5, 70, 1], Visibility::Causal { past: 0 }));
}

#[test]
fn full() {
    for (queries, keys) in [(1, 1), (4, 300), (130, 7), (16, 2500)] {
        check(2, 8, &plain(&[queries], &[keys], Visibility::Full));
    }
    check(2, 8, &plain(&[3, 0, 70], &[10, 5, 1], Visibility::Full));
}

#[test]
fn a_document_without_keys_gives_zeros() {
    check(2, 8, &plain(&[3, 2], &[0, 4], Visibility::Full));
}

#[test]
fn long_causal_rows_pass_many_tiles() {
    check(1, 4, &plain(&[2300], &[2300], Visibility::Causal { past: 0 }));
}

#[test]
fn dropout_draws_the_documented_mask() {
    check(2, 8, &with_dropout(band(&[90, 30], 7, vec![vec![0, 45], vec![29]])));
    check(3, 4, &with_dropout(plain(&[20, 9], &[300, 9], Visibility::Full)));
    check(1, 8, &with_dropout(plain(&[80], &[80], Visibility::Causal { past: 0 })));
}

#[test]
fn large_scores_do_not_overflow() {
    let mut spec = band(&[150], 20, vec![vec![3]]);
    spec.scale = 60.0;
    let mut numbers = Numbers::seeded(5);
    let [q, k, v] = [(); 3].map(|()| numbers.vector(150 * 8));
    let wanted = Reference { spec: &spec, heads: 1, size: 8, q: &q, k: &k, v: &v }.run(&vec![0.0; 150 * 8]);
    let [q, k, v] = [q, k, v].map(|values| tensor(&values, &[150, 1, 8]));
    close("output", &attention_forward(&q, &k, &v, &spec).unwrap().output, &wanted.output, 1e-3);
}

#[test]
fn gradients_agree_with_differences() {
    let spec = with_dropout(band(&[9, 4], 2, vec![vec![0, 5], vec![]]));
    let mut numbers = Numbers::seeded(11);
    let inputs = [(); 3].map(|()| numbers.vector(13 * 6));
    let dy = numbers.vector(13 * 6);
    let value = |q: &[f64], k: &[f64], v: &[f64]| {
        dot(&Reference { spec: &spec, heads: 2, size: 3, q, k, v }.run(&dy).output, &dy)
    };
    let [q, k, v] = &inputs;
    let [tq, tk, tv, gradient] = [q, k, v, &dy].map(|values| tensor(values, &[13, 2, 3]));
    let attended = attention_forward(&tq, &tk, &tv, &spec).unwrap();
    let [dq, dk, dv] = attention_backward(&tq, &tk, &tv, &spec, &attended, &gradient).unwrap();
    close("dq", &dq, &differences(q, |q| value(q, k, v)), 1e-5);
    close("dk", &dk, &differences(k, |k| value(q, k, v)), 1e-5);
    close("dv", &dv, &differences(v, |v| value(q, k, v)), 1e-5);
}

#[test]
fn a_document_is_bit_identical_alone_and_in_a_batch() {
    let mut numbers = Numbers::seeded(3);
    let (lengths, heads, size) = ([37, 150, 5], 2, 8);
    let [q, k, v] = [(); 3].map(|()| tensor(&numbers.vector(192 * heads * size), &[192, heads, size]));
    let run = |from: usize, lengths: &[usize], global: Vec<Vec<usize>>| {
        let count = lengths.iter().sum();
        let [q, k, v] = [&q, &k, &v].map(|t| t.narrow(0, from, count).unwrap());
        values(&attention_forward(&q, &k, &v, &band(lengths, 9, global)).unwrap().output)
    };
    let together = run(0, &lengths, vec![vec![1], vec![0, 77], vec![]]);
    let alone = run(37, &[150], vec![vec![0, 77]]);
    assert_eq!(together[37 * heads * size..187 * heads * size], alone[..]);
}

#[test]
fn strided_inputs_are_accepted() {
    let mut numbers = Numbers::seeded(21);
    let wide = tensor(&numbers.vector(30 * 24), &[30, 24]);
    let part = |i: usize| wide.narrow(1, i * 8, 8).unwrap().reshape((30, 2, 4)).unwrap();
    let transposed = part(0).transpose(0, 1).unwrap().contiguous().unwrap().transpose(0, 1).unwrap();
    let spec = band(&[30], 4, vec![vec![]]);
    let run = |q: &Tensor, dy: &Tensor| {
        let attended = attention_forward(q, &part(1), &part(2), &spec).unwrap();
        let [dq, dk, dv] = attention_backward(q, &part(1), &part(2), &spec, &attended, dy).unwrap();
        [attended.output, dq, dk, dv].map(|t| values(&t))
    };
    assert_eq!(run(&transposed, &transposed), run(&part(0), &part(0)));
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}
