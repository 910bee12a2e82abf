//! [`fold_heads`], [`project_heads`] and [`head_projection_backward`].

use super::{compute, refuse_shared, tensor, update};
use crate::cpu::heads::{Sizes, add_bias_gradient, add_weight_gradient, fold, project};
#[cfg(gpu)]
use crate::cuda;
use crate::ops::linear::AffineSums;
use candle_core::{DType, Result, Tensor, bail};

/// A projection to heads, of which head h is `scale [W_h | b_h]`, `[D, d + 1]`: the last column is the bias. For few rows.
#[derive(Clone, Copy, Debug)]
pub struct HeadProjection<'a> {
    /// `[H D, d]`, in f32.
    pub weight: &'a Tensor,
    /// `[H D]`, in f32.
    pub bias: &'a Tensor,
    /// H.
    pub heads: usize,
    /// A factor of all.
    pub scale: f32,
}

/// Each head's transposed: `x` `[G, H D]` to `[G, H, d + 1]`, in f32, `scale [W_h | b_h]^T x_h`. With queries x and the projection of
/// keys, its product with `[k_j | 1]` is the score of query and projected key. Records no graph: its backward is [`project_heads`]
/// and [`head_projection_backward`]. On a GPU x may be in bf16.
///
/// # Errors
/// When shapes do not fit or a tensor is in a graph.
pub fn fold_heads(x: &Tensor, projection: HeadProjection<'_>) -> Result<Tensor> {
    let op = "fold_heads";
    let HeadProjection { weight, bias, heads, scale } = projection;
    let (rows, outputs) = x.dims2()?;
    let sizes = sizes(op, rows, projection)?;
    if outputs != heads * sizes.size {
        bail!("{op}: x {:?} does not fit weight {:?} of {heads} heads", x.dims(), weight.dims());
    }
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::fold_heads(x, projection);
    }
    let y = compute(op, [x, weight, bias], |[x, weight, bias]| fold(x, weight, bias, scale, sizes))?;
    tensor(y, (rows, heads, sizes.width + 1))
}

/// Each head: `y` `[G, H, d + 1]`, in f32, to `[G, H D]` in the type `dtype`, `scale [W_h | b_h] y_h`. Records no graph: its backward
/// is [`fold_heads`] and [`head_projection_backward`].
///
/// # Errors
/// As [`fold_heads`].
pub fn project_heads(y: &Tensor, projection: HeadProjection<'_>, dtype: DType) -> Result<Tensor> {
    let op = "project_heads";
    let HeadProjection { weight, bias, heads, scale } = projection;
    let (rows, y_heads, columns) = y.dims3()?;
    let sizes = sizes(op, rows, projection)?;
    if (y_heads, columns) != (heads, sizes.width + 1) {
        bail!("{op}: y {:?} does not fit weight {:?} of {heads} heads", y.dims(), weight.dims());
    }
    #[cfg(gpu)]
    if cuda::runs_on(y.device()) {
        return cuda::project_heads(y, projection, dtype);
    }
    if dtype != DType::F32 {
        bail!("{op}: the CPU computes in f32, not {dtype:?}");
    }
    let x = compute(op, [y, weight, bias], |[y, weight, bias]| project(y, weight, bias, scale, sizes))?;
    tensor(x, (rows, heads * sizes.size))
}

/// The parameters' part of the backward of both: adds the gradients of weight and bias, `scale x_h y_h^T`, to `sums`, given x and the
/// gradient y of what it was folded to, or y and the gradient x of its projection.
///
/// # Errors
/// As [`fold_heads`].
pub fn head_projection_backward(x: &Tensor, y: &Tensor, scale: f32, sums: &AffineSums) -> Result<()> {
    let op = "head_projection_backward";
    let ((rows, outputs), (y_rows, heads, columns)) = (x.dims2()?, y.dims3()?);
    let unlike = |sum: &Option<Tensor>, dims: &[usize]| sum.as_ref().is_some_and(|sum| sum.dims() != dims);
    let divides = heads > 0 && columns > 0 && outputs.is_multiple_of(heads) && rows == y_rows;
    if !divides || unlike(&sums.weight, &[outputs, columns - 1]) || unlike(&sums.bias, &[outputs]) {
        let [weight, bias] = [&sums.weight, &sums.bias].map(|sum| sum.as_ref().map(Tensor::dims));
        bail!("{op}: x {:?}, y {:?}, weight {weight:?} and bias {bias:?} do not fit", x.dims(), y.dims());
    }
    if sums.weight.is_none() && sums.bias.is_none() {
        return Ok(());
    }
    for sum in [&sums.weight, &sums.bias].into_iter().flatten() {
        refuse_shared(op, sum, &[x, y])?;
    }
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::head_projection_backward(x, y, scale, sums);
    }
    let sizes = Sizes { rows, heads, size: outputs / heads, width: columns - 1 };
    compute(op, [x, y], |[x, y]| {
        if let Some(weight) = &sums.weight {
            update(weight, |sum| add_weight_gradient(sum, x, y, scale, sizes))?;
        }
        sums.bias.as_ref().map_or(Ok(()), |bias| update(bias, |sum| add_bias_gradient(sum, x, y, scale, sizes)))
    })?
}

fn sizes(op: &str, rows: usize, projection: HeadProjection<'_>) -> Result<Sizes> {
    let HeadProjection { weight, bias, heads, .. } = projection;
    let (outputs, width) = weight.dims2()?;
    if heads == 0 || !outputs.is_multiple_of(heads) || bias.dims() != [outputs] {
        bail!("{op}: weight {:?} and bias {:?} are none of {heads} heads", weight.dims(), bias.dims());
    }
    Ok(Sizes { rows, heads, size: outputs / heads, width })
}
