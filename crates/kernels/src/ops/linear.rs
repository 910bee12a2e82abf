//! [`linear`].

use super::{as_rows, cpu_values, output, tensor, with_values};
use crate::cpu::linear::{Sizes, forward, input_gradient, sum_rows, weight_gradient};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// `x weight^T + bias`: `x` `[.., in]`, `weight` `[out, in]`, `bias` `[out]`; the result is `[.., out]`. Differentiable
/// in all of them; gradients that nothing asks for are not computed.
///
/// # Errors
/// When the shapes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (rows, inputs) = as_rows("linear", x)?;
    let outputs = match weight.dims() {
        &[outputs, columns] if columns == inputs => outputs,
        dims => bail!("linear: x {:?} does not fit weight {dims:?}, which must be [out, in]", x.dims()),
    };
    let op = Linear { sizes: Sizes { rows, inputs, outputs } };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) if bias.dims() != [outputs] => {
            bail!("linear: bias {:?} does not fit weight {:?}", bias.dims(), weight.dims())
        }
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
        None => x.apply_op2(&weight, op),
    }
}

struct Linear {
    sizes: Sizes,
}

impl Linear {
    fn shape(&self, x: &Layout) -> Shape {
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.sizes.outputs;
        }
        Shape::from(dims)
    }

    /// The gradients of x and weight, each only when tracked.
    fn gradients(&self, x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let sizes = self.sizes;
        let (dx, dw) = with_values("linear", [x, weight, dy], |[x_values, weight_values, dy]| {
            (
                x.track_op().then(|| input_gradient(dy, weight_values, sizes)),
                weight.track_op().then(|| weight_gradient(x_values, dy, sizes)),
            )
        })?;
        let dx = dx.map(|dx| tensor(dx, x.shape())).transpose()?;
        let dw = dw.map(|dw| tensor(dw, weight.shape())).transpose()?;
        Ok((dx, dw))
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, weight: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (cpu_values("linear", x, lx)?, cpu_values("linear", weight, lw)?);
        Ok(output(forward(x, weight, None, self.sizes), self.shape(lx)))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, weight, &dy.contiguous()?)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        let (x, weight) = (cpu_values("linear", x, lx)?, cpu_values("linear", weight, lw)?);
        let bias = cpu_values("linear", bias, lb)?;
        Ok(output(forward(x, weight, Some(bias), self.sizes), self.shape(lx)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (dx, dw) = self.gradients(x, weight, &dy)?;
        let db = if bias.track_op() {
            let db = with_values("linear", [&dy], |[dy]| sum_rows(dy, self.sizes.outputs))?;
            Some(tensor(db, bias.shape())?)
        } else {
            None
        };
        Ok((dx, dw, db))
    }
}
