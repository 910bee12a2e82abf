//! [`PackedLinear`].

use super::{as_rows, tensor, with_values};
use crate::cpu::matmul::multiply_new;
use crate::cpu::panels::Panels;
use crate::cpu::view::View;
use candle_core::{Result, Tensor, bail};

/// The weight and bias of [`linear`](crate::linear) in the order in which products read them: for inference, where a weight
/// is used many times and, for the few rows of a decoding step, ordering it anew would cost more than the product.
/// Results are those of `linear`, to the bit. Records no graph.
#[derive(Clone, Debug)]
pub struct PackedLinear {
    panels: Panels,
    bias: Option<Vec<f32>>,
}

impl PackedLinear {
    /// Packs a copy of `weight` `[out, in]`, with `bias` `[out]`.
    ///
    /// # Errors
    /// When the shapes do not fit, or the tensors are not f32 on the CPU.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        if let Some(bias) = bias.filter(|bias| bias.dims() != [outputs]) {
            bail!("linear: bias {:?} does not fit weight {:?}", bias.dims(), weight.dims());
        }
        let mut panels = Panels::default();
        with_values("linear", [&weight.contiguous()?], |[weight]| {
            panels.pack_parallel(View::dense(weight, outputs, inputs).transposed());
        })?;
        Ok(Self { panels, bias: bias.map(Tensor::to_vec1).transpose()? })
    }

    /// `x weight^T + bias`: `x` `[.., in]`; the result is `[.., out]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, inputs) = as_rows("linear", x)?;
        if inputs != self.panels.depth() {
            let (outputs, columns) = (self.panels.columns(), self.panels.depth());
            bail!("linear: x {:?} does not fit weight [{outputs}, {columns}]", x.dims());
        }
        let product = with_values("linear", [&x.contiguous()?], |[x]| {
            multiply_new(View::dense(x, rows, inputs), &self.panels, self.bias.as_deref())
        })?;
        let mut dims = x.dims().to_vec();
        dims.splice(dims.len() - 1.., [self.panels.columns()]);
        tensor(product, dims)
    }
}
