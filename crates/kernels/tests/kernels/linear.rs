//! `linear` and its backwards.

use crate::numbers::{Numbers, both, close, differences, dot, doubles, tensor, zero_sums};
use epitome_kernels::{
    AffineSums, add_linear_input_gradient, layer_norm_backward, linear, linear_backward, linear_input_gradient,
};

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
        let wanted = linear_reference(&x, &weight, &bias, inputs);
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
        let (x, weight) = (tensor(&x, &[rows, inputs]), tensor(&weight, &[outputs, inputs]));
        let (dy, sums) = (tensor(&dy, &[rows, outputs]), zero_sums(&[outputs, inputs]));
        let y = linear(&x, &weight, Some(&tensor(&bias, &[outputs]))).unwrap();
        close("y", &y, &wanted, 1e-5);
        close("dx", &linear_input_gradient(&dy, &weight).unwrap(), &dx, 1e-5);
        linear_backward(&x, &dy, &sums).unwrap();
        close("dw", both(&sums)[0], &dw, 1e-5);
        close("db", both(&sums)[1], &db, 1e-5);
    }
}

#[test]
fn backwards_add_to_what_is_there() {
    let mut numbers = Numbers::seeded(15);
    let [x, weight] = [[7, 5], [3, 5]].map(|shape| tensor(&numbers.vector(shape[0] * shape[1]), &shape));
    let dy = tensor(&numbers.vector(21), &[7, 3]);
    let once = linear_input_gradient(&dy, &weight).unwrap();
    let dx = tensor(&[1.0; 35], &[7, 5]);
    add_linear_input_gradient(&dx, &dy, &weight).unwrap();
    close("dx", &dx, &doubles(&(once + 1.0).unwrap()), 1e-6);
    let sums = zero_sums(&[3, 5]);
    linear_backward(&x, &dy, &sums).unwrap();
    let once = both(&sums).map(|sum| doubles(&(sum * 2.0).unwrap()));
    linear_backward(&x, &dy, &sums).unwrap();
    close("dw of linear", both(&sums)[0], &once[0], 1e-6);
    close("db of linear", both(&sums)[1], &once[1], 1e-6);
    let (sums, weight) = (zero_sums(&[5]), weight.narrow(0, 1, 1).unwrap().squeeze(0).unwrap());
    layer_norm_backward(&x, &weight, &x, 1e-5, &sums).unwrap();
    let once = both(&sums).map(|sum| doubles(&(sum * 2.0).unwrap()));
    layer_norm_backward(&x, &weight, &x, 1e-5, &sums).unwrap();
    close("dw of layer_norm", both(&sums)[0], &once[0], 1e-6);
    close("db of layer_norm", both(&sums)[1], &once[1], 1e-6);
}

#[test]
fn what_is_not_trained_gets_no_gradient_and_changes_no_other() {
    let mut numbers = Numbers::seeded(16);
    let [x, dy] = [[7, 5], [7, 3]].map(|shape| tensor(&numbers.vector(shape[0] * shape[1]), &shape));
    let all = zero_sums(&[3, 5]);
    linear_backward(&x, &dy, &all).unwrap();
    let bias = AffineSums { weight: None, ..zero_sums(&[3, 5]) };
    linear_backward(&x, &dy, &bias).unwrap();
    close("db", bias.bias.as_ref().unwrap(), &doubles(both(&all)[1]), 0.0);
    let weight = x.narrow(0, 1, 1).unwrap().squeeze(0).unwrap();
    let dx = layer_norm_backward(&x, &weight, &x, 1e-5, &zero_sums(&[5])).unwrap();
    let alone = layer_norm_backward(&x, &weight, &x, 1e-5, &AffineSums::default()).unwrap();
    close("dx", &alone, &doubles(&dx), 0.0);
}

#[test]
fn linear_agrees_with_differences() {
    let mut numbers = Numbers::seeded(8);
    let (x, weight, bias, dy) = (numbers.vector(12), numbers.vector(20), numbers.vector(5), numbers.vector(15));
    let [tx, tw, tdy] = [(&x, [3, 4]), (&weight, [5, 4]), (&dy, [3, 5])].map(|(values, shape)| tensor(values, &shape));
    let sums = zero_sums(&[5, 4]);
    linear_backward(&tx, &tdy, &sums).unwrap();
    let value = |x: &[f64], weight: &[f64], bias: &[f64]| dot(&linear_reference(x, weight, bias, 4), &dy);
    let dx = differences(&x, |x| value(x, &weight, &bias));
    close("dx", &linear_input_gradient(&tdy, &tw).unwrap(), &dx, 1e-5);
    close("dw", both(&sums)[0], &differences(&weight, |weight| value(&x, weight, &bias)), 1e-5);
    close("db", both(&sums)[1], &differences(&bias, |bias| value(&x, &weight, bias)), 1e-5);
}

#[test]
fn linear_without_bias_and_with_more_dimensions() {
    let mut numbers = Numbers::seeded(18);
    let (x, weight) = (numbers.vector(24), numbers.vector(8));
    let y = linear(&tensor(&x, &[2, 3, 4]), &tensor(&weight, &[2, 4]), None).unwrap();
    assert_eq!(y.dims(), [2, 3, 2]);
    close("y", &y, &linear_reference(&x, &weight, &[0.0; 2], 4), 1e-5);
}
