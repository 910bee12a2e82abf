//! Cross-entropy of logits.

use super::{close, numbers_of, place, rounded};
use crate::numbers::Numbers;
use candle_core::DType;
use epitome_kernels::cuda::{LossGradient, cross_entropy};

/// Log-probabilities of a row.
fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let total = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
    logits.iter().map(|logit| logit - total).collect()
}

fn check_cross_entropy(dtype: DType, (vocabulary, stride): (usize, usize), with_bias: bool, smoothing: f64, far: f64) {
    let (rows, scale) = (7, 0.25);
    let mut numbers = Numbers::seeded((vocabulary + stride) as u64);
    let logits: Vec<f64> = numbers.vector(rows * stride).iter().map(|x| 4.0 * x).collect();
    let logits = rounded(&logits, dtype);
    let bias = numbers.vector(vocabulary);
    let targets: Vec<i32> =
        (0..rows).map(|row| if row == 3 { -100 } else { numbers.below(vocabulary) as i32 }).collect();
    let [mut nll, mut uniform, mut gradient] = [(); 3].map(|()| Vec::new());
    for (row, target) in logits.chunks(stride).zip(&targets) {
        let biased = |v: usize| row[v] + if with_bias { bias[v] } else { 0.0 };
        let log_p = log_softmax(&(0..vocabulary).map(biased).collect::<Vec<f64>>());
        let counts = if *target < 0 { 0.0 } else { 1.0 };
        nll.push(if *target < 0 { 0.0 } else { -log_p[*target as usize] });
        uniform.push(-counts * log_p.iter().sum::<f64>() / vocabulary as f64);
        let there = |v: usize| if v as i32 == *target { 1.0 - smoothing } else { 0.0 };
        gradient.extend(
            (0..vocabulary).map(|v| counts * scale * (log_p[v].exp() - there(v) - smoothing / vocabulary as f64)),
        );
    }
    let found = place(&logits, &[rows, stride], dtype);
    let bias = with_bias.then(|| place(&bias, &[vocabulary], DType::F32));
    let losses = cross_entropy(&found, vocabulary, bias.as_ref(), &targets, None).unwrap();
    assert_eq!(numbers_of(&found), logits, "no gradient was asked for");
    close("nll", &losses.nll, &nll, 1e-5);
    close("uniform", &losses.uniform, &uniform, 1e-5);
    let how = LossGradient { scale: scale as f32, smoothing: smoothing as f32 };
    let again = cross_entropy(&found, vocabulary, bias.as_ref(), &targets, Some(how)).unwrap();
    assert_eq!(numbers_of(&again.nll), numbers_of(&losses.nll));
    close("gradient", &found.narrow(1, 0, vocabulary).unwrap(), &gradient, far);
}

#[test]
fn cross_entropies_and_their_gradients() {
    for shape in [(2, 2), (5, 5), (101, 104), (1000, 1000), (5003, 5008)] {
        for with_bias in [false, true] {
            check_cross_entropy(DType::F32, shape, with_bias, 0.1, 1e-5);
            check_cross_entropy(DType::F32, shape, with_bias, 0.0, 1e-5);
            check_cross_entropy(DType::BF16, shape, with_bias, 0.1, 0.005);
        }
    }
}

#[test]
fn forbidden_entries_get_no_probability() {
    let logits = place(&[0.0; 12], &[3, 4], DType::F32);
    let bias = place(&[0.0, f64::NEG_INFINITY, 0.0], &[3], DType::F32);
    let how = LossGradient { scale: 1.0, smoothing: 0.0 };
    let losses = cross_entropy(&logits, 3, Some(&bias), &[2, 0, 2], Some(how)).unwrap();
    let nll = numbers_of(&losses.nll);
    assert!(nll.iter().all(|nll| (nll - 2f64.ln()).abs() < 1e-6), "{nll:?}");
    assert_eq!(numbers_of(&logits)[..3], [0.5, 0.0, -0.5]);
}
