//! Sums of squares, AdamW and Adafactor.

use super::{close, numbers_of, on_device, place, rounded};
use crate::adafactor::check_five_steps;
use crate::adamw::{HYPER, Reference};
use crate::numbers::Numbers;
use candle_core::{DType, Tensor};
use epitome_kernels::{AdamWParameter, adamw_step, round_all, sum_of_squares};

fn vector(values: &[f64]) -> Tensor {
    place(values, &[values.len()], DType::F32)
}

#[test]
fn sums_of_squares_of_lists() {
    let mut numbers = Numbers::seeded(3);
    let lengths = [1, 16_384, 0, 40_003, 7];
    let values = lengths.map(|length| numbers.vector(length));
    let placed = values.each_ref().map(|values| vector(values));
    let all: Vec<&Tensor> = placed.iter().collect();
    let wanted: f64 = values.iter().flatten().map(|value| value * value).sum();
    let found = on_device(|| sum_of_squares(&all)).unwrap();
    assert!((found / wanted - 1.0).abs() < 1e-12, "{found}, not {wanted}");
    assert_eq!(on_device(|| sum_of_squares(&all)).unwrap(), found);
    assert_eq!(on_device(|| sum_of_squares(&[])).unwrap(), 0.0);
    assert_eq!(on_device(|| sum_of_squares(&[all[2]])).unwrap(), 0.0);
    let part = on_device(|| sum_of_squares(&[&placed[1].narrow(0, 3, 5).unwrap()])).unwrap();
    assert!((part - values[1][3..8].iter().map(|value| value * value).sum::<f64>()).abs() < 1e-12);
    for far in [f64::INFINITY, f64::NAN] {
        assert!(!on_device(|| sum_of_squares(&[all[0], &vector(&[0.0, far])])).unwrap().is_finite());
    }
}

#[test]
fn rounded_copies_of_lists() {
    let mut numbers = Numbers::seeded(4);
    let values = [1, 16_384, 0, 40_003, 7].map(|length| numbers.vector(length));
    let placed = values.each_ref().map(|values| vector(values));
    let copies = values.each_ref().map(|values| place(&vec![0.0; values.len()], &[values.len()], DType::BF16));
    // And from numbers that are not aligned.
    let part = |tensor: &Tensor| tensor.narrow(0, 3, 50).unwrap();
    let other = place(&[0.0; 60], &[60], DType::BF16);
    let mut pairs: Vec<[Tensor; 2]> = placed.iter().cloned().zip(copies).map(|(from, to)| [from, to]).collect();
    pairs.push([part(&placed[3]), part(&other)]);
    on_device(|| round_all(&pairs.iter().map(|[from, to]| [from, to]).collect::<Vec<_>>())).unwrap();
    for ([_, to], values) in pairs.iter().zip(values.iter().map(Vec::as_slice).chain([&values[3][3..53]])) {
        close("copy", to, &rounded(values, DType::BF16), 0.0);
    }
    close("around it", &other.narrow(0, 0, 3).unwrap(), &[0.0; 3], 0.0);
    close("behind it", &other.narrow(0, 53, 7).unwrap(), &[0.0; 7], 0.0);
    assert!(on_device(|| round_all(&[[&placed[0], &placed[0].copy().unwrap()]])).is_err());
}

/// Three steps on tensors shorter and longer than a chunk, each with its own rate and decay; one has no gradient at first.
#[test]
fn adamw_on_a_list() {
    let mut numbers = Numbers::seeded(9);
    let mut references = [1, 16_384, 40_003, 7].map(|length| Reference::new(numbers.vector(length)));
    let placed = references
        .each_ref()
        .map(|one| (vector(&one.parameter), place(&one.moments, &[2, one.parameter.len()], DType::F32)));
    let copies: Vec<_> = placed.iter().map(|(parameter, _)| Some(parameter.to_dtype(DType::BF16).unwrap())).collect();
    let copies = [copies[0].clone(), copies[1].clone(), None, copies[3].clone()];
    for round in 1..=3 {
        let gradients = references.each_ref().map(|one| numbers.vector(one.parameter.len()));
        let placed_gradients = gradients.each_ref().map(|gradient| vector(gradient));
        let rate = |tensor: usize| 0.01 * (tensor + 1) as f64;
        let decay = |tensor: usize| if tensor == 1 { 0.0 } else { 0.1 };
        // Steps of a tensor, this one included.
        let step = |tensor: usize| if tensor == 2 { round - 1 } else { round };
        let has_gradient = |tensor: &usize| step(*tensor) > 0;
        let parameters: Vec<AdamWParameter<'_>> = (0..4)
            .filter(has_gradient)
            .map(|tensor| AdamWParameter {
                parameter: &placed[tensor].0,
                moments: &placed[tensor].1,
                gradient: &placed_gradients[tensor],
                copy: copies[tensor].as_ref(),
                learning_rate: rate(tensor),
                weight_decay: decay(tensor),
                step: step(tensor),
            })
            .collect();
        on_device(|| adamw_step(&parameters, 0.5, &HYPER)).unwrap();
        for tensor in (0..4).filter(has_gradient) {
            let halves: Vec<f64> = gradients[tensor].iter().map(|g| 0.5 * g).collect();
            references[tensor].step(&halves, rate(tensor), decay(tensor), step(tensor) as i32);
        }
        for ((parameter, moments), wanted) in placed.iter().zip(&references) {
            close("parameter", parameter, &wanted.parameter, 2e-6);
            close("moments", moments, &wanted.moments, 2e-6);
        }
        for (copy, (parameter, _)) in copies.iter().zip(&placed) {
            let Some(copy) = copy else { continue };
            assert_eq!(numbers_of(copy), rounded(&numbers_of(parameter), DType::BF16));
        }
    }
    on_device(|| adamw_step(&[], 1.0, &HYPER)).unwrap();
}

#[test]
fn adamw_reads_gradients_of_any_layout() {
    let mut numbers = Numbers::seeded(4);
    let mut reference = Reference::new(numbers.vector(15));
    let (parameter, moments) =
        (place(&reference.parameter, &[3, 5], DType::F32), place(&[0.0; 30], &[2, 3, 5], DType::F32));
    let gradient = place(&numbers.vector(15), &[5, 3], DType::F32).t().unwrap();
    let one = AdamWParameter {
        parameter: &parameter,
        moments: &moments,
        gradient: &gradient,
        copy: None,
        learning_rate: 0.1,
        weight_decay: 0.0,
        step: 1,
    };
    on_device(|| adamw_step(&[one], 1.0, &HYPER)).unwrap();
    reference.step(&numbers_of(&gradient), 0.1, 0.0, 1);
    close("parameter", &parameter, &reference.parameter, 2e-6);
}

#[test]
fn adafactor() {
    let place = |values: &[f64], shape: &[usize]| place(values, shape, DType::F32);
    // Of more chunks of rows than warps share, of one block, of fewer columns than lanes, vectors.
    for shape in [&[600, 33][..], &[130, 101], &[40, 7], &[1, 5], &[1000], &[3]] {
        for beta1 in [None, Some(0.9)] {
            for least_scale in [None, Some(1e-3), Some(2.0)] {
                on_device(|| check_five_steps(&place, shape, beta1, least_scale));
            }
        }
    }
}
