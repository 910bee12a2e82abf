//! Backward passes outside the graph, for training that walks a network's layers itself: gradients of parameters are added
//! in place to running sums, those of activations are returned or added to what is there.

use super::{as_rows, tensor, update, with_values};
use crate::Attention;
use crate::cpu::attention::{self, Incoming, Problem};
use crate::cpu::layer_norm::{Inputs, moments};
use crate::cpu::linear::{Sizes, add, input_gradient, sum_rows};
use crate::cpu::matmul::matmul_add;
use crate::cpu::view::View;
use crate::cpu::{elementwise, layer_norm};
use candle_core::{Result, Tensor, bail};

/// Running sums of the gradients of a weight and a bias, of their shapes.
#[derive(Clone, Debug)]
pub struct AffineSums {
    /// Of the weight.
    pub weight: Tensor,
    /// Of the bias.
    pub bias: Tensor,
}

/// The parameters' part of the backward of [`linear`](crate::linear) with a bias: adds `dy^T x` and the sum of `dy`'s rows
/// to `sums`. `x` `[T, in]`, `dy` `[T, out]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn linear_backward(x: &Tensor, dy: &Tensor, sums: &AffineSums) -> Result<()> {
    let ((rows, inputs), (count, outputs)) = (x.dims2()?, dy.dims2()?);
    if rows != count || sums.weight.dims() != [outputs, inputs] || sums.bias.dims() != [outputs] {
        bail!("linear_backward: x {:?}, dy {:?} and weight {:?} do not fit", x.dims(), dy.dims(), sums.weight.dims());
    }
    with_values("linear_backward", [&x.contiguous()?, &dy.contiguous()?], |[x, dy]| {
        let transposed = View::dense(dy, rows, outputs).transposed();
        update(&sums.weight, |sum| matmul_add(sum, transposed, View::dense(x, rows, inputs)))?;
        update(&sums.bias, |sum| add(sum, &sum_rows(dy, outputs)))
    })?
}

/// The input's part, `dy weight` `[T, in]`: `dy` `[T, out]`, `weight` `[out, in]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn linear_input_gradient(dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let sizes = linear_sizes(dy, weight)?;
    let inputs = [&dy.contiguous()?, &weight.contiguous()?];
    let dx = with_values("linear_input_gradient", inputs, |[dy, weight]| input_gradient(dy, weight, sizes))?;
    tensor(dx, (sizes.rows, sizes.inputs))
}

/// `dx += dy weight`, in place.
///
/// # Errors
/// When the shapes do not fit.
pub fn add_linear_input_gradient(dx: &Tensor, dy: &Tensor, weight: &Tensor) -> Result<()> {
    let Sizes { rows, inputs, outputs } = linear_sizes(dy, weight)?;
    if dx.dims() != [rows, inputs] {
        bail!("add_linear_input_gradient: dx {:?} does not fit [{rows}, {inputs}]", dx.dims());
    }
    with_values("add_linear_input_gradient", [&dy.contiguous()?, &weight.contiguous()?], |[dy, weight]| {
        let (dy, weight) = (View::dense(dy, rows, outputs), View::dense(weight, outputs, inputs));
        update(dx, |dx| matmul_add(dx, dy, weight))
    })?
}

fn linear_sizes(dy: &Tensor, weight: &Tensor) -> Result<Sizes> {
    let ((rows, outputs), (columns, inputs)) = (dy.dims2()?, weight.dims2()?);
    if outputs != columns {
        bail!("linear_input_gradient: dy {:?} does not fit weight {:?}", dy.dims(), weight.dims());
    }
    Ok(Sizes { rows, inputs, outputs })
}

/// The backward of [`add_layer_norm`](crate::add_layer_norm), or of [`layer_norm`](crate::layer_norm) without a residual:
/// the gradient of `x`, which is the residual's too; adds those of weight and bias to `sums`.
///
/// # Errors
/// When the shapes do not fit.
pub fn layer_norm_backward(
    x: &Tensor,
    residual: Option<&Tensor>,
    weight: &Tensor,
    dy: &Tensor,
    eps: f64,
    sums: &AffineSums,
) -> Result<Tensor> {
    let (_, width) = as_rows("layer_norm_backward", x)?;
    let fits = residual.is_none_or(|residual| residual.dims() == x.dims()) && dy.dims() == x.dims();
    if !fits || [weight, &sums.weight, &sums.bias].iter().any(|tensor| tensor.dims() != [width]) || width == 0 {
        bail!("layer_norm_backward: x {:?}, dy {:?} and weight {:?} do not fit", x.dims(), dy.dims(), weight.dims());
    }
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let (x, weight, dy) = (x.contiguous()?, weight.contiguous()?, dy.contiguous()?);
    let backward = |inputs: Inputs<'_>, dy: &[f32]| layer_norm::backward(inputs, &moments(inputs, eps as f32), dy);
    let op = "layer_norm_backward";
    let gradients = match &residual {
        Some(residual) => with_values(op, [&x, residual, &weight, &dy], |[x, residual, weight, dy]| {
            backward(Inputs { x, residual: Some(residual), weight }, dy)
        }),
        None => {
            with_values(op, [&x, &weight, &dy], |[x, weight, dy]| backward(Inputs { x, residual: None, weight }, dy))
        }
    }?;
    update(&sums.weight, |sum| add(sum, &gradients.weight))?;
    update(&sums.bias, |sum| add(sum, &gradients.bias))?;
    tensor(gradients.x, x.shape())
}

/// The backward of [`gelu`](crate::gelu): the gradient of `x`, given that of the result.
///
/// # Errors
/// When the shapes differ.
pub fn gelu_backward(x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    if x.dims() != dy.dims() {
        bail!("gelu_backward: dy {:?} does not fit x {:?}", dy.dims(), x.dims());
    }
    let (x, dy) = (x.contiguous()?, dy.contiguous()?);
    let dx = with_values("gelu_backward", [&x, &dy], |[x, dy]| elementwise::gelu_backward(x, dy))?;
    tensor(dx, x.shape())
}

/// What [`attention_forward`] keeps for [`attention_backward`].
#[derive(Clone, Debug)]
pub struct Attended {
    /// The output, `[Tq, H, D]`.
    pub output: Tensor,
    /// Log-sum-exp of each head and query, `[H, Tq]`.
    log_sum_exp: Vec<f32>,
}

/// [`attention`](crate::attention) that keeps what its backward needs.
///
/// # Errors
/// As [`attention`](crate::attention).
pub fn attention_forward(q: &Tensor, k: &Tensor, v: &Tensor, spec: &Attention) -> Result<Attended> {
    let (heads, head_size) = super::attention::check(q, k, v, spec)?;
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    let (output, log_sum_exp) = with_values("attention_forward", [&q, &k, &v], |[q, k, v]| {
        attention::forward(&Problem { spec, q, k, v, heads, head_size })
    })?;
    Ok(Attended { output: tensor(output, q.shape())?, log_sum_exp })
}

/// Gradients of q, k and v, given that of the output, `dy` `[Tq, H, D]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn attention_backward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spec: &Attention,
    attended: &Attended,
    dy: &Tensor,
) -> Result<[Tensor; 3]> {
    let (heads, head_size) = super::attention::check(q, k, v, spec)?;
    let Attended { output, log_sum_exp } = attended;
    if output.dims() != q.dims() || dy.dims() != q.dims() {
        bail!("attention_backward: q {:?}, output {:?} and dy {:?} differ", q.dims(), output.dims(), dy.dims());
    }
    let inputs = [q, k, v, output, dy].map(Tensor::contiguous);
    let [q, k, v, output, dy] = inputs;
    let (q, k, v, output, dy) = (q?, k?, v?, output?, dy?);
    let gradients = with_values("attention_backward", [&q, &k, &v, &output, &dy], |[q, k, v, output, gradient]| {
        let problem = Problem { spec, q, k, v, heads, head_size };
        attention::backward(&problem, &Incoming { output, gradient, log_sum_exp })
    })?;
    Ok([tensor(gradients.q, q.shape())?, tensor(gradients.k, k.shape())?, tensor(gradients.v, v.shape())?])
}
