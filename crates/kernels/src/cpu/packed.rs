//! y = x W^T + b with W kept in the order and the precision in which products read it.

use super::elementwise::gelu_in_place;
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
