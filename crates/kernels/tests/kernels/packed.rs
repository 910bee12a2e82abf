//! `PackedLinear`.

use crate::numbers::{Numbers, both, close, tensor, zero_sums};
use epitome_kernels::{PackedLinear, Precision, linear, linear_backward};

/// Rows, inputs, outputs: none, one, and more than a tile's rows, on both sides of a panel's 16 columns.
const SIZES: [(usize, usize, usize); 8] =
    [(0, 5, 3), (1, 1, 1), (1, 20, 40), (13, 33, 17), (14, 7, 50), (2, 64, 70), (5, 300, 600), (100, 257, 33)];

#[test]
fn packed_weights_give_the_bits_of_plain_ones() {
    for (rows, inputs, outputs) in SIZES {
        let mut numbers = Numbers::seeded((rows + inputs * outputs) as u64);
        let x = tensor(&numbers.vector(rows * inputs), &[rows, 1, inputs]);
        let weight = tensor(&numbers.vector(inputs * outputs), &[outputs, inputs]);
        let bias = tensor(&numbers.vector(outputs), &[outputs]);
        for bias in [None, Some(&bias)] {
            let packed = PackedLinear::new(&weight, bias, Precision::F32).unwrap().forward(&x).unwrap();
            assert_eq!(packed.dims(), [rows, 1, outputs]);
            let values = |y: &candle_core::Tensor| y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(values(&packed) == values(&linear(&x, &weight, bias).unwrap()), "{rows} {inputs} {outputs}");
        }
    }
}

#[test]
fn nothing_to_multiply_is_no_error() {
    let (weight, x, sums) = (tensor(&[1.0; 17 * 4], &[17, 4]), tensor(&[], &[0, 4]), zero_sums(&[17, 4]));
    let y = linear(&x, &weight, None).unwrap();
    linear_backward(&x, &y, &sums).unwrap();
    close("dw", both(&sums)[0], &[0.0; 17 * 4], 0.0);
    let y = linear(&tensor(&[], &[3, 0]), &tensor(&[], &[17, 0]), None).unwrap();
    close("y", &y, &[0.0; 3 * 17], 0.0);
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let (x, weight) = (tensor(&[0.0; 12], &[2, 2, 3]), tensor(&[0.0; 8], &[2, 4]));
    assert!(PackedLinear::new(&weight, Some(&tensor(&[0.0; 4], &[4])), Precision::Int8).is_err());
    let message = PackedLinear::new(&weight, None, Precision::Int8).unwrap().forward(&x).unwrap_err().to_string();
    assert!(message.contains("[2, 4]"), "{message}");
}

/// Eight bits a weight: within the steps of both quantizations, and each row by itself.
#[test]
fn bytes_are_close_and_rows_are_independent() {
    let mut numbers = Numbers::seeded(31);
    let (rows, inputs, outputs) = (30, 200, 75);
    let (x, weight) = (numbers.vector(rows * inputs), numbers.vector(outputs * inputs));
    let (x, weight) = (tensor(&x, &[rows, inputs]), tensor(&weight, &[outputs, inputs]));
    let packed = PackedLinear::new(&weight, None, Precision::Int8).unwrap();
    let (found, exact) = (packed.forward(&x).unwrap(), linear(&x, &weight, None).unwrap());
    let square = |t: &candle_core::Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    let error = (square(&(&found - &exact).unwrap()) / square(&exact)).sqrt();
    assert!(error > 0.0 && error < 0.01, "{error} of the result");
    for row in 0..rows {
        let alone = packed.forward(&x.narrow(0, row, 1).unwrap()).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(alone[0], found.to_vec2::<f32>().unwrap()[row]);
    }
}
