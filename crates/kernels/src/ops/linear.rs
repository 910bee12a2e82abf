//! [`linear`], and its backward: gradients of parameters are added in place to running sums, those of the input are returned or
//! added to what is there.

use super::{as_rows, compute, refuse_shared, tensor, update};
use crate::cpu::linear::{Sizes, add, forward, input_gradient, sum_rows};
use crate::cpu::matmul::matmul_add;
use crate::cpu::view::View;
#[cfg(gpu)]
use crate::cuda;
use candle_core::{Result, Tensor, bail};

/// `x weight^T + bias`: `x` `[.., in]`, `weight` `[out, in]`, `bias` `[out]`; the result is `[.., out]`. Records no graph:
/// [`linear_backward`] is its backward for the parameters, [`linear_input_gradient`] or [`add_linear_input_gradient`] for x.
///
/// # Errors
/// When the shapes do not fit or a tensor is in a graph.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let op = "linear";
    let (rows, inputs) = as_rows(op, x)?;
    let outputs = match weight.dims() {
        &[outputs, columns] if columns == inputs => outputs,
        dims => bail!("{op}: x {:?} does not fit weight {dims:?}, which must be [out, in]", x.dims()),
    };
    if let Some(bias) = bias.filter(|bias| bias.dims() != [outputs]) {
        bail!("{op}: bias {:?} does not fit weight {:?}", bias.dims(), weight.dims());
    }
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::linear(x, weight, bias);
    }
    let sizes = Sizes { rows, inputs, outputs };
    let y = match bias {
        Some(bias) => compute(op, [x, weight, bias], |[x, weight, bias]| forward(x, weight, Some(bias), sizes))?,
        None => compute(op, [x, weight], |[x, weight]| forward(x, weight, None, sizes))?,
    };
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    tensor(y, shape)
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

/// The biases' part alone, of several layers: adds the sum of the rows of each first tensor, dy `[T, out]`, to the second, `[out]`. On
/// a GPU neighbours of one shape cost little more than one.
///
/// # Errors
/// When the shapes do not fit, or a dy is in a graph.
pub fn bias_backward(all: &[(&Tensor, &Tensor)]) -> Result<()> {
    let op = "bias_backward";
    for (dy, sum) in all {
        if dy.dims2()?.1 != sum.elem_count() || sum.rank() != 1 {
            bail!("{op}: dy {:?} and bias {:?} do not fit", dy.dims(), sum.dims());
        }
        refuse_shared(op, sum, &[*dy])?;
    }
    #[cfg(gpu)]
    if all.first().is_some_and(|(dy, _)| cuda::runs_on(dy.device())) {
        return cuda::column_sums(all);
    }
    all.iter().try_for_each(|(dy, sum)| add_row_sum(op, dy, sum))
}

/// Adds the sum of the rows of dy to `sum`.
pub(super) fn add_row_sum(op: &'static str, dy: &Tensor, sum: &Tensor) -> Result<()> {
    compute(op, [dy], |[dy]| update(sum, |sum| add(sum, &sum_rows(dy, sum.len()))))?
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
