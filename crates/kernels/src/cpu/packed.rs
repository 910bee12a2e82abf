//! y = x W^T + b with W kept in the order and the precision in which products read it.

use super::elementwise::gelu_in_place;
pub(crate) use super::int8::DEEPEST;
use super::int8::{self, Int8Rows, Int8Weight};
use super::matmul::{Finish, multiply_into, multiply_new};
use super::panels::Panels;
use super::tile::{Bf16x2, Start, Word, round_row};
use super::view::View;
use crate::Precision;
use rayon::prelude::*;

/// A weight [outputs, inputs] and its bias [outputs].
#[derive(Clone, Debug)]
pub(crate) struct PackedWeight {
    weight: Weight,
    bias: Option<Vec<f32>>,
    inputs: usize,
}

#[derive(Clone, Debug)]
enum Weight {
    F32(Panels),
    Bf16(Panels<Bf16x2>),
    Int8(Int8Weight),
}

/// What follows the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    None,
    Gelu,
}

/// Rows of x in the precision of a product, whose memory is used again from product to product.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    bf16: Vec<Bf16x2>,
    int8: Int8Rows,
}

impl PackedWeight {
    pub(crate) fn f32(weight: &[f32], outputs: usize, inputs: usize, bias: Option<Vec<f32>>) -> Self {
        let mut panels = Panels::default();
        panels.pack_parallel(View::dense(weight, outputs, inputs).transposed());
        Self { weight: Weight::F32(panels), bias, inputs }
    }

    pub(crate) fn bf16(weight: &[f32], outputs: usize, inputs: usize, bias: Option<Vec<f32>>) -> Self {
        let mut panels = Panels::default();
        panels.pack_pairs_parallel(View::dense(weight, outputs, inputs).transposed());
        Self { weight: Weight::Bf16(panels), bias, inputs }
    }

    pub(crate) fn int8(weight: &[f32], outputs: usize, inputs: usize, bias: Option<Vec<f32>>) -> Self {
        Self { weight: Weight::Int8(Int8Weight::quantize(weight, outputs, inputs)), bias, inputs }
    }

    pub(crate) fn precision(&self) -> Precision {
        match self.weight {
            Weight::F32(_) => Precision::F32,
            Weight::Bf16(_) => Precision::Bf16,
            Weight::Int8(_) => Precision::Int8,
        }
    }

    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(crate) fn outputs(&self) -> usize {
        match &self.weight {
            Weight::F32(panels) => panels.columns(),
            Weight::Bf16(panels) => panels.columns(),
            Weight::Int8(weight) => weight.panels.columns(),
        }
    }

    pub(crate) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// The weight as numbers again, row-major [outputs, inputs]: rounded or dequantized.
    pub(crate) fn unpack(&self) -> Vec<f32> {
        let mut weight = vec![0.0; self.outputs() * self.inputs];
        weight.par_chunks_mut(self.inputs.max(1)).enumerate().for_each(|(output, row)| {
            for (input, value) in row.iter_mut().enumerate() {
                *value = match &self.weight {
                    Weight::F32(panels) => panels.word(input, output),
                    Weight::Bf16(panels) => panels.word(input / 2, output).values()[input % 2],
                    Weight::Int8(weight) => weight.value(input, output),
                };
            }
        });
        weight
    }

    /// `activation(x W^T + bias)`, row-major [rows, outputs]; x has adjacent columns.
    pub(crate) fn multiply(&self, x: View<'_>, activation: Activation, rows: &mut Rows) -> Vec<f32> {
        self.run(x, activation, rows, New)
    }

    /// The same into `target`.
    pub(crate) fn multiply_into(&self, target: &mut [f32], x: View<'_>, activation: Activation, rows: &mut Rows) {
        self.run(x, activation, rows, Into(target));
    }

    fn run<O: Output>(&self, x: View<'_>, activation: Activation, rows: &mut Rows, output: O) -> O::Product {
        assert!(x.columns == self.inputs && (x.columns <= 1 || x.column_stride == 1), "operands of a product");
        let start = self.bias.as_deref().map_or(Start::Zero, Start::Row);
        let activate = |sums: &mut [f32]| {
            if activation == Activation::Gelu {
                gelu_in_place(sums);
            }
        };
        match &self.weight {
            Weight::F32(panels) => {
                output.product(x, panels, start, |_: usize, _: usize, sums: &mut [f32]| activate(sums))
            }
            Weight::Bf16(panels) => {
                let x = round_rows(&mut rows.bf16, x);
                output.product(x, panels, start, |_: usize, _: usize, sums: &mut [f32]| activate(sums))
            }
            Weight::Int8(weight) => {
                rows.int8.quantize(x);
                let quantized = &rows.int8;
                let finish = |row: usize, first: usize, sums: &mut [f32]| {
                    let bias = self.bias.as_deref().map(|bias| &bias[first..]);
                    int8::finish(sums, quantized.scale(row), &weight.scales[first..], bias);
                    activate(sums);
                };
                output.product(quantized.view(), &weight.panels, Start::Row(&weight.starts), finish)
            }
        }
    }
}

/// Where a product goes.
trait Output {
    type Product;
    fn product<W: Word>(
        self,
        x: View<'_, W::Left>,
        weight: &Panels<W>,
        start: Start<'_>,
        finish: impl Finish,
    ) -> Self::Product;
}

struct New;

impl Output for New {
    type Product = Vec<f32>;
    fn product<W: Word>(
        self,
        x: View<'_, W::Left>,
        weight: &Panels<W>,
        start: Start<'_>,
        finish: impl Finish,
    ) -> Vec<f32> {
        multiply_new(x, weight, start, finish)
    }
}

struct Into<'a>(&'a mut [f32]);

impl Output for Into<'_> {
    type Product = ();
    fn product<W: Word>(self, x: View<'_, W::Left>, weight: &Panels<W>, start: Start<'_>, finish: impl Finish) {
        multiply_into(self.0, x, weight, start, finish);
    }
}

/// Rows of adjacent values as pairs of bf16, with all threads.
fn round_rows<'a>(pairs: &'a mut Vec<Bf16x2>, x: View<'_>) -> View<'a, Bf16x2> {
    let depth = x.columns.div_ceil(2);
    pairs.resize(x.rows * depth, Bf16x2::default());
    pairs.par_chunks_mut(depth.max(1)).with_min_len(16).enumerate().for_each(|(row, pairs)| {
        round_row(pairs, &x.values[row * x.row_stride..][..x.columns]);
    });
    View::dense(pairs, x.rows, depth)
}

#[cfg(test)]
mod tests {
    use super::super::elementwise::gelu;
    use super::*;

    fn numbers(length: usize, seed: usize) -> Vec<f32> {
        (0..length).map(|i| ((i * 7919 + seed) as f32 * 0.7391).sin() * (1.0 + (i % 13) as f32)).collect()
    }

    /// Bytes and their scale, in f64.
    fn quantized(row: &[f32]) -> (Vec<f64>, f64) {
        let most = row.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let inverse = if most > 0.0 { 127.0 / most } else { 0.0 };
        let bytes: Vec<f64> = row.iter().map(|value| f64::from((value * inverse).round_ties_even())).collect();
        assert!(bytes.iter().all(|byte| byte.abs() <= 127.0));
        (bytes, f64::from(most) / 127.0)
    }

    /// Sums of bytes are exact; turning them into numbers rounds a few times.
    #[test]
    fn int8_products_are_those_of_quantized_numbers() {
        for (rows, outputs, inputs) in [(1, 1, 1), (3, 17, 4), (5, 33, 7), (14, 70, 66), (2, 40, 1029), (4, 5, 0)] {
            let (mut x, mut weight) = (numbers(rows * inputs, 1), numbers(outputs * inputs, 2));
            // A row of zeros on either side, and one of large numbers.
            x[..inputs].iter_mut().for_each(|x| *x *= 1e6);
            x[(rows - 1) * inputs..].fill(if rows > 1 { 0.0 } else { 1e-3 });
            weight[(outputs - 1) * inputs..].fill(if outputs > 1 { 0.0 } else { 1e-3 });
            let bias = numbers(outputs, 3);
            for bias in [None, Some(bias)] {
                let packed = PackedWeight::int8(&weight, outputs, inputs, bias.clone());
                let view = View::dense(&x, rows, inputs);
                let found = packed.multiply(view, Activation::None, &mut Rows::default());
                for (at, found) in found.iter().enumerate() {
                    let (i, j) = (at / outputs, at % outputs);
                    let (left, left_scale) = quantized(&x[i * inputs..][..inputs]);
                    let (right, right_scale) = quantized(&weight[j * inputs..][..inputs]);
                    let sum: f64 = left.iter().zip(&right).map(|(left, right)| left * right).sum();
                    let bias = bias.as_ref().map_or(0.0, |bias| f64::from(bias[j]));
                    let product = sum * left_scale * right_scale;
                    let error = (f64::from(*found) - product - bias).abs();
                    let most = 4.0 * f64::from(f32::EPSILON) * (product.abs() + bias.abs());
                    assert!(error <= most, "{rows} {outputs} {inputs}: {found} at {i} {j}, not {}", product + bias);
                }
                let activated = packed.multiply(view, Activation::Gelu, &mut Rows::default());
                assert!(activated == gelu(&found), "{rows} {outputs} {inputs}");
            }
        }
    }

    /// As deep as 32 bits allow, with the largest bytes everywhere.
    #[test]
    fn the_deepest_int8_product_does_not_overflow() {
        let depth = DEEPEST;
        let (x, weight) =
            ([vec![1.0; depth], vec![-1.0; depth]].concat(), [vec![1.0; depth], vec![-1.0; depth]].concat());
        let packed = PackedWeight::int8(&weight, 2, depth, None);
        let found = packed.multiply(View::dense(&x, 2, depth), Activation::None, &mut Rows::default());
        for (found, wanted) in found.iter().zip([1.0, -1.0, -1.0, 1.0].map(|sign| sign * depth as f32)) {
            assert!((found - wanted).abs() <= 1e-6 * depth as f32, "{found}, not {wanted}");
        }
    }

    /// Memory that is used again holds what was there before.
    #[test]
    fn rows_of_other_products_do_not_show() {
        let mut rows = Rows::default();
        for (count, inputs) in [(9, 70), (3, 5), (12, 33), (1, 2)] {
            let (x, weight) = (numbers(count * inputs, 4), numbers(20 * inputs, 5));
            for pack in [PackedWeight::f32, PackedWeight::bf16, PackedWeight::int8] {
                let packed = pack(&weight, 20, inputs, None);
                let view = View::dense(&x, count, inputs);
                let wanted = packed.multiply(view, Activation::None, &mut Rows::default());
                assert!(packed.multiply(view, Activation::None, &mut rows) == wanted);
                let mut target = vec![f32::NAN; count * 20];
                packed.multiply_into(&mut target, view, Activation::None, &mut rows);
                assert!(target == wanted);
            }
        }
    }
}
