//! [`layer_norm`] and [`add_layer_norm`].

use super::{as_rows, cpu_values, output, require_columns, saved, tensor, with_values};
use crate::cpu::layer_norm::{Gradients, Inputs, Moments, backward, forward};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use std::sync::OnceLock;

/// `(x - mean) / sqrt(variance + eps) * weight + bias` over the last dimension d of `x` `[.., d]`; `weight` and `bias`
/// `[d]`. Differentiable in all three.
///
/// # Errors
/// When the shapes do not fit.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    check(x, weight, bias)?;
    let op = LayerNorm { eps, moments: OnceLock::new() };
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)
}

/// [`layer_norm`] of `x + residual`, without storing the sum. Differentiable in all four.
///
/// # Errors
/// When the shapes do not fit.
pub fn add_layer_norm(x: &Tensor, residual: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    check(x, weight, bias)?;
    if x.dims() != residual.dims() {
        bail!("add_layer_norm: residual {:?} does not fit x {:?}", residual.dims(), x.dims());
    }
    // A custom op has three inputs at most: weight and bias travel as one, [2, d].
    let affine = Tensor::stack(&[weight, bias], 0)?;
    let op = AddLayerNorm { eps, moments: OnceLock::new() };
    x.contiguous()?.apply_op3(&residual.contiguous()?, &affine, op)
}

fn check(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<()> {
    let (_, width) = as_rows("layer_norm", x)?;
    require_columns("layer_norm", x, width)?;
    if weight.dims() != [width] || bias.dims() != [width] {
        bail!("layer_norm: weight {:?} and bias {:?} do not fit x {:?}", weight.dims(), bias.dims(), x.dims());
    }
    Ok(())
}

struct LayerNorm {
    eps: f64,
    moments: OnceLock<Vec<Moments>>,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        weight: &CpuStorage,
        lw: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (cpu_values(self.name(), x, lx)?, cpu_values(self.name(), weight, lw)?);
        let bias = cpu_values(self.name(), bias, lb)?;
        let (y, moments) = forward(Inputs { x, residual: None, weight }, bias, self.eps as f32);
        self.moments.get_or_init(|| moments);
        Ok(output(y, lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let moments = saved(self.name(), &self.moments)?;
        let gradients = with_values(self.name(), [x, weight, &dy.contiguous()?], |[x, weight, dy]| {
            backward(Inputs { x, residual: None, weight }, moments, dy)
        })?;
        let Gradients { x: dx, weight: dw, bias: db } = gradients;
        Ok((Some(tensor(dx, x.shape())?), Some(tensor(dw, weight.shape())?), Some(tensor(db, bias.shape())?)))
    }
}

struct AddLayerNorm {
    eps: f64,
    moments: OnceLock<Vec<Moments>>,
}

impl CustomOp3 for AddLayerNorm {
    fn name(&self) -> &'static str {
        "add_layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        residual: &CpuStorage,
        lr: &Layout,
        affine: &CpuStorage,
        la: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, residual) = (cpu_values(self.name(), x, lx)?, cpu_values(self.name(), residual, lr)?);
        let affine = cpu_values(self.name(), affine, la)?;
        let (weight, bias) = affine.split_at(affine.len() / 2);
        let (y, moments) = forward(Inputs { x, residual: Some(residual), weight }, bias, self.eps as f32);
        self.moments.get_or_init(|| moments);
        Ok(output(y, lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        residual: &Tensor,
        affine: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let moments = saved(self.name(), &self.moments)?;
        let inputs = [x, residual, affine, &dy.contiguous()?];
        let gradients = with_values(self.name(), inputs, |[x, residual, affine, dy]| {
            let weight = &affine[..affine.len() / 2];
            backward(Inputs { x, residual: Some(residual), weight }, moments, dy)
        })?;
        let Gradients { x: dx, weight: mut affine_gradient, bias: db } = gradients;
        affine_gradient.extend(db);
        let dx = tensor(dx, x.shape())?;
        Ok((Some(dx.clone()), Some(dx), Some(tensor(affine_gradient, affine.shape())?)))
    }
}
