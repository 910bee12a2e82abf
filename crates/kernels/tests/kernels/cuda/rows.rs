//! Layer norm, GELU, dropout, conversions, embeddings. Widths with and without whole packs of eight.

use super::{Number, close, rounded};
use crate::dense::{gelu_reference, norm_reference};
use crate::numbers::{Numbers, differences, dot};
use epitome_kernels::cuda::{
    NormInputs, accumulate_rows, bias_gelu, bias_gelu_backward, dropout_part, embed, layer_norm, layer_norm_backward,
    round_to_bf16, widen_to_f32,
};
use epitome_kernels::{Dropout, DropoutKey};
use half::bf16;

fn dropout() -> Dropout {
    Dropout { probability: 0.25, key: DropoutKey::new(5) }
}

fn singles(values: &[f64]) -> Vec<f32> {
    f32::vector(values)
}

/// x times its mask.
fn dropped(x: &[f64], dropout: Option<Dropout>) -> Vec<f64> {
    let factor = |i: usize| dropout.map_or(1.0, |dropout| f64::from(dropout.factor(i as u64)));
    x.iter().enumerate().map(|(i, x)| x * factor(i)).collect()
}

fn check_layer_norm<T: Number>((rows, width): (usize, usize), with_residual: bool, dropout: Option<Dropout>, far: f64) {
    let mut numbers = Numbers::seeded((rows * width) as u64);
    let [x, residual, dy] = [(); 3].map(|()| rounded::<T>(&numbers.vector(rows * width)));
    let [weight, bias] = [(); 2].map(|()| numbers.vector(width));
    let sum = |x: &[f64], residual: &[f64]| -> Vec<f64> {
        let residual = |i: usize| if with_residual { residual[i] } else { 0.0 };
        dropped(x, dropout).iter().enumerate().map(|(i, x)| x + residual(i)).collect()
    };
    let summed = sum(&x, &residual);
    let value = |sum: &[f64], weight: &[f64], bias: &[f64]| dot(&norm_reference(sum, weight, bias), &dy);

    let [tx, tr, tdy] = [&x, &residual, &dy].map(|values| T::vector(values));
    let weights = singles(&weight);
    let inputs =
        NormInputs { x: &tx, residual: with_residual.then_some(&tr[..]), weight: &weights, dropout, eps: 1e-5 };
    let y = layer_norm(&inputs, &singles(&bias)).unwrap();
    close("y", &y, &norm_reference(&summed, &weight, &bias), far);
    let [mut dweight, mut dbias] = [(); 2].map(|()| vec![0.5f32; width]);
    let [dsum, dx] = layer_norm_backward(&inputs, &tdy, [&mut dweight, &mut dbias]).unwrap();
    let wanted = differences(&summed, |sum| value(sum, &weight, &bias));
    close("dsum", &dsum, &wanted, 2.0 * far);
    close("dx", &dx, &dropped(&wanted, dropout), 2.0 * far);
    let running = |gradient: Vec<f64>| gradient.into_iter().map(|value| value + 0.5).collect::<Vec<f64>>();
    close("dweight", &dweight, &running(differences(&weight, |weight| value(&summed, weight, &bias))), 2e-5);
    close("dbias", &dbias, &running(differences(&bias, |bias| value(&summed, &weight, bias))), 2e-5);
}

#[test]
fn layer_norms() {
    for shape in [(1, 1), (5, 16), (3, 33), (130, 8), (2, 776), (67, 7)] {
        check_layer_norm::<f32>(shape, false, None, 1e-5);
        check_layer_norm::<f32>(shape, true, Some(dropout()), 1e-5);
        if shape.1 > 1 {
            check_layer_norm::<bf16>(shape, true, None, 0.005);
            check_layer_norm::<bf16>(shape, true, Some(dropout()), 0.005);
        }
    }
}

fn check_gelu<T: Number>((rows, width): (usize, usize), far: f64) {
    let mut numbers = Numbers::seeded((rows * width) as u64);
    let [x, dy] = [(); 2].map(|()| rounded::<T>(&numbers.vector(rows * width)));
    let bias = numbers.vector(width);
    let z: Vec<f64> = x.iter().enumerate().map(|(i, x)| x + bias[i % width]).collect();
    let wanted: Vec<f64> = z.iter().map(|z| gelu_reference(*z)).collect();
    let [tx, tdy] = [&x, &dy].map(|values| T::vector(values));
    close("y", &bias_gelu(&tx, &singles(&bias)).unwrap(), &wanted, far);
    let slope = |z: f64| (gelu_reference(z + 1e-4) - gelu_reference(z - 1e-4)) / 2e-4;
    let wanted: Vec<f64> = z.iter().zip(&dy).map(|(z, dy)| dy * slope(*z)).collect();
    let mut sums = vec![-2f32; width];
    close("dx", &bias_gelu_backward(&tx, &singles(&bias), &tdy, &mut sums).unwrap(), &wanted, far);
    let column = |c: usize| wanted.iter().skip(c).step_by(width).sum::<f64>() - 2.0;
    close("dbias", &sums, &(0..width).map(column).collect::<Vec<f64>>(), 1e-5);
}

#[test]
fn gelu_of_a_sum_with_a_bias() {
    for shape in [(1, 1), (3, 5), (130, 16), (2, 1032), (64, 9)] {
        check_gelu::<f32>(shape, 2e-6);
        check_gelu::<bf16>(shape, 0.005);
    }
}

#[test]
fn dropout_draws_the_documented_mask_across_streams() {
    let x = singles(&Numbers::seeded(4).vector(5003));
    for first in [0, 3, (1 << 32) - 2001, (7 << 32) + 1] {
        let found = dropout_part(&x, Some(dropout()), first).unwrap();
        let wanted = x.iter().enumerate().map(|(i, x)| x * dropout().factor(first + i as u64));
        assert!(wanted.zip(&found).all(|(wanted, found)| wanted == *found), "first {first}");
    }
    assert_eq!(dropout_part(&x, None, 0).unwrap(), x);
    let x = bf16::vector(&Numbers::seeded(4).vector(41));
    let found = dropout_part(&x, Some(dropout()), 1).unwrap();
    for (i, (found, x)) in found.iter().zip(&x).enumerate() {
        assert_eq!(*found, bf16::from_f32(x.to_f32() * dropout().factor(1 + i as u64)));
    }
}

#[test]
fn conversions_round_to_nearest_even() {
    let mut x = singles(&Numbers::seeded(6).vector(3001));
    x.extend([0.0, -0.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-40]);
    let rounded = round_to_bf16(&x).unwrap();
    assert_eq!(rounded, x.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>());
    let wide = widen_to_f32(&rounded).unwrap();
    assert!(wide.iter().zip(&rounded).all(|(wide, rounded)| *wide == rounded.to_f32()));
    assert!(round_to_bf16(&[f32::NAN]).unwrap()[0].is_nan());
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
        let sums = (0..count).flat_map(|t| (0..width).map(move |d| (t, d)));
        let wanted: Vec<f64> = sums.map(|(t, d)| row(&words, ids[t], d) + row(&places, positions[t], d)).collect();
        let [tw, tp] = [&words, &places].map(|table| singles(table));
        close("sum", &embed(width, (&tw, &ids), Some((&tp, &positions))).unwrap(), &wanted, 1e-6);
        let table = bf16::vector(&words);
        let found = embed(width, (&table, &ids), None).unwrap();
        assert!(found.chunks(width).zip(&ids).all(|(row, id)| *row == table[*id as usize * width..][..width]));

        for skip in [None, Some(ids[0])] {
            let mut found = [singles(&words), singles(&words)];
            accumulate_rows(&mut found[0], &ids, &singles(&gradient), width, skip).unwrap();
            accumulate_rows(&mut found[1], &ids, &bf16::vector(&gradient), width, skip).unwrap();
            for (found, gradient) in found.iter().zip([gradient.clone(), rounded::<bf16>(&gradient)]) {
                let mut wanted = words.clone();
                for (t, id) in ids.iter().enumerate().filter(|(_, id)| Some(**id) != skip) {
                    (0..width).for_each(|d| wanted[*id as usize * width + d] += gradient[t * width + d]);
                }
                close("table", found, &wanted, 1e-5);
            }
        }
    }
}
