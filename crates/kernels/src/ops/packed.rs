//! [`PackedLinear`].

use super::{as_rows, tensor, with_values};
use crate::cpu::int8::{self, Int8Panels};
use crate::cpu::matmul::multiply_new;
use crate::cpu::panels::Panels;
use crate::cpu::view::View;
use candle_core::{Result, Tensor, bail};

/// The weight and bias of [`linear`](crate::linear) in the order in which products read them: for inference, where a weight
/// is used many times and, for the few rows of a decoding step, ordering it anew would cost more than the product.
/// Results are those of `linear`, to the bit. Records no graph.
#[derive(Clone, Debug)]
pub struct PackedLinear {
    weight: Packed,
    bias: Option<Vec<f32>>,
}

/// How the weights of an inference model are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As they are: results are exact.
    #[default]
    F32,
    /// Bytes with a scale for each output; the rows of x are quantized on the way. Everything but the products of linear
    /// layers stays f32.
    Int8,
}

#[derive(Clone, Debug)]
enum Packed {
    F32(Panels),
    Int8(Int8Panels),
}

impl PackedLinear {
    /// Packs a copy of `weight` `[out, in]`, with `bias` `[out]`.
    ///
    /// # Errors
    /// When the shapes do not fit, or the tensors are not f32 on the CPU.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, precision: Precision) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        if let Some(bias) = bias.filter(|bias| bias.dims() != [outputs]) {
            bail!("linear: bias {:?} does not fit weight {:?}", bias.dims(), weight.dims());
        }
        let weight = with_values("linear", [&weight.contiguous()?], |[weight]| match precision {
            Precision::F32 => {
                let mut panels = Panels::default();
                panels.pack_parallel(View::dense(weight, outputs, inputs).transposed());
                Packed::F32(panels)
            }
            Precision::Int8 => Packed::Int8(Int8Panels::quantize(weight, outputs, inputs)),
        })?;
        Ok(Self { weight, bias: bias.map(Tensor::to_vec1).transpose()? })
    }

    /// `[out, in]`.
    fn dims(&self) -> [usize; 2] {
        match &self.weight {
            Packed::F32(panels) => [panels.columns(), panels.depth()],
            Packed::Int8(panels) => [panels.columns(), panels.depth()],
        }
    }

    /// `x weight^T + bias`: `x` `[.., in]`; the result is `[.., out]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, inputs) = as_rows("linear", x)?;
        let [outputs, columns] = self.dims();
        if inputs != columns {
            bail!("linear: x {:?} does not fit weight [{outputs}, {columns}]", x.dims());
        }
        let product = with_values("linear", [&x.contiguous()?], |[x]| {
            let x = View::dense(x, rows, inputs);
            match &self.weight {
                Packed::F32(panels) => multiply_new(x, panels, self.bias.as_deref()),
                Packed::Int8(panels) => int8::multiply(x, panels, self.bias.as_deref()),
            }
        })?;
        let mut dims = x.dims().to_vec();
        dims.splice(dims.len() - 1.., [outputs]);
        tensor(product, dims)
    }
}
