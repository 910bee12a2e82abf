//! `head_linear`, `PackedLinear`.

use crate::numbers::{Numbers, close, gradients, tensor, variable};
use epitome_kernels::{PackedLinear, Precision, head_linear, linear};

/// Rows, heads, inputs, outputs: none, one, and more than a tile's rows, on both sides of a panel's 16 columns.
const SIZES: [(usize, usize, usize, usize); 6] =
    [(0, 2, 5, 3), (1, 1, 1, 1), (1, 3, 20, 40), (13, 2, 33, 17), (14, 3, 7, 50), (2, 12, 64, 70)];

#[test]
fn head_linear_and_its_gradients() {
    for ((rows, heads, inputs, outputs), transposed) in
        SIZES.into_iter().flat_map(|sizes| [(sizes, false), (sizes, true)])
    {
        let mut numbers = Numbers::seeded((rows * heads * inputs + outputs) as u64);
        let (x, weight) = (numbers.vector(rows * heads * inputs), numbers.vector(heads * inputs * outputs));
        let dy = numbers.vector(rows * heads * outputs);
        let shape = if transposed { [heads, outputs, inputs] } else { [heads, inputs, outputs] };
        let (vx, vw) = (variable(&x, &[rows, heads, inputs]), variable(&weight, &shape));
        let y = head_linear(&vx, &vw, transposed).unwrap();
        let (mut wanted, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; weight.len()]);
        for row_head in 0..rows * heads {
            for (i, o) in (0..inputs).flat_map(|i| (0..outputs).map(move |o| (i, o))) {
                let place = if transposed { o * inputs + i } else { i * outputs + o };
                let w = row_head % heads * inputs * outputs + place;
                let (x_at, y_at) = (row_head * inputs + i, row_head * outputs + o);
                wanted[y_at] += x[x_at] * weight[w];
                dx[x_at] += dy[y_at] * weight[w];
                dw[w] += dy[y_at] * x[x_at];
            }
        }
        close("y", &y, &wanted, 1e-5);
        let found = gradients(&y, &dy);
        close("dx", found.get(&vx).unwrap(), &dx, 1e-5);
        close("dw", found.get(&vw).unwrap(), &dw, 1e-5);
    }
}

#[test]
fn packed_weights_give_the_bits_of_plain_ones() {
    for (rows, _, inputs, outputs) in SIZES.into_iter().chain([(5, 1, 300, 600), (100, 1, 257, 33)]) {
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
    let weight = variable(&[1.0; 17 * 4], &[17, 4]);
    let x = variable(&[], &[0, 4]);
    let y = linear(&x, &weight, None).unwrap();
    let found = gradients(&y, &[]);
    close("dw", found.get(&weight).unwrap(), &[0.0; 17 * 4], 0.0);
    let y = linear(&tensor(&[], &[3, 0]), &tensor(&[], &[17, 0]), None).unwrap();
    close("y", &y, &[0.0; 3 * 17], 0.0);
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let (x, weight) = (tensor(&[0.0; 12], &[2, 2, 3]), tensor(&[0.0; 8], &[2, 2, 2]));
    let message = head_linear(&x, &weight, false).unwrap_err().to_string();
    assert!(message.contains("[2, 2, 3]") && message.contains("[2, 2, 2]"), "{message}");
    let weight = tensor(&[0.0; 8], &[2, 4]);
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
