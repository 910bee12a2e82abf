//! [`head_linear`].

use super::{cpu_values, output, tensor, with_values};
use crate::cpu::head_linear::{Product, forward, input_gradient, weight_gradient};
#[cfg(gpu)]
use crate::cuda;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// A product of each head's own: `x` `[G, H, in]` with `weight` `[H, in, out]` to `[G, H, out]`, or with `weight`
/// `[H, out, in]` transposed when `transposed`. Differentiable in both; a row of the result depends on that row of x alone,
/// on the CPU to the bit.
///
/// # Errors
/// When the shapes do not fit.
pub fn head_linear(x: &Tensor, weight: &Tensor, transposed: bool) -> Result<Tensor> {
    let (rows, heads, inputs) = x.dims3()?;
    let (weight_heads, first, second) = weight.dims3()?;
    let (depth, outputs) = if transposed { (second, first) } else { (first, second) };
    if weight_heads != heads || depth != inputs {
        bail!("head_linear: x {:?} does not fit weight {:?} (transposed: {transposed})", x.dims(), weight.dims());
    }
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        let weight = weight.contiguous()?;
        let weight = if transposed { weight.transpose(1, 2)? } else { weight };
        return x.transpose(0, 1)?.contiguous()?.matmul(&weight)?.transpose(0, 1)?.contiguous();
    }
    let op = HeadLinear(Product { rows, heads, inputs, outputs, transposed });
    x.contiguous()?.apply_op2(&weight.contiguous()?, op)
}

struct HeadLinear(Product);

impl CustomOp2 for HeadLinear {
    fn name(&self) -> &'static str {
        "head_linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, weight: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (cpu_values(self.name(), x, lx)?, cpu_values(self.name(), weight, lw)?);
        Ok(output(forward(x, weight, self.0), (self.0.rows, self.0.heads, self.0.outputs)))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (dx, dw) = with_values(self.name(), [x, weight, &dy], |[x_values, weight_values, dy]| {
            (
                x.track_op().then(|| input_gradient(dy, weight_values, self.0)),
                weight.track_op().then(|| weight_gradient(x_values, dy, self.0)),
            )
        })?;
        let dx = dx.map(|dx| tensor(dx, x.shape())).transpose()?;
        let dw = dw.map(|dw| tensor(dw, weight.shape())).transpose()?;
        Ok((dx, dw))
    }
}
