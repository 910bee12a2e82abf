//! Layer norm, GELU, dropout, conversions, embeddings. Widths with and without whole packs of eight.

use super::{close, numbers_of, place, rounded};
use crate::dense::{column_sums, gelu_reference, norm_reference};
use crate::numbers::{Numbers, differences, dot};
use candle_core::{DType, Tensor};
use epitome_kernels::cuda::{
    NormInputs, accumulate_rows, add_assign, bias_gelu, bias_gelu_backward, column_sums as sum_columns, dropout_part,
    embed, layer_norm, layer_norm_backward, lerp_assign,
};
use epitome_kernels::{Dropout, DropoutKey};

fn dropout() -> Dropout {
    Dropout { probability: 0.25, key: DropoutKey::new(5) }
}

/// A row in f32.
fn singles(values: &[f64]) -> Tensor {
    place(values, &[values.len()], DType::F32)
}

/// Index of the first number of x in its mask.
const FIRST: u64 = 12;

/// x times its mask.
fn dropped(x: &[f64], dropout: Option<Dropout>) -> Vec<f64> {
    let factor = |i: usize| dropout.map_or(1.0, |dropout| f64::from(dropout.factor(FIRST + i as u64)));
    x.iter().enumerate().map(|(i, x)| x * factor(i)).collect()
}

fn check_layer_norm(
    dtype: DType,
    (rows, width): (usize, usize),
    with_residual: bool,
    dropout: Option<Dropout>,
    far: f64,
) {
    let mut numbers = Numbers::seeded((rows * width) as u64);
    let [x, residual, dy] = [(); 3].map(|()| rounded(&numbers.vector(rows * width), dtype));
    let [weight, bias] = [(); 2].map(|()| numbers.vector(width));
    let sum = |x: &[f64], residual: &[f64]| -> Vec<f64> {
        let residual = |i: usize| if with_residual { residual[i] } else { 0.0 };
        dropped(x, dropout).iter().enumerate().map(|(i, x)| x + residual(i)).collect()
    };
    let summed = sum(&x, &residual);
    let value = |sum: &[f64], weight: &[f64], bias: &[f64]| dot(&norm_reference(sum, weight, bias), &dy);

    let [tx, tr, tdy] = [&x, &residual, &dy].map(|values| place(values, &[rows, width], dtype));
    let weights = singles(&weight);
    let inputs = NormInputs {
        x: &tx,
        residual: with_residual.then_some(&tr),
        weight: &weights,
        dropout,
        first: FIRST,
        eps: 1e-5,
    };
    let y = layer_norm(&inputs, &singles(&bias)).unwrap();
    close("y", &y, &norm_reference(&summed, &weight, &bias), far);
    let [dweight, dbias] = [(); 2].map(|()| singles(&vec![0.5; width]));
    let [dsum, _] = layer_norm_backward(&inputs, &tdy, [&dweight, &dbias], None).unwrap();
    let [dweight, dbias, x_sum] = [(); 3].map(|()| singles(&vec![0.5; width]));
    let [again, dx] = layer_norm_backward(&inputs, &tdy, [&dweight, &dbias], Some(&x_sum)).unwrap();
    assert_eq!(numbers_of(&dsum), numbers_of(&again));
    let wanted = differences(&summed, |sum| value(sum, &weight, &bias));
    close("dsum", &dsum, &wanted, 2.0 * far);
    close("dx", &dx, &dropped(&wanted, dropout), 2.0 * far);
    // Of wide rows what is summed up has been rounded.
    let x_sum_far = if width > 1024 { 2.0 * far } else { 2e-5 };
    close("sum of dx", &x_sum, &column_sums(&dropped(&wanted, dropout), width, 0.5), x_sum_far);
    let running = |gradient: Vec<f64>| gradient.into_iter().map(|value| value + 0.5).collect::<Vec<f64>>();
    close("dweight", &dweight, &running(differences(&weight, |weight| value(&summed, weight, &bias))), 2e-5);
    close("dbias", &dbias, &running(differences(&bias, |bias| value(&summed, &weight, bias))), 2e-5);
}

#[test]
fn layer_norms() {
    for shape in [(1, 1), (5, 16), (3, 33), (130, 8), (70, 264), (2, 776), (33, 1024), (3, 1032), (67, 7)] {
        check_layer_norm(DType::F32, shape, false, None, 1e-5);
        check_layer_norm(DType::F32, shape, true, Some(dropout()), 1e-5);
        if shape.1 > 1 {
            check_layer_norm(DType::BF16, shape, true, None, 0.005);
            check_layer_norm(DType::BF16, shape, true, Some(dropout()), 0.005);
        }
    }
}

/// Of several matrices, of which neighbours have one shape or not.
#[test]
fn sums_of_columns() {
    for dtype in [DType::F32, DType::BF16] {
        let shapes = [(130, 16), (130, 16), (3, 9), (130, 16), (130, 16), (130, 16), (130, 16), (1, 1)];
        let mut numbers = Numbers::seeded(17);
        let all: Vec<_> = shapes
            .into_iter()
            .map(|(rows, width)| {
                let x = rounded(&numbers.vector(rows * width), dtype);
                (place(&x, &[rows, width], dtype), singles(&vec![0.5; width]), column_sums(&x, width, 0.5))
            })
            .collect();
        sum_columns(&all.iter().map(|(x, sum, _)| (x, sum)).collect::<Vec<_>>()).unwrap();
        all.iter().for_each(|(_, sum, wanted)| close("sums", sum, wanted, 1e-5));
        assert!(sum_columns(&[(&all[0].0, &all[2].1)]).is_err());
    }
}

fn check_gelu(dtype: DType, (rows, width): (usize, usize), far: f64) {
    let mut numbers = Numbers::seeded((rows * width) as u64);
    let [x, dy] = [(); 2].map(|()| rounded(&numbers.vector(rows * width), dtype));
    let bias = numbers.vector(width);
    let z: Vec<f64> = x.iter().enumerate().map(|(i, x)| x + bias[i % width]).collect();
    let wanted: Vec<f64> = z.iter().map(|z| gelu_reference(*z)).collect();
    let [tx, tdy] = [&x, &dy].map(|values| place(values, &[rows, width], dtype));
    let own = singles(&bias);
    close("y", &bias_gelu(&tx, Some(&own)).unwrap(), &wanted, far);
    let slope = |z: f64| (gelu_reference(z + 1e-4) - gelu_reference(z - 1e-4)) / 2e-4;
    let wanted: Vec<f64> = z.iter().zip(&dy).map(|(z, dy)| dy * slope(*z)).collect();
    let sums = singles(&vec![-2.0; width]);
    close("dx", &bias_gelu_backward(&tx, Some(&own), &tdy, Some(&sums), None).unwrap(), &wanted, far);
    close("dbias", &sums, &column_sums(&wanted, width, -2.0), 1e-5);
    let again = place(&vec![0.0; rows * width], &[rows, width], dtype);
    let dx = bias_gelu_backward(&tx, Some(&own), &tdy, None, Some(&again)).unwrap();
    close("dx beside y", &dx, &wanted, far);
    assert_eq!(numbers_of(&again), numbers_of(&bias_gelu(&tx, Some(&own)).unwrap()));
}

#[test]
fn gelu_of_a_sum_with_a_bias() {
    for shape in [(1, 1), (3, 5), (130, 16), (2, 1032), (64, 9)] {
        check_gelu(DType::F32, shape, 2e-6);
        check_gelu(DType::BF16, shape, 0.005);
    }
}

/// The tails, where the distribution is small or its rest is, and what is no number.
#[test]
fn gelu_far_from_zero() {
    for (dtype, far) in [(DType::F32, 2e-6), (DType::BF16, 0.005)] {
        let z = rounded(&(-480..=480).map(|i| f64::from(i) / 40.0).collect::<Vec<_>>(), dtype);
        let placed = place(&z, &[z.len(), 1], dtype);
        let found = bias_gelu(&placed, None).unwrap();
        close("y", &found, &z.iter().map(|z| gelu_reference(*z)).collect::<Vec<_>>(), far);
        // Small numbers in their own measure: what is left at -3 is -0.004.
        for (z, y) in z.iter().zip(numbers_of(&found)).filter(|(z, _)| (-4.0..0.0).contains(*z)) {
            let wanted = gelu_reference(*z);
            assert!((y - wanted).abs() <= 0.01 * wanted.abs(), "{dtype:?} at {z}: {y}, not {wanted}");
        }
        let slope = |z: f64| (gelu_reference(z + 1e-4) - gelu_reference(z - 1e-4)) / 2e-4;
        let ones = place(&vec![1.0; z.len()], &[z.len(), 1], dtype);
        let found = bias_gelu_backward(&placed, None, &ones, None, None).unwrap();
        close("dx", &found, &z.iter().map(|z| slope(*z)).collect::<Vec<_>>(), far);
        let ends = place(&[f64::INFINITY, 3e38, -3e38, f64::NAN], &[4, 1], dtype);
        let found = numbers_of(&bias_gelu(&ends, None).unwrap());
        assert!(found[0] == f64::INFINITY && found[1] > 1e38 && found[2] == 0.0 && found[3].is_nan(), "{found:?}");
    }
}

#[test]
fn dropout_draws_the_documented_mask_across_streams() {
    let x = Numbers::seeded(4).vector(5003);
    let placed = singles(&x);
    for first in [0, 3, (1 << 32) - 2001, (7 << 32) + 1] {
        let found = numbers_of(&dropout_part(&placed, Some(dropout()), first).unwrap());
        let wanted = x.iter().enumerate().map(|(i, x)| *x as f32 * dropout().factor(first + i as u64));
        assert!(wanted.zip(&found).all(|(wanted, found)| f64::from(wanted) == *found), "first {first}");
    }
    assert_eq!(numbers_of(&dropout_part(&placed, None, 0).unwrap()), x);
    let x = rounded(&x[..41], DType::BF16);
    let found = numbers_of(&dropout_part(&place(&x, &[41], DType::BF16), Some(dropout()), 1).unwrap());
    let wanted: Vec<f64> =
        x.iter().enumerate().map(|(i, x)| f64::from(*x as f32 * dropout().factor(1 + i as u64))).collect();
    assert_eq!(found, rounded(&wanted, DType::BF16));
}

#[test]
fn sums_grow_and_averages_approach_in_place() {
    let types = [(DType::F32, DType::F32), (DType::BF16, DType::BF16), (DType::F32, DType::BF16)];
    for ((own, other), count) in types.into_iter().flat_map(|types| [(types, 5003), (types, 16), (types, 1)]) {
        let mut numbers = Numbers::seeded(count as u64);
        let [sum, x] = [own, other].map(|dtype| rounded(&numbers.vector(count), dtype));
        let far = if own == DType::BF16 { 0.004 } else { 1e-6 };
        let found = place(&sum, &[count], own);
        add_assign(&found, &place(&x, &[count], other)).unwrap();
        close("sum", &found, &sum.iter().zip(&x).map(|(sum, x)| sum + x).collect::<Vec<f64>>(), far);
        let found = place(&sum, &[count], own);
        lerp_assign(&found, &place(&x, &[count], other), 0.25).unwrap();
        close("average", &found, &sum.iter().zip(&x).map(|(sum, x)| 0.75 * sum + 0.25 * x).collect::<Vec<f64>>(), far);
    }
    assert!(add_assign(&singles(&[0.0]), &singles(&[0.0, 1.0])).is_err());
}

/// However small its steps are, and however many.
#[test]
fn an_average_of_a_constant_is_the_constant() {
    let (average, constant) = (singles(&[1.7, -0.3]), singles(&[1.7, -0.3]));
    for _ in 0..2000 {
        lerp_assign(&average, &constant, 1e-5).unwrap();
    }
    assert_eq!(numbers_of(&average), numbers_of(&constant));
}

#[test]
fn embeddings_and_their_gradients() {
    for (width, count) in [(6, 200), (16, 150), (1, 1), (1040, 3)] {
        let mut numbers = Numbers::seeded(width as u64);
        let (words, places, gradient) =
            (numbers.vector(50 * width), numbers.vector(count * width), numbers.vector(count * width));
        let ids: Vec<u32> = (0..count).map(|_| numbers.below(50) as u32).collect();
        let positions: Vec<u32> = (0..count as u32).rev().collect();
        let row = |table: &[f64], id: u32, d: usize| table[id as usize * width + d];
        let sums = || (0..count).flat_map(|t| (0..width).map(move |d| (t, d)));
        let wanted: Vec<f64> = sums().map(|(t, d)| row(&words, ids[t], d) + row(&places, positions[t], d)).collect();
        let tw = place(&words, &[50, width], DType::F32);
        let tp = place(&places, &[count, width], DType::F32);
        close("sum", &embed((&tw, &ids), Some((&tp, &positions)), DType::F32).unwrap(), &wanted, 1e-6);
        let sum = embed((&tw, &ids), Some((&tp, &positions)), DType::BF16).unwrap();
        assert_eq!(sum.dtype(), DType::BF16);
        close("sum in bf16", &sum, &wanted, 0.005);
        let found = embed((&place(&words, &[50, width], DType::BF16), &ids), None, DType::BF16).unwrap();
        let kept = rounded(&words, DType::BF16);
        assert_eq!(numbers_of(&found), sums().map(|(t, d)| row(&kept, ids[t], d)).collect::<Vec<f64>>());

        for (dtype, skip) in
            [DType::F32, DType::BF16].into_iter().flat_map(|dtype| [(dtype, None), (dtype, Some(ids[0]))])
        {
            let found = place(&words, &[50, width], DType::F32);
            accumulate_rows(&found, &ids, &place(&gradient, &[count, width], dtype), skip).unwrap();
            let (gradient, mut wanted) = (rounded(&gradient, dtype), words.clone());
            for (t, id) in ids.iter().enumerate().filter(|(_, id)| Some(**id) != skip) {
                (0..width).for_each(|d| wanted[*id as usize * width + d] += gradient[t * width + d]);
            }
            close("table", &found, &wanted, 1e-5);
        }
    }
}
