//! Layers of few rows and the logits of a head, as decoding has them.

use super::{close, numbers_of, on_device, place, rounded};
use crate::dense::{gelu_reference, norm_reference};
use crate::numbers::{Numbers, dot};
use candle_core::{DType, Tensor};
use epitome_kernels::{Norm, PackedLinear, Precision, ResidualSum, read_best};

/// Layers of few rows against their definition: alone, after a layer norm, and with GELU between two.
fn check_layers(rows: usize, [width, inner]: [usize; 2], with_bias: bool) {
    let mut numbers = Numbers::seeded((rows * width + inner) as u64);
    let dtype = DType::BF16;
    let [x, residual] = [(); 2].map(|()| rounded(&numbers.vector(rows * width), dtype));
    let small = |values: Vec<f64>| rounded(&values.iter().map(|value| 0.1 * value).collect::<Vec<_>>(), dtype);
    let weights = [(); 2].map(|()| small(numbers.vector(inner * width)));
    let biases = [inner, width].map(|count| numbers.vector(count));
    let [norm_weight, norm_bias] = [(); 2].map(|()| numbers.vector(width));
    let layer = |x: &[f64], which: usize, inputs: usize| -> Vec<f64> {
        let bias = |output: usize| if with_bias { biases[which][output] } else { 0.0 };
        let rows = x.chunks(inputs).map(|row| {
            weights[which].chunks(inputs).enumerate().map(|(o, weight)| dot(row, weight) + bias(o)).collect::<Vec<_>>()
        });
        rows.flatten().collect()
    };
    let gelu = |x: Vec<f64>| x.into_iter().map(gelu_reference).collect::<Vec<_>>();
    let summed: Vec<f64> = x.iter().zip(&residual).map(|(x, residual)| x + residual).collect();
    let normal = norm_reference(&summed, &norm_weight, &norm_bias);
    on_device(|| {
        let row = |values: &[f64]| place(values, &[values.len()], DType::F32);
        let linear = |which: usize, shape: [usize; 2]| {
            let bias = row(&biases[which]);
            PackedLinear::new(&place(&weights[which], &shape, dtype), with_bias.then_some(&bias), Precision::Bf16)
                .unwrap()
        };
        let (first, second) = (linear(0, [inner, width]), linear(1, [width, inner]));
        let [placed, placed_residual] = [&x, &residual].map(|values| place(values, &[rows, width], dtype));
        let (weight, bias) = (row(&norm_weight), row(&norm_bias));
        let norm = Norm { weight: &weight, bias: &bias, eps: 1e-5 };
        let sum = ResidualSum { x: &placed, residual: &placed_residual, dropout: None, first: 0 };
        let what = format!("{rows} rows of {width}, {inner}");
        close(&what, &first.forward(&placed).unwrap(), &layer(&x, 0, width), 0.005);
        let [normalised, y] = first.forward_after_norm(sum, norm).unwrap();
        close(&format!("{what}: norm"), &normalised, &normal, 0.005);
        let normal = numbers_of(&normalised);
        close(&format!("{what}: after the norm"), &y, &layer(&normal, 0, width), 0.005);
        let wanted = layer(&gelu(layer(&normal, 0, width)), 1, inner);
        let [again, y] = first.feed_forward_after_norm(&second, sum, norm).unwrap();
        assert!(numbers_of(&again) == normal);
        close(&format!("{what}: two after the norm"), &y, &wanted, 0.01);
        close(&format!("{what}: two"), &first.feed_forward(&second, &normalised).unwrap(), &wanted, 0.01);
    });
}

#[test]
fn layers_of_few_rows() {
    // Of widths with kernels, in all numbers of steps and of outputs a block, of which the last may have fewer, and of other widths; more
    // rows than there are kernels for.
    for (rows, sizes) in [
        (1, [32, 8]),
        (4, [256, 512]),
        (3, [512, 1536]),
        (2, [1536, 2048]),
        (4, [2048, 24]),
        (1, [1024, 24]),
        (3, [768, 40]),
        (5, [768, 16]),
        (11, [1024, 72]),
        (8, [768, 3072]),
        (9, [1024, 4096]),
        // What beams of LED-base and LED-large are, and other numbers of rows there.
        (4, [768, 2304]),
        (3, [1024, 4096]),
        (6, [1024, 4096]),
        (12, [768, 2304]),
        (16, [512, 64]),
        (3, [96, 40]),
        (5, [40, 24]),
        (2, [64, 30]),
        (17, [64, 128]),
    ] {
        check_layers(rows, sizes, true);
    }
    check_layers(4, [768, 768], false);
}

/// Numbers whose mean is far greater than their differences from it.
#[test]
fn a_norm_before_a_layer_is_exact_far_from_zero() {
    for (rows, width) in [(4, 768), (12, 96)] {
        let mut numbers = Numbers::seeded(width as u64);
        let residual = rounded(&numbers.vector(rows * width), DType::BF16);
        let x: Vec<f64> = (0..rows * width).map(|i| if i / width % 2 == 0 { 4096.0 } else { -2048.0 }).collect();
        let [weight, bias] = [(); 2].map(|()| numbers.vector(width));
        let summed: Vec<f64> = x.iter().zip(&residual).map(|(x, residual)| x + residual).collect();
        on_device(|| {
            let of = |values: &[f64], shape: &[usize], dtype| place(values, shape, dtype);
            let [x, residual] = [&x, &residual].map(|values| of(values, &[rows, width], DType::BF16));
            let layer = of(&vec![0.0; 8 * width], &[8, width], DType::BF16);
            let layer = PackedLinear::new(&layer, None, Precision::Bf16).unwrap();
            let [placed_weight, placed_bias] = [&weight, &bias].map(|values| of(values, &[width], DType::F32));
            let norm = Norm { weight: &placed_weight, bias: &placed_bias, eps: 1e-5 };
            let sum = ResidualSum { x: &x, residual: &residual, dropout: None, first: 0 };
            let found = layer.forward_after_norm(sum, norm).unwrap();
            close(&format!("{rows} rows of {width}"), &found[0], &norm_reference(&summed, &weight, &bias), 0.005);
        });
    }
}

/// Logits of a head in bf16: all of them, and the most probable of each row.
fn check_head(rows: usize, width: usize, vocabulary: usize, with_bias: bool) {
    let mut numbers = Numbers::seeded((rows * width + vocabulary) as u64);
    let dtype = DType::BF16;
    let [x, weight] = [rows, vocabulary].map(|count| rounded(&numbers.vector(count * width), dtype));
    let bias: Vec<f64> = if with_bias { numbers.vector(vocabulary) } else { vec![0.0; vocabulary] };
    let each = |row| weight.chunks(width).zip(&bias).map(move |(weight, bias)| dot(row, weight) + bias);
    let wanted: Vec<f64> = x.chunks(width).flat_map(each).collect();
    on_device(|| {
        let single = place(&bias, &[vocabulary], DType::F32);
        let weight = place(&weight, &[vocabulary, width], dtype);
        let head = PackedLinear::new(&weight, with_bias.then_some(&single), Precision::Bf16).unwrap();
        let x = place(&x, &[rows, width], dtype);
        let mut logits = Vec::new();
        head.forward_into(&x, &mut logits).unwrap();
        let logits: Vec<f64> = logits.into_iter().map(f64::from).collect();
        let what = format!("{rows} rows of {width}, {vocabulary} logits");
        close(&what, &place(&logits, &[logits.len()], DType::F32), &wanted, 1e-5);
        let best = read_best(&head.find_best(&x, 1).unwrap()).unwrap();
        for (row, logits) in logits.chunks(vocabulary).enumerate() {
            assert!(logits.iter().all(|logit| *logit <= logits[best[row][0].0 as usize]), "{what}: row {row}");
        }
    });
}

#[test]
fn heads_of_few_rows() {
    // Widths with whole groups, with a part of one and with none; vocabularies of few outputs and of several turns; and what has no
    // kernel: more rows, other widths.
    for (rows, width, vocabulary) in [
        (1, 32, 1),
        (2, 64, 131),
        (4, 768, 131),
        (7, 288, 1003),
        (8, 1024, 77),
        (9, 96, 131),
        (16, 768, 203),
        (12, 4096, 19),
        (3, 40, 131),
        (17, 64, 131),
        (3, 8192, 5),
    ] {
        check_head(rows, width, vocabulary, true);
    }
    for rows in 1..=16 {
        check_head(rows, 32, 131, false);
    }
    check_head(4, 64, 50_265, false);
}

/// A row of logits is the same whatever lies beside it, among up to 8 rows and among more.
#[test]
fn a_row_has_the_same_logits_alone_and_beside_others() {
    let (width, vocabulary) = (288, 301);
    let mut numbers = Numbers::seeded(5);
    on_device(|| {
        let mut random = |count: usize| place(&numbers.vector(count * width), &[count, width], DType::BF16);
        let (x, weight) = (random(16), random(vocabulary));
        let head = PackedLinear::new(&weight, None, Precision::Bf16).unwrap();
        let logits = |x: &Tensor| {
            let mut found = Vec::new();
            head.forward_into(x, &mut found).unwrap();
            found
        };
        let together = logits(&x);
        for (row, together) in together.chunks(vocabulary).enumerate() {
            assert!(logits(&x.narrow(0, row, 1).unwrap()) == together, "row {row}");
        }
    });
}
