//! [`linear`], and its backward outside the graph: gradients of parameters are added in place to running sums, those of
//! the input are returned or added to what is there.

use super::{as_rows, compute, cpu_values, output, refuse_shared, tensor, update, with_values};
use crate::cpu::linear::{Sizes, add, forward, input_gradient, sum_rows, weight_gradient};
use crate::cpu::matmul::matmul_add;
use crate::cpu::view::View;
#[cfg(gpu)]
use crate::cuda;
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
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::linear(x, weight, bias);
    }
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

/// Running sums of the gradients of a weight and a bias, of their shapes; none of what is not trained.
#[derive(Clone, Debug, Default)]
pub struct AffineSums {
    /// Of the weight.
    pub weight: Option<Tensor>,
    /// Of the bias.
    pub bias: Option<Tensor>,
}

/// The parameters' part of the backward of [`linear`] with a bias: adds `dy^T x` and the sum of `dy`'s rows to `sums`.
/// `x` `[T, in]`, `dy` `[T, out]`.
///
/// # Errors
/// When the shapes do not fit, or `x` or `dy` is in a graph.
pub fn linear_backward(x: &Tensor, dy: &Tensor, sums: &AffineSums) -> Result<()> {
    let ((rows, inputs), (count, outputs)) = (x.dims2()?, dy.dims2()?);
    let unlike = |sum: &Option<Tensor>, dims: &[usize]| sum.as_ref().is_some_and(|sum| sum.dims() != dims);
    if rows != count || unlike(&sums.weight, &[outputs, inputs]) || unlike(&sums.bias, &[outputs]) {
        let [weight, bias] = [&sums.weight, &sums.bias].map(|sum| sum.as_ref().map(Tensor::dims));
        let (x, dy) = (x.dims(), dy.dims());
        bail!("linear_backward: x {x:?}, dy {dy:?}, weight {weight:?} and bias {bias:?} do not fit");
    }
    for sum in [&sums.weight, &sums.bias].into_iter().flatten() {
        refuse_shared("linear_backward", sum, &[x, dy])?;
    }
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::parameter_gradients(x, dy, sums);
    }
    compute("linear_backward", [x, dy], |[x, dy]| {
        if let Some(weight) = &sums.weight {
            let transposed = View::dense(dy, rows, outputs).transposed();
            update(weight, |sum| matmul_add(sum, transposed, View::dense(x, rows, inputs)))?;
        }
        sums.bias.as_ref().map_or(Ok(()), |bias| update(bias, |sum| add(sum, &sum_rows(dy, outputs))))
    })?
}

/// The input's part, `dy weight` `[T, in]`: `dy` `[T, out]`, `weight` `[out, in]`.
///
/// # Errors
/// When the shapes do not fit or a tensor is in a graph.
pub fn linear_input_gradient(dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let op = "linear_input_gradient";
    let sizes = backward_sizes(op, dy, weight)?;
    #[cfg(gpu)]
    if cuda::runs_on(dy.device()) {
        return cuda::input_gradient(dy, weight);
    }
    let dx = compute(op, [dy, weight], |[dy, weight]| input_gradient(dy, weight, sizes))?;
    tensor(dx, (sizes.rows, sizes.inputs))
}

/// The same, added in place: `dx += dy weight`, `dx` `[T, in]`.
///
/// # Errors
/// When the shapes do not fit, or `dy` or `weight` is in a graph.
pub fn add_linear_input_gradient(dx: &Tensor, dy: &Tensor, weight: &Tensor) -> Result<()> {
    let op = "add_linear_input_gradient";
    let Sizes { rows, inputs, outputs } = backward_sizes(op, dy, weight)?;
    if dx.dims() != [rows, inputs] {
        bail!("{op}: dx {:?} does not fit [{rows}, {inputs}]", dx.dims());
    }
    refuse_shared(op, dx, &[dy, weight])?;
    #[cfg(gpu)]
    if cuda::runs_on(dy.device()) {
        return cuda::add_input_gradient(dx, dy, weight);
    }
    compute(op, [dy, weight], |[dy, weight]| {
        let (dy, weight) = (View::dense(dy, rows, outputs), View::dense(weight, outputs, inputs));
        update(dx, |dx| matmul_add(dx, dy, weight))
    })?
}

fn backward_sizes(op: &str, dy: &Tensor, weight: &Tensor) -> Result<Sizes> {
    let ((rows, outputs), (columns, inputs)) = (dy.dims2()?, weight.dims2()?);
    if outputs != columns {
        bail!("{op}: dy {:?} does not fit weight {:?}", dy.dims(), weight.dims());
    }
    Ok(Sizes { rows, inputs, outputs })
}
