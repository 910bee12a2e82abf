//! [`gelu`], [`dropout`], [`pull_back`], and the updates in place of gradient accumulators.

use super::{compute, cpu_values, cpu_values_mut, output, refuse_tracked, tensor, with_values};
use crate::Dropout;
use crate::cpu::elementwise as kernel;
#[cfg(gpu)]
use crate::cuda;
use crate::random::{Mask, active};
use candle_core::{CpuStorage, CustomOp1, InplaceOp1, InplaceOp2, Layout, Result, Shape, Tensor, bail};

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
        return cuda::bias_gelu_backward(x, None, dy, None);
    }
    tensor(compute("gelu_backward", [x, dy], |[x, dy]| kernel::gelu_backward(x, dy))?, x.shape())
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

/// A scalar (on the CPU 0.0) whose backward hands `gradient`, of the shape of `x`, to `x`: how the backward of a part of a network
/// is started from the gradient of its output, without computing the sum of their products.
///
/// # Errors
/// When the shapes differ.
pub fn pull_back(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    if x.dims() != gradient.dims() {
        bail!("pull_back: gradient {:?} does not fit x {:?}", gradient.dims(), x.dims());
    }
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return x.mul(&gradient.detach().to_dtype(x.dtype())?)?.sum_all();
    }
    x.apply_op1(PullBack(gradient.detach()))
}

struct PullBack(Tensor);

impl CustomOp1 for PullBack {
    fn name(&self) -> &'static str {
        "pull_back"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(output(vec![0.0], ()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let factor = gradient.to_scalar::<f32>()?;
        if factor == 1.0 { Ok(Some(self.0.clone())) } else { self.0.affine(f64::from(factor), 0.0).map(Some) }
    }
}

/// `accumulator += gradient`, in place and outside the graph.
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

/// `average += weight (values - average)`, in place and outside the graph: a step of an exponential moving average whose
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

/// `t *= factor`, in place and outside the graph.
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
