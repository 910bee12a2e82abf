//! [`gelu`], [`dropout`], and the updates in place of gradient accumulators.

use super::linear::add_row_sum;
use super::{compute, cpu_values, cpu_values_mut, refuse_tracked, tensor, with_values};
use crate::Dropout;
use crate::cpu::elementwise as kernel;
#[cfg(gpu)]
use crate::cuda;
use crate::random::{Mask, active};
use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result, Tensor, bail};

/// GELU in its exact form, `x / 2 (1 + erf(x / sqrt 2))`, of any shape. Records no graph: [`gelu_backward`] is its
/// backward.
///
/// # Errors
/// When `x` is in a graph, or not an f32 tensor on the CPU.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::bias_gelu(x, None);
    }
    tensor(compute("gelu", [x], |[x]| kernel::gelu(x))?, x.shape())
}

/// The backward of [`gelu`]: the gradient of `x`, given `dy`, that of the result, of the same shape.
///
/// # Errors
/// When the shapes differ or a tensor is in a graph.
pub fn gelu_backward(x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    if x.dims() != dy.dims() {
        bail!("gelu_backward: dy {:?} does not fit x {:?}", dy.dims(), x.dims());
    }
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::bias_gelu_backward(x, None, dy, None, None);
    }
    tensor(compute("gelu_backward", [x, dy], |[x, dy]| kernel::gelu_backward(x, dy))?, x.shape())
}

/// [`gelu_backward`] of rows `x` `[T, d]`, and [`gelu`] of them, if `again`, which on a GPU is one pass. Adds the sum of the gradient's
/// rows to `x_sum` `[d]`, if there is one: that of the bias of the layer that `x` comes from.
///
/// # Errors
/// As [`gelu_backward`], and when `x_sum` does not fit.
pub fn gelu_rows_backward(
    x: &Tensor,
    dy: &Tensor,
    x_sum: Option<&Tensor>,
    again: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let op = "gelu_rows_backward";
    let (_, width) = x.dims2()?;
    if let Some(sum) = x_sum.filter(|sum| sum.dims() != [width]) {
        bail!("{op}: sum {:?} does not fit x {:?}", sum.dims(), x.dims());
    }
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        let y = again.then(|| cuda::room(x.shape(), x.dtype(), x.device())).transpose()?;
        return Ok((cuda::bias_gelu_backward(x, None, dy, x_sum, y.as_ref())?, y));
    }
    let dx = gelu_backward(x, dy)?;
    x_sum.map_or(Ok(()), |sum| add_row_sum(op, &dx, sum))?;
    Ok((dx, again.then(|| gelu(x)).transpose()?))
}

/// `x` with every element multiplied by `dropout.factor(its index in x)`; `None` or probability 0 gives `x` itself.
/// Records no graph, and is its own backward: the gradient of `x` is `dropout` of the result's gradient, since the same
/// [`Dropout`] draws the same mask again.
///
/// # Errors
/// When the probability is not in `0.0..1.0`, or `x` is in a graph or not an f32 tensor on the CPU.
pub fn dropout(x: &Tensor, dropout: Option<Dropout>) -> Result<Tensor> {
    dropout_part(x, dropout, 0)
}

/// [`dropout`] of a part of a tensor: element i of `x` is element `first + i` of the whole. Its own backward, too.
///
/// # Errors
/// As [`dropout`].
pub fn dropout_part(x: &Tensor, dropout: Option<Dropout>, first: u64) -> Result<Tensor> {
    super::check_dropout("dropout", dropout)?;
    // Whether or not there is a mask: validation must not accept what training refuses.
    refuse_tracked("dropout", x)?;
    #[cfg(gpu)]
    if active(dropout).is_some() && cuda::runs_on(x.device()) {
        return cuda::dropout_part(x, dropout, first);
    }
    match active(dropout).map(Mask::new) {
        Some(mask) => tensor(compute("dropout", [x], |[x]| kernel::dropout(x, mask, first))?, x.shape()),
        None => Ok(x.clone()),
    }
}

/// `accumulator += gradient`, in place.
///
/// # Errors
/// When the shapes differ, or the accumulator is not contiguous.
pub fn add_assign(accumulator: &Tensor, gradient: &Tensor) -> Result<()> {
    if accumulator.dims() != gradient.dims() {
        bail!("add_assign: gradient {:?} does not fit {:?}", gradient.dims(), accumulator.dims());
    }
    #[cfg(gpu)]
    if cuda::runs_on(accumulator.device()) {
        return cuda::add_assign(accumulator, &gradient.detach());
    }
    accumulator.inplace_op2(&gradient.contiguous()?, &AddAssign)
}

struct AddAssign;

impl InplaceOp2 for AddAssign {
    fn name(&self) -> &'static str {
        "add_assign"
    }

    fn cpu_fwd(&self, sum: &mut CpuStorage, sum_layout: &Layout, x: &CpuStorage, layout: &Layout) -> Result<()> {
        let sum = cpu_values_mut(self.name(), sum, sum_layout)?;
        kernel::add_assign(sum, cpu_values(self.name(), x, layout)?);
        Ok(())
    }
}

/// `average += weight (values - average)`, in place: a step of an exponential moving average whose
/// decay is `1 - weight`.
///
/// # Errors
/// When the shapes differ, or the average is not contiguous.
pub fn lerp_assign(average: &Tensor, values: &Tensor, weight: f64) -> Result<()> {
    if average.dims() != values.dims() {
        bail!("lerp_assign: values {:?} do not fit {:?}", values.dims(), average.dims());
    }
    #[cfg(gpu)]
    if cuda::runs_on(average.device()) {
        return cuda::lerp_assign(average, &values.detach(), weight as f32);
    }
    average.inplace_op2(&values.contiguous()?, &LerpAssign(weight as f32))
}

struct LerpAssign(f32);

impl InplaceOp2 for LerpAssign {
    fn name(&self) -> &'static str {
        "lerp_assign"
    }

    fn cpu_fwd(&self, average: &mut CpuStorage, la: &Layout, values: &CpuStorage, lv: &Layout) -> Result<()> {
        let average = cpu_values_mut(self.name(), average, la)?;
        kernel::lerp_assign(average, cpu_values(self.name(), values, lv)?, self.0);
        Ok(())
    }
}

/// `t *= factor`, in place.
///
/// # Errors
/// When `t` is not a contiguous f32 tensor on the CPU.
pub fn scale_assign(t: &Tensor, factor: f32) -> Result<()> {
    t.inplace_op1(&ScaleAssign(factor))
}

struct ScaleAssign(f32);

impl InplaceOp1 for ScaleAssign {
    fn name(&self) -> &'static str {
        "scale_assign"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        kernel::scale_assign(cpu_values_mut(self.name(), storage, layout)?, self.0);
        Ok(())
    }
}

/// Writes each first tensor over the second, which has its shape, in place: on a GPU, on which all are, from f32 to bf16; on the CPU from
/// any type to any.
///
/// # Errors
/// When shapes differ or a type or device does not fit.
pub fn round_all(copies: &[[&Tensor; 2]]) -> Result<()> {
    for [from, to] in copies {
        if from.dims() != to.dims() {
            bail!("round_all: {:?} does not fit {:?}", from.dims(), to.dims());
        }
        if ![*from, to].iter().all(|tensor| tensor.device().same_device(copies[0][0].device())) {
            bail!("round_all: {:?} is on another device than others", from.dims());
        }
    }
    #[cfg(gpu)]
    if copies.first().is_some_and(|[from, _]| cuda::runs_on(from.device())) {
        return cuda::round_all(copies);
    }
    copies.iter().try_for_each(|[from, to]| to.slice_set(&from.detach().to_dtype(to.dtype())?.contiguous()?, 0, 0))
}

/// Sum of the squares of all elements of tensors of one device, in f64, always added in the same order.
///
/// # Errors
/// When one is not an f32 tensor.
pub fn sum_of_squares(tensors: &[&Tensor]) -> Result<f64> {
    #[cfg(gpu)]
    if tensors.first().is_some_and(|t| cuda::runs_on(t.device())) {
        return cuda::sum_of_squares(tensors);
    }
    tensors.iter().try_fold(0.0, |sum, t| {
        Ok(sum + with_values("sum_of_squares", [&t.contiguous()?], |[values]| kernel::sum_of_squares(values))?)
    })
}
