//! `gelu`, `layer_norm`, `add_layer_norm`, `dropout`, and their backwards.

use crate::numbers::{Numbers, both, close, differences, dot, tensor, zero_sums};
use candle_core::Tensor;
use epitome_kernels::{
    Dropout, DropoutKey, ResidualSum, add_layer_norm, add_layer_norm_backward, dropout, dropout_part, gelu,
    gelu_backward, gelu_rows_backward, layer_norm, layer_norm_backward,
};

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

pub(crate) fn gelu_reference(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

#[test]
fn gelu_and_its_gradient() {
    let mut x: Vec<f64> = (-4000..4000).map(|i| f64::from(i as f32 * 2e-3)).collect();
    x.extend([0.0, -0.0, 1e-20, 30.0, -30.0]);
    let t = tensor(&x, &[x.len()]);
    let y = gelu(&t).unwrap();
    let wanted: Vec<f64> = x.iter().map(|x| gelu_reference(*x)).collect();
    // Absolute, because the scale is the largest magnitude, 30.
    close("y", &y, &wanted, 1e-6 / 30.0);
    let dx = gelu_backward(&t, &t.ones_like().unwrap()).unwrap();
    let wanted: Vec<f64> = x.iter().map(|x| (gelu_reference(x + 1e-4) - gelu_reference(x - 1e-4)) / 2e-4).collect();
    close("dx", &dx, &wanted, 1e-6);
}

/// Sums of the columns of rows, added to a number.
pub(crate) fn column_sums(rows: &[f64], width: usize, added_to: f64) -> Vec<f64> {
    (0..width).map(|column| added_to + rows.iter().skip(column).step_by(width).sum::<f64>()).collect()
}

#[test]
fn gelu_of_rows_and_all_gradients_at_once() {
    let (rows, width) = (70, 20);
    let mut numbers = Numbers::seeded(5);
    let [x, dy] = [(); 2].map(|()| tensor(&numbers.vector(rows * width), &[rows, width]));
    let sum = tensor(&vec![0.5; width], &[width]);
    let (dx, y) = gelu_rows_backward(&x, &dy, Some(&sum), true).unwrap();
    assert_eq!(numbers_of(&dx), numbers_of(&gelu_backward(&x, &dy).unwrap()));
    assert_eq!(numbers_of(&y.unwrap()), numbers_of(&gelu(&x).unwrap()));
    close("sum", &sum, &column_sums(&numbers_of(&dx), width, 0.5), 1e-5);
    assert!(gelu_rows_backward(&x, &dy, None, false).unwrap().1.is_none());
    assert!(gelu_rows_backward(&x, &dy, Some(&x), false).is_err());
}

fn numbers_of(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
}

pub(crate) fn norm_reference(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
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
        let (tx, tw, tb) = (tensor(&x, &[rows, width]), tensor(&weight, &[width]), tensor(&bias, &[width]));
        close("y", &layer_norm(&tx, &tw, &tb, 1e-5).unwrap(), &norm_reference(&x, &weight, &bias), 1e-5);
        let sums = zero_sums(&[width]);
        let dx = layer_norm_backward(&tx, &tw, &tensor(&dy, &[rows, width]), 1e-5, &sums).unwrap();
        let value = |x: &[f64], weight: &[f64], bias: &[f64]| dot(&norm_reference(x, weight, bias), &dy);
        close("dx", &dx, &differences(&x, |x| value(x, &weight, &bias)), 2e-5);
        close("dw", both(&sums)[0], &differences(&weight, |w| value(&x, w, &bias)), 2e-5);
        close("db", both(&sums)[1], &differences(&bias, |b| value(&x, &weight, b)), 2e-5);
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
    let dropout = Dropout { probability: 0.3, key: DropoutKey::new(8) };
    for (dropout, first) in [(None, 0), (Some(dropout), 0), (Some(dropout), 60)] {
        check_add_layer_norm(dropout, first);
    }
}

fn check_add_layer_norm(dropout: Option<Dropout>, first: u64) {
    let (rows, width) = (70, 20);
    let mut numbers = Numbers::seeded(77);
    let [x, residual, dy] = [(); 3].map(|()| numbers.vector(rows * width));
    let [weight, bias] = [(); 2].map(|()| numbers.vector(width));
    let [tx, tr, gradient] = [&x, &residual, &dy].map(|values| tensor(values, &[rows, width]));
    let [tw, tb] = [&weight, &bias].map(|values| tensor(values, &[width]));
    let factor = |i: usize| dropout.map_or(1.0, |dropout| f64::from(dropout.factor(first + i as u64)));
    let value = |x: &[f64], residual: &[f64], weight: &[f64], bias: &[f64]| {
        let sum = |(i, (x, residual)): (usize, (&f64, &f64))| factor(i) * x + residual;
        norm_reference(&x.iter().zip(residual).enumerate().map(sum).collect::<Vec<f64>>(), weight, bias)
    };
    let sum = ResidualSum { x: &tx, residual: &tr, dropout, first };
    let y = add_layer_norm(sum, &tw, &tb, 1e-5).unwrap();
    close("y", &y, &value(&x, &residual, &weight, &bias), 1e-5);
    let sums = zero_sums(&[width]);
    let x_sum = tensor(&vec![0.5; width], &[width]);
    let [dresidual, dx] = add_layer_norm_backward(sum, &tw, &gradient, 1e-5, &sums, Some(&x_sum)).unwrap();
    close("sum of dx", &x_sum, &column_sums(&numbers_of(&dx), width, 0.5), 1e-5);
    close("dx", &dx, &differences(&x, |x| dot(&value(x, &residual, &weight, &bias), &dy)), 2e-5);
    let wanted = differences(&residual, |residual| dot(&value(&x, residual, &weight, &bias), &dy));
    close("dresidual", &dresidual, &wanted, 2e-5);
    let dw = differences(&weight, |weight| dot(&value(&x, &residual, weight, &bias), &dy));
    close("dw", both(&sums)[0], &dw, 2e-5);
    let db = differences(&bias, |bias| dot(&value(&x, &residual, &weight, bias), &dy));
    close("db", both(&sums)[1], &db, 2e-5);
}

#[test]
fn dropout_multiplies_by_its_mask_in_both_directions() {
    let spec = Dropout { probability: 0.25, key: DropoutKey::new(1).fold(2).fold(3) };
    let mut numbers = Numbers::seeded(6);
    let (x, dy) = (numbers.vector(40_000), numbers.vector(40_000));
    let masked = |values: &[f64]| -> Vec<f64> {
        values.iter().enumerate().map(|(i, value)| value * f64::from(spec.factor(i as u64))).collect()
    };
    let [tx, tdy] = [&x, &dy].map(|values| tensor(values, &[400, 100]));
    close("y", &dropout(&tx, Some(spec)).unwrap(), &masked(&x), 1e-6);
    close("dx", &dropout(&tdy, Some(spec)).unwrap(), &masked(&dy), 1e-6);
    let part = dropout_part(&tx.narrow(0, 150, 30).unwrap(), Some(spec), 15_000).unwrap();
    close("a part", &part, &masked(&x)[15_000..18_000], 1e-6);
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
