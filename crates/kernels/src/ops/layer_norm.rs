//! [`layer_norm`], [`add_layer_norm`] and [`layer_norm_backward`].

use super::linear::AffineSums;
use super::{as_rows, compute, require_columns, tensor, update};
use crate::cpu::layer_norm::{Inputs, backward, forward};
use crate::cpu::linear::add;
#[cfg(gpu)]
use crate::cuda;
use candle_core::{Result, Tensor, bail};

/// `(x - mean) / sqrt(variance + eps) * weight + bias` over the last dimension d of `x` `[.., d]`; `weight` and `bias`
/// `[d]`. Records no graph: [`layer_norm_backward`] is its backward.
///
/// # Errors
/// When the shapes do not fit or a tensor is in a graph.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    check("layer_norm", x, weight, bias)?;
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::layer_norm(&gpu_inputs(x, None, weight, eps), bias);
    }
    let y = compute("layer_norm", [x, weight, bias], |[x, weight, bias]| {
        forward(Inputs { x, residual: None, weight }, bias, eps as f32)
    })?;
    tensor(y, x.shape())
}

/// [`layer_norm`] of `x + residual`, without storing the sum. Records no graph: [`layer_norm_backward`] is its backward.
///
/// # Errors
/// When the shapes do not fit or a tensor is in a graph.
pub fn add_layer_norm(x: &Tensor, residual: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    check("add_layer_norm", x, weight, bias)?;
    if x.dims() != residual.dims() {
        bail!("add_layer_norm: residual {:?} does not fit x {:?}", residual.dims(), x.dims());
    }
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::layer_norm(&gpu_inputs(x, Some(residual), weight, eps), bias);
    }
    let y = compute("add_layer_norm", [x, residual, weight, bias], |[x, residual, weight, bias]| {
        forward(Inputs { x, residual: Some(residual), weight }, bias, eps as f32)
    })?;
    tensor(y, x.shape())
}

/// The backward of [`add_layer_norm`], or of [`layer_norm`] without a residual, given `dy` of the shape of `x`: returns the
/// gradient of `x`, which is the residual's too, and adds those of weight and bias to `sums`.
///
/// # Errors
/// When the shapes do not fit, or a tensor but those of `sums` is in a graph.
pub fn layer_norm_backward(
    x: &Tensor,
    residual: Option<&Tensor>,
    weight: &Tensor,
    dy: &Tensor,
    eps: f64,
    sums: &AffineSums,
) -> Result<Tensor> {
    let op = "layer_norm_backward";
    check(op, x, weight, weight)?;
    check(op, x, sums.weight.as_ref().unwrap_or(weight), sums.bias.as_ref().unwrap_or(weight))?;
    if dy.dims() != x.dims() || residual.is_some_and(|residual| residual.dims() != x.dims()) {
        let residual = residual.map(Tensor::dims);
        bail!("{op}: dy {:?} and residual {residual:?} do not fit x {:?}", dy.dims(), x.dims());
    }
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        // What is not trained gets a sum that nobody reads.
        let sum = |sum: &Option<Tensor>| sum.as_ref().map_or_else(|| weight.zeros_like(), |sum| Ok(sum.detach()));
        let sums = [sum(&sums.weight)?, sum(&sums.bias)?];
        let [dx, _] = cuda::layer_norm_backward(&gpu_inputs(x, residual, weight, eps), dy, sums.each_ref())?;
        return Ok(dx);
    }
    let gradients = match residual {
        Some(residual) => compute(op, [x, residual, weight, dy], |[x, residual, weight, dy]| {
            backward(Inputs { x, residual: Some(residual), weight }, dy, eps as f32)
        }),
        None => compute(op, [x, weight, dy], |[x, weight, dy]| {
            backward(Inputs { x, residual: None, weight }, dy, eps as f32)
        }),
    }?;
    for (sum, gradient) in [(&sums.weight, &gradients.weight), (&sums.bias, &gradients.bias)] {
        if let Some(sum) = sum {
            update(sum, |sum| add(sum, gradient))?;
        }
    }
    tensor(gradients.x, x.shape())
}

#[cfg(gpu)]
fn gpu_inputs<'a>(x: &'a Tensor, residual: Option<&'a Tensor>, weight: &'a Tensor, eps: f64) -> cuda::NormInputs<'a> {
    cuda::NormInputs { x, residual, weight, dropout: None, eps: eps as f32 }
}

/// Checks that weight and bias, or the sums of their gradients, are a row of x long.
fn check(op: &str, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<()> {
    let (_, width) = as_rows(op, x)?;
    require_columns(op, x, width)?;
    if weight.dims() != [width] || bias.dims() != [width] {
        bail!("{op}: weight {:?} and bias {:?} do not fit x {:?}", weight.dims(), bias.dims(), x.dims());
    }
    Ok(())
}
