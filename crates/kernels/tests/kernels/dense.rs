//! `linear`, `gelu`, `layer_norm`, `add_layer_norm`, `dropout`, `pull_back`.

use crate::numbers::{Numbers, close, differences, dot, gradients, tensor, variable};
use candle_core::Tensor;
use epitome_kernels::{Dropout, DropoutKey, add_layer_norm, dropout, gelu, layer_norm, linear, pull_back};

fn linear_reference(x: &[f64], weight: &[f64], bias: &[f64], inputs: usize) -> Vec<f64> {
    let mut y = Vec::new();
    for row in x.chunks(inputs) {
        y.extend(weight.chunks(inputs).zip(bias).map(|(weight, bias)| dot(row, weight) + bias));
    }
    y
}

/// Rows, inputs, outputs: one row, the few rows of decoding with and without whole vectors, many rows.
const SIZES: [(usize, usize, usize); 11] = [
    (1, 1, 1),
    (1, 70, 33),
    (2, 8, 3),
    (3, 513, 2),
    (4, 64, 1100),
    (5, 17, 40),
    (7, 15, 5),
    (8, 32, 9),
    (15, 100, 7),
    (17, 30, 7),
    (300, 64, 48),
];

#[test]
fn linear_and_its_gradients() {
    for (rows, inputs, outputs) in SIZES {
        let mut numbers = Numbers::seeded((rows * inputs * outputs) as u64);
        let (x, weight) = (numbers.vector(rows * inputs), numbers.vector(outputs * inputs));
        let (bias, dy) = (numbers.vector(outputs), numbers.vector(rows * outputs));
        let (vx, vw) = (variable(&x, &[rows, inputs]), variable(&weight, &[outputs, inputs]));
        let vb = variable(&bias, &[outputs]);
        let y = linear(&vx, &vw, Some(&vb)).unwrap();
        close("y", &y, &linear_reference(&x, &weight, &bias, inputs), 1e-5);
        let found = gradients(&y, &dy);
        let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; weight.len()], vec![0.0; outputs]);
        for row in 0..rows {
            for out in 0..outputs {
                let g = dy[row * outputs + out];
                db[out] += g;
                for i in 0..inputs {
                    dx[row * inputs + i] += g * weight[out * inputs + i];
                    dw[out * inputs + i] += g * x[row * inputs + i];
                }
            }
        }
        close("dx", found.get(&vx).unwrap(), &dx, 1e-5);
        close("dw", found.get(&vw).unwrap(), &dw, 1e-5);
        close("db", found.get(&vb).unwrap(), &db, 1e-5);
    }
}

#[test]
fn linear_agrees_with_differences() {
    let mut numbers = Numbers::seeded(8);
    let (x, weight, bias, dy) = (numbers.vector(12), numbers.vector(20), numbers.vector(5), numbers.vector(15));
    let (vx, vw, vb) = (variable(&x, &[3, 4]), variable(&weight, &[5, 4]), variable(&bias, &[5]));
    let found = gradients(&linear(&vx, &vw, Some(&vb)).unwrap(), &dy);
    let value = |x: &[f64], weight: &[f64], bias: &[f64]| dot(&linear_reference(x, weight, bias, 4), &dy);
    close("dx", found.get(&vx).unwrap(), &differences(&x, |x| value(x, &weight, &bias)), 1e-5);
    close("dw", found.get(&vw).unwrap(), &differences(&weight, |weight| value(&x, weight, &bias)), 1e-5);
    close("db", found.get(&vb).unwrap(), &differences(&bias, |bias| value(&x, &weight, bias)), 1e-5);
}

#[test]
fn linear_without_bias_and_with_more_dimensions() {
    let mut numbers = Numbers::seeded(18);
    let (x, weight, dy) = (numbers.vector(24), numbers.vector(8), numbers.vector(12));
    let (vx, vw) = (variable(&x, &[2, 3, 4]), variable(&weight, &[2, 4]));
    let y = linear(&vx, &vw, None).unwrap();
    assert_eq!(y.dims(), [2, 3, 2]);
    close("y", &y, &linear_reference(&x, &weight, &[0.0; 2], 4), 1e-5);
    let found = gradients(&y, &dy);
    let value = |x: &[f64], weight: &[f64]| dot(&linear_reference(x, weight, &[0.0; 2], 4), &dy);
    close("dx", found.get(&vx).unwrap(), &differences(&x, |x| value(x, &weight)), 1e-5);
    close("dw", found.get(&vw).unwrap(), &differences(&weight, |weight| value(&x, weight)), 1e-5);
}

#[test]
fn linear_leaves_out_gradients_of_constants() {
    let mut numbers = Numbers::seeded(1);
    let x = tensor(&numbers.vector(12), &[3, 4]);
    let (weight, bias) = (variable(&numbers.vector(8), &[2, 4]), tensor(&numbers.vector(2), &[2]));
    let found = gradients(&linear(&x, &weight, Some(&bias)).unwrap(), &numbers.vector(6));
    assert!(found.get(&weight).is_some());
    assert!(found.get(&x).is_none() && found.get(&bias).is_none());
}

/// erf by its Maclaurin series, which in f64 is good to 1e-10 up to 3.5, and by its limit beyond.
fn erf(x: f64) -> f64 {
    if x.abs() > 3.5 {
        // erfc by the continued fraction, from the innermost term out.
        let tail = (1..60).rev().fold(0.0, |fraction, n| f64::from(n) / 2.0 / (x.abs() + fraction));
        return (1.0 - (-x * x).exp() / std::f64::consts::PI.sqrt() / (x.abs() + tail)).copysign(x);
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

fn gelu_reference(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

#[test]
fn gelu_and_its_gradient() {
    let mut x: Vec<f64> = (-4000..4000).map(|i| f64::from(i as f32 * 2e-3)).collect();
    x.extend([0.0, -0.0, 1e-20, 30.0, -30.0]);
    let v = variable(&x, &[x.len()]);
    let y = gelu(&v).unwrap();
    let wanted: Vec<f64> = x.iter().map(|x| gelu_reference(*x)).collect();
    // Absolute, because the scale is the largest magnitude, 30.
    close("y", &y, &wanted, 1e-6 / 30.0);
    let found = gradients(&y, &vec![1.0; x.len()]);
    let wanted: Vec<f64> = x.iter().map(|x| (gelu_reference(x + 1e-4) - gelu_reference(x - 1e-4)) / 2e-4).collect();
    close("dx", found.get(&v).unwrap(), &wanted, 1e-6);
}

fn norm_reference(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let width = weight.len();
    let mut y = Vec::new();
    for row in x.chunks(width) {
        let mean = row.iter().sum::<f64>() / width as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
        let scale = 1.0 / (variance + 1e-5).sqrt();
        y.extend(row.iter().zip(weight).zip(bias).map(|((x, weight), bias)| (x - mean) * scale * weight + bias));
    }
    y
}

#[test]
fn layer_norm_and_its_gradients() {
    for (rows, width) in [(1, 1), (2, 3), (5, 16), (3, 33), (130, 7)] {
        let mut numbers = Numbers::seeded((rows * width) as u64);
        let x = numbers.vector(rows * width);
        let (weight, bias, dy) = (numbers.vector(width), numbers.vector(width), numbers.vector(rows * width));
        let (vx, vw, vb) = (variable(&x, &[rows, width]), variable(&weight, &[width]), variable(&bias, &[width]));
        let y = layer_norm(&vx, &vw, &vb, 1e-5).unwrap();
        close("y", &y, &norm_reference(&x, &weight, &bias), 1e-5);
        let found = gradients(&y, &dy);
        let value = |x: &[f64], weight: &[f64], bias: &[f64]| dot(&norm_reference(x, weight, bias), &dy);
        close("dx", found.get(&vx).unwrap(), &differences(&x, |x| value(x, &weight, &bias)), 2e-5);
        close("dw", found.get(&vw).unwrap(), &differences(&weight, |w| value(&x, w, &bias)), 2e-5);
        close("db", found.get(&vb).unwrap(), &differences(&bias, |b| value(&x, &weight, b)), 2e-5);
    }
}

#[test]
fn layer_norm_does_not_cancel() {
    // The mean is 3000 times the deviation: E[x^2] - mean^2 in f32 would have no correct digit.
    let x: Vec<f64> = (0..64).map(|i| f64::from(3000.0f32 + (i % 5) as f32)).collect();
    let (weight, bias) = (vec![1.0; 64], vec![0.0; 64]);
    let y = layer_norm(&tensor(&x, &[1, 64]), &tensor(&weight, &[64]), &tensor(&bias, &[64]), 1e-5).unwrap();
    close("y", &y, &norm_reference(&x, &weight, &bias), 1e-3);
}

#[test]
fn add_layer_norm_is_the_norm_of_the_sum() {
    let (rows, width) = (70, 20);
    let mut numbers = Numbers::seeded(77);
    let [x, residual, dy] = [(); 3].map(|()| numbers.vector(rows * width));
    let [weight, bias] = [(); 2].map(|()| numbers.vector(width));
    let (vx, vr) = (variable(&x, &[rows, width]), variable(&residual, &[rows, width]));
    let (vw, vb) = (variable(&weight, &[width]), variable(&bias, &[width]));
    let value = |x: &[f64], residual: &[f64], weight: &[f64], bias: &[f64]| {
        let sum: Vec<f64> = x.iter().zip(residual).map(|(x, residual)| x + residual).collect();
        norm_reference(&sum, weight, bias)
    };
    let y = add_layer_norm(&vx, &vr, &vw, &vb, 1e-5).unwrap();
    close("y", &y, &value(&x, &residual, &weight, &bias), 1e-5);
    let found = gradients(&y, &dy);
    let dx = differences(&x, |x| dot(&value(x, &residual, &weight, &bias), &dy));
    close("dx", found.get(&vx).unwrap(), &dx, 2e-5);
    close("dresidual", found.get(&vr).unwrap(), &dx, 2e-5);
    let dw = differences(&weight, |weight| dot(&value(&x, &residual, weight, &bias), &dy));
    close("dw", found.get(&vw).unwrap(), &dw, 2e-5);
    let db = differences(&bias, |bias| dot(&value(&x, &residual, &weight, bias), &dy));
    close("db", found.get(&vb).unwrap(), &db, 2e-5);
}

#[test]
fn dropout_multiplies_by_its_mask_in_both_directions() {
    let spec = Dropout { probability: 0.25, key: DropoutKey::new(1).fold(2).fold(3) };
    let mut numbers = Numbers::seeded(6);
    let (x, dy) = (numbers.vector(40_000), numbers.vector(40_000));
    let masked = |values: &[f64]| -> Vec<f64> {
        values.iter().enumerate().map(|(i, value)| value * f64::from(spec.factor(i as u64))).collect()
    };
    let v = variable(&x, &[400, 100]);
    let y = dropout(&v, Some(spec)).unwrap();
    close("y", &y, &masked(&x), 1e-6);
    close("dx", gradients(&y, &dy).get(&v).unwrap(), &masked(&dy), 1e-6);
}

#[test]
fn dropout_masks_are_fair_and_differ() {
    let key = DropoutKey::new(42);
    let zeros = |key: DropoutKey, high: u64| -> Vec<bool> {
        let spec = Dropout { probability: 0.1, key };
        (0..100_000).map(|low| spec.factor(high << 32 | low) == 0.0).collect()
    };
    let first = zeros(key, 0);
    for (key, high) in [(key.fold(0), 0), (key.fold(1), 0), (DropoutKey::new(43), 0), (key, 1), (key, 2)] {
        let other = zeros(key, high);
        let share = other.iter().filter(|zero| **zero).count();
        assert!((9_600..10_400).contains(&share), "{share} of 100000 dropped");
        let both = first.iter().zip(&other).filter(|(a, b)| **a && **b).count();
        assert!((850..1150).contains(&both), "{both} dropped in both of two masks");
    }
    // Neighbours are independent: a dropped element is followed by a dropped one as often as any.
    let pairs = first.windows(2).filter(|pair| pair[0] && pair[1]).count();
    assert!((850..1150).contains(&pairs), "{pairs} pairs of neighbours dropped");
    assert_ne!(key.fold(1).fold(2), key.fold(2).fold(1));
}

#[test]
fn no_dropout_gives_the_tensor_itself() {
    let x = tensor(&[1.0, 2.0], &[2]);
    for spec in [None, Some(Dropout { probability: 0.0, key: DropoutKey::new(0) })] {
        assert_eq!(dropout(&x, spec).unwrap().id(), x.id());
    }
}

#[test]
fn pull_back_hands_the_gradient_on() {
    let mut numbers = Numbers::seeded(31);
    let (x, dy) = (numbers.vector(6), numbers.vector(6));
    let v = variable(&x, &[2, 3]);
    let value = pull_back(&v, &tensor(&dy, &[2, 3])).unwrap();
    assert_eq!(value.to_scalar::<f32>().unwrap(), 0.0);
    close("once", value.backward().unwrap().get(&v).unwrap(), &dy, 0.0);
    let double: Vec<f64> = dy.iter().map(|dy| 2.0 * dy).collect();
    let twice: Tensor = (value * 2.0).unwrap();
    close("twice", twice.backward().unwrap().get(&v).unwrap(), &double, 1e-7);
}
