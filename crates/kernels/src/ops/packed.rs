//! [`PackedLinear`].

use super::{as_rows, compute, refuse_tracked, tensor};
use crate::Precision;
use crate::cpu::packed::{Activation, DEEPEST, PackedWeight, Rows};
use crate::cpu::view::View;
use candle_core::{Result, Tensor, bail};
use std::cell::Cell;

/// The weight and bias of [`linear`](crate::linear) in the order in which products read them: for inference, where a weight
/// is used many times and, for the few rows of a decoding step, ordering it anew would cost more than the product.
/// In f32 results are those of `linear`, to the bit. Records no graph.
#[derive(Clone, Debug)]
pub struct PackedLinear(PackedWeight);

/// Rows of hidden states that pass a feed-forward layer at a time, so that what is between its products stays in cache.
const FEED_FORWARD_ROWS: usize = 768;

/// Rows that are rounded or quantized for a product at a time, so that what is kept of them between products stays small.
const LINEAR_ROWS: usize = 1 << 16;

thread_local! {
    /// The rows of the last product, so that their memory is used again.
    static ROWS: Cell<Rows> = Cell::default();
}

impl PackedLinear {
    /// Packs a copy of `weight` `[out, in]`, with `bias` `[out]`.
    ///
    /// # Errors
    /// When the shapes do not fit, the tensors are in a graph or not f32 on the CPU, or sums of products in [`Precision::Int8`] could pass
    /// 32 bits (from 66,312 inputs on).
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, precision: Precision) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        if let Some(bias) = bias.filter(|bias| bias.dims() != [outputs]) {
            bail!("linear: bias {:?} does not fit weight {:?}", bias.dims(), weight.dims());
        }
        if precision == Precision::Int8 && inputs > DEEPEST {
            bail!("linear: weight {:?} has more than the {DEEPEST} inputs that int8 can sum", weight.dims());
        }
        if let Some(bias) = bias {
            refuse_tracked("PackedLinear::new", bias)?;
        }
        let bias = bias.map(Tensor::to_vec1).transpose()?;
        let pack = match precision {
            Precision::F32 => PackedWeight::f32,
            Precision::Bf16 => PackedWeight::bf16,
            Precision::Int8 => PackedWeight::int8,
        };
        Ok(Self(compute("PackedLinear::new", [weight], |[weight]| pack(weight, outputs, inputs, bias))?))
    }

    /// What the weight is kept in.
    pub fn precision(&self) -> Precision {
        self.0.precision()
    }

    /// The weight `[out, in]` as numbers again: rounded or dequantized, where it is not kept in f32.
    ///
    /// # Errors
    /// When the tensor cannot be made.
    pub fn weight(&self) -> Result<Tensor> {
        tensor(self.0.unpack(), (self.0.outputs(), self.0.inputs()))
    }

    /// The bias `[out]`, if there is one.
    ///
    /// # Errors
    /// When the tensor cannot be made.
    pub fn bias(&self) -> Result<Option<Tensor>> {
        self.0.bias().map(|bias| tensor(bias.to_vec(), bias.len())).transpose()
    }

    /// `x weight^T + bias`: `x` `[.., in]`; the result is `[.., out]`.
    ///
    /// # Errors
    /// When the shapes do not fit or `x` is in a graph.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, inputs) = self.check(x)?;
        let mut reused = ROWS.take();
        let product = compute("PackedLinear::forward", [x], |[x]| {
            let x = View::dense(x, rows, inputs);
            if rows <= LINEAR_ROWS {
                return self.0.multiply(x, Activation::None, &mut reused);
            }
            let outputs = self.0.outputs();
            let mut product = vec![0.0; rows * outputs];
            for first in (0..rows).step_by(LINEAR_ROWS) {
                let part = first..rows.min(first + LINEAR_ROWS);
                let target = &mut product[part.start * outputs..part.end * outputs];
                self.0.multiply_into(target, x.part(part, 0..inputs), Activation::None, &mut reused);
            }
            product
        })?;
        ROWS.set(reused);
        let mut dims = x.dims().to_vec();
        dims.splice(dims.len() - 1.., [self.0.outputs()]);
        tensor(product, dims)
    }

    /// [`PackedLinear::forward`] into `target`, whose memory is used again: it becomes `[.., out]`, row-major.
    ///
    /// # Errors
    /// When the shapes do not fit or `x` is in a graph.
    pub fn forward_into(&self, x: &Tensor, target: &mut Vec<f32>) -> Result<()> {
        let (rows, inputs) = self.check(x)?;
        target.resize(rows * self.0.outputs(), 0.0);
        let mut reused = ROWS.take();
        compute("PackedLinear::forward_into", [x], |[x]| {
            self.0.multiply_into(target, View::dense(x, rows, inputs), Activation::None, &mut reused);
        })?;
        ROWS.set(reused);
        Ok(())
    }

    /// The rows of x and their length.
    fn check(&self, x: &Tensor) -> Result<(usize, usize)> {
        let (rows, inputs) = as_rows("linear", x)?;
        if inputs != self.0.inputs() {
            bail!("linear: x {:?} does not fit weight [{}, {}]", x.dims(), self.0.outputs(), self.0.inputs());
        }
        Ok((rows, inputs))
    }

    /// `second.forward(gelu(self.forward(x)))` without keeping what is between them: `x` `[T, in]`.
    ///
    /// # Errors
    /// When the shapes do not fit or `x` is in a graph.
    pub fn feed_forward(&self, second: &Self, x: &Tensor) -> Result<Tensor> {
        let (rows, inputs) = x.dims2()?;
        let (width, outputs) = (self.0.outputs(), second.0.outputs());
        if inputs != self.0.inputs() || width != second.0.inputs() {
            let dims = [self, second].map(|linear| [linear.0.outputs(), linear.0.inputs()]);
            bail!("feed_forward: x {:?} and weights {dims:?} do not fit", x.dims());
        }
        let mut reused = ROWS.take();
        let mut inner = vec![0.0; rows.min(FEED_FORWARD_ROWS) * width];
        let mut product = vec![0.0; rows * outputs];
        compute("feed_forward", [x], |[x]| {
            let x = View::dense(x, rows, inputs);
            for first in (0..rows).step_by(FEED_FORWARD_ROWS) {
                let part = first..rows.min(first + FEED_FORWARD_ROWS);
                let inner = &mut inner[..part.len() * width];
                self.0.multiply_into(inner, x.part(part.clone(), 0..inputs), Activation::Gelu, &mut reused);
                let target = &mut product[part.start * outputs..part.end * outputs];
                second.0.multiply_into(target, View::dense(inner, part.len(), width), Activation::None, &mut reused);
            }
        })?;
        ROWS.set(reused);
        tensor(product, (rows, outputs))
    }
}
