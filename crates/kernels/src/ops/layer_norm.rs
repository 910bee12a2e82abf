//! [`layer_norm`] and [`add_layer_norm`], and their backwards.

use super::linear::{AffineSums, add_row_sum};
use super::{as_rows, compute, require_columns, tensor, update};
use crate::cpu::layer_norm::{Inputs, backward, forward};
use crate::cpu::linear::add;
#[cfg(gpu)]
use crate::cuda;
use crate::{Dropout, dropout_part};
use candle_core::{Result, Tensor, bail};

/// What the end of a sublayer normalises: `dropout(x) + residual`, of one shape `[.., d]`.
#[derive(Clone, Copy, Debug)]
pub struct ResidualSum<'a> {
    /// The sublayer's output.
    pub x: &'a Tensor,
    /// Its input.
    pub residual: &'a Tensor,
    /// Of x.
    pub dropout: Option<Dropout>,
    /// Element i of x has index `first + i` there.
    pub first: u64,
}

/// The parameters of a layer norm.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// `[d]`, in f32.
    pub weight: &'a Tensor,
    /// `[d]`, in f32.
    pub bias: &'a Tensor,
    /// What is added to the variance.
    pub eps: f64,
}

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

/// [`layer_norm`] of a sum, without storing it. Records no graph: [`add_layer_norm_backward`] is its backward.
///
/// # Errors
/// When the shapes do not fit or a tensor is in a graph.
pub fn add_layer_norm(sum: ResidualSum<'_>, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let op = "add_layer_norm";
    sum.check(op, weight, bias)?;
    #[cfg(gpu)]
    if cuda::runs_on(sum.x.device()) {
        return cuda::layer_norm(&gpu_inputs(sum.x, Some(sum), weight, eps), bias);
    }
    let x = sum.dropped()?;
    let y = compute(op, [&x, sum.residual, weight, bias], |[x, residual, weight, bias]| {
        forward(Inputs { x, residual: Some(residual), weight }, bias, eps as f32)
    })?;
    tensor(y, x.shape())
}

/// The backward of [`layer_norm`], given `dy` of the shape of `x`: returns the gradient of `x`, and adds those of weight and bias
/// to `sums`.
///
/// # Errors
/// When the shapes do not fit, or a tensor but those of `sums` is in a graph.
pub fn layer_norm_backward(x: &Tensor, weight: &Tensor, dy: &Tensor, eps: f64, sums: &AffineSums) -> Result<Tensor> {
    let op = "layer_norm_backward";
    check_backward(op, x, weight, dy, sums)?;
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        let [dx, _] = gpu_backward(&gpu_inputs(x, None, weight, eps), dy, sums, None)?;
        return Ok(dx);
    }
    let gradients =
        compute(op, [x, weight, dy], |[x, weight, dy]| backward(Inputs { x, residual: None, weight }, dy, eps as f32))?;
    add_sums(sums, &gradients.weight, &gradients.bias)?;
    tensor(gradients.x, x.shape())
}

/// The backward of [`add_layer_norm`], given `dy` of the shape of `x`: returns the gradients of the residual and of `x`, which may
/// be one tensor without dropout, and adds those of weight and bias to `sums`. To `x_sum` `[d]`, if there is one, the sum of the
/// rows of the gradient of `x` is added: that of the bias of the layer that `x` comes from.
///
/// # Errors
/// As [`layer_norm_backward`].
pub fn add_layer_norm_backward(
    sum: ResidualSum<'_>,
    weight: &Tensor,
    dy: &Tensor,
    eps: f64,
    sums: &AffineSums,
    x_sum: Option<&Tensor>,
) -> Result<[Tensor; 2]> {
    let op = "add_layer_norm_backward";
    sum.check(op, weight, x_sum.unwrap_or(weight))?;
    check_backward(op, sum.x, weight, dy, sums)?;
    #[cfg(gpu)]
    if cuda::runs_on(sum.x.device()) {
        return gpu_backward(&gpu_inputs(sum.x, Some(sum), weight, eps), dy, sums, x_sum);
    }
    let x = sum.dropped()?;
    let gradients = compute(op, [&x, sum.residual, weight, dy], |[x, residual, weight, dy]| {
        backward(Inputs { x, residual: Some(residual), weight }, dy, eps as f32)
    })?;
    add_sums(sums, &gradients.weight, &gradients.bias)?;
    let gradient = tensor(gradients.x, x.shape())?;
    let dx = dropout_part(&gradient, sum.dropout, sum.first)?;
    x_sum.map_or(Ok(()), |x_sum| add_row_sum(op, &dx, x_sum))?;
    Ok([gradient, dx])
}

impl ResidualSum<'_> {
    pub(crate) fn check(&self, op: &str, weight: &Tensor, bias: &Tensor) -> Result<()> {
        check(op, self.x, weight, bias)?;
        super::check_dropout(op, self.dropout)?;
        if self.x.dims() != self.residual.dims() {
            bail!("{op}: residual {:?} does not fit x {:?}", self.residual.dims(), self.x.dims());
        }
        Ok(())
    }

    fn dropped(&self) -> Result<Tensor> {
        dropout_part(self.x, self.dropout, self.first)
    }
}

fn add_sums(sums: &AffineSums, weight: &[f32], bias: &[f32]) -> Result<()> {
    for (sum, gradient) in [(&sums.weight, weight), (&sums.bias, bias)] {
        if let Some(sum) = sum {
            update(sum, |sum| add(sum, gradient))?;
        }
    }
    Ok(())
}

#[cfg(gpu)]
fn gpu_inputs<'a>(x: &'a Tensor, sum: Option<ResidualSum<'a>>, weight: &'a Tensor, eps: f64) -> cuda::NormInputs<'a> {
    let (residual, dropout) = (sum.map(|sum| sum.residual), sum.and_then(|sum| crate::random::active(sum.dropout)));
    cuda::NormInputs { x, residual, weight, dropout, first: sum.map_or(0, |sum| sum.first), eps: eps as f32 }
}

/// What is not trained gets a sum that nobody reads.
#[cfg(gpu)]
fn gpu_backward(
    inputs: &cuda::NormInputs<'_>,
    dy: &Tensor,
    sums: &AffineSums,
    x_sum: Option<&Tensor>,
) -> Result<[Tensor; 2]> {
    let sum = |sum: &Option<Tensor>| sum.as_ref().map_or_else(|| inputs.weight.zeros_like(), |sum| Ok(sum.detach()));
    let sums = [sum(&sums.weight)?, sum(&sums.bias)?];
    cuda::layer_norm_backward(inputs, dy, sums.each_ref(), x_sum)
}

fn check_backward(op: &str, x: &Tensor, weight: &Tensor, dy: &Tensor, sums: &AffineSums) -> Result<()> {
    check(op, x, weight, weight)?;
    check(op, x, sums.weight.as_ref().unwrap_or(weight), sums.bias.as_ref().unwrap_or(weight))?;
    if dy.dims() != x.dims() {
        bail!("{op}: dy {:?} does not fit x {:?}", dy.dims(), x.dims());
    }
    Ok(())
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
