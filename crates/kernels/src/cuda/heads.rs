//! Projections to heads by the kernels of `cuda/rows/heads.cu`.

use super::element::{FLOATS, of_type};
use super::place::{address, address_mut, dense, room, stream};
use super::{check, ffi};
use crate::{AffineSums, HeadProjection};
use candle_core::{DType, Result, Tensor, bail};
use std::ffi::c_int;
use std::ptr::null_mut;

/// Heads, their size, and the width of the other side.
fn sizes(op: &str, projection: HeadProjection<'_>) -> Result<([c_int; 3], [Tensor; 2])> {
    let HeadProjection { weight, bias, heads, .. } = projection;
    let (outputs, width) = weight.dims2()?;
    let parameters = [dense(op, weight, &[DType::F32])?, dense(op, bias, &[DType::F32])?];
    Ok(([heads, outputs / heads, width].map(|size| size as c_int), parameters))
}

/// [`fold_heads`](crate::fold_heads), checked.
///
/// # Errors
/// When a type does not fit or the launch fails.
pub fn fold_heads(x: &Tensor, projection: HeadProjection<'_>) -> Result<Tensor> {
    let op = "fold_heads";
    let x = dense(op, x, &FLOATS)?;
    let ([heads, size, width], [weight, bias]) = sizes(op, projection)?;
    let rows = x.dim(0)?;
    let y = room((rows, projection.heads, width as usize + 1), DType::F32, x.device())?;
    let [f32, bf16]: [ffi::FoldHeads; 2] = [ffi::epitome_fold_heads_f32, ffi::epitome_fold_heads_bf16];
    let launch = of_type(op, x.dtype(), f32, bf16)?;
    let (weight, bias) = (address(&weight)?.cast(), address(&bias)?.cast());
    let (from, to, stream) = (address(&x)?, address_mut(&y)?.cast(), stream(x.device())?);
    // SAFETY: the tensors have the shapes that the sizes say.
    check(op, unsafe { launch(rows as c_int, heads, size, width, from, weight, bias, projection.scale, to, stream) })?;
    Ok(y)
}

/// [`project_heads`](crate::project_heads), checked.
///
/// # Errors
/// As [`fold_heads`].
pub fn project_heads(y: &Tensor, projection: HeadProjection<'_>, dtype: DType) -> Result<Tensor> {
    let op = "project_heads";
    let y = dense(op, y, &[DType::F32])?;
    let ([heads, size, width], [weight, bias]) = sizes(op, projection)?;
    let rows = y.dim(0)?;
    let x = room((rows, (heads * size) as usize), dtype, y.device())?;
    let [f32, bf16]: [ffi::ProjectHeads; 2] = [ffi::epitome_project_heads_f32, ffi::epitome_project_heads_bf16];
    let launch = of_type(op, dtype, f32, bf16)?;
    let (weight, bias) = (address(&weight)?.cast(), address(&bias)?.cast());
    let (from, to, stream) = (address(&y)?.cast(), address_mut(&x)?, stream(y.device())?);
    // SAFETY: as in `fold_heads`.
    check(op, unsafe { launch(rows as c_int, heads, size, width, from, weight, bias, projection.scale, to, stream) })?;
    Ok(x)
}

/// [`head_projection_backward`](crate::head_projection_backward), checked.
///
/// # Errors
/// As [`fold_heads`].
pub fn head_projection_backward(x: &Tensor, y: &Tensor, scale: f32, sums: &AffineSums) -> Result<()> {
    let op = "head_projection_backward";
    let (x, y) = (dense(op, x, &FLOATS)?, dense(op, y, &[DType::F32])?);
    let (rows, heads, columns) = y.dims3()?;
    let sum = |sum: &Option<Tensor>| match sum {
        Some(sum) if sum.dtype() != DType::F32 => bail!("{op}: a sum in {:?}, not f32", sum.dtype()),
        Some(sum) => Ok(address_mut(sum)?.cast()),
        None => Ok(null_mut()),
    };
    let [f32, bf16]: [ffi::AddHeadGradients; 2] =
        [ffi::epitome_add_head_gradients_f32, ffi::epitome_add_head_gradients_bf16];
    let launch = of_type(op, x.dtype(), f32, bf16)?;
    let [rows, heads, size, width] = [rows, heads, x.dim(1)? / heads, columns - 1].map(|size| size as c_int);
    let (from, other, stream) = (address(&x)?, address(&y)?.cast(), stream(x.device())?);
    let (weight, bias) = (sum(&sums.weight)?, sum(&sums.bias)?);
    // SAFETY: as in `fold_heads`; a sum that is missing is not written.
    check(op, unsafe { launch(rows, heads, size, width, from, other, scale, weight, bias, stream) })
}
