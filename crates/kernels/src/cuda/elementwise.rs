//! Dropout, conversions and updates in place by the kernels of `cuda/rows/elementwise.cu`.

use super::element::{FLOATS, of_type};
use super::place::{address, address_mut, dense, room, stream};
use super::{check, ffi};
use crate::Dropout;
use candle_core::{DType, Result, Tensor, bail};
use std::ptr::null;

/// [`dropout_part`](crate::dropout_part): element i of x has index `first + i`.
///
/// # Errors
/// When the type does not fit, or a launch fails.
pub fn dropout_part(x: &Tensor, dropout: Option<Dropout>, first: u64) -> Result<Tensor> {
    let op = "dropout";
    let x = dense(op, x, &FLOATS)?;
    let y = room(x.shape(), x.dtype(), x.device())?;
    let [f32, bf16]: [ffi::ApplyDropout; 2] = [ffi::epitome_dropout_f32, ffi::epitome_dropout_bf16];
    let launch = of_type(op, x.dtype(), f32, bf16)?;
    let (count, to, stream) = (x.elem_count() as i64, address_mut(&y)?, stream(x.device())?);
    // SAFETY: both tensors have as many numbers.
    check(op, unsafe { launch(address(&x)?, to, dropout.into(), first, count, stream) })?;
    Ok(y)
}

/// `sum = keep * sum + factor * x`, in place, of one shape; without x the last part is nothing. Of f32 and f32, bf16 and bf16,
/// or f32 and bf16.
///
/// # Errors
/// When shapes or types do not fit, or a launch fails.
pub fn blend(sum: &Tensor, x: Option<&Tensor>, keep: f32, factor: f32) -> Result<()> {
    let op = "blend";
    if let Some(x) = x.filter(|x| x.dims() != sum.dims()) {
        bail!("{op}: {:?} into {:?}", x.dims(), sum.dims());
    }
    let x = x.map(|x| dense(op, x, &FLOATS)).transpose()?;
    let launch: ffi::Blend = match (sum.dtype(), x.as_ref().map_or(sum.dtype(), Tensor::dtype)) {
        (DType::F32, DType::F32) => ffi::epitome_blend_f32,
        (DType::BF16, DType::BF16) => ffi::epitome_blend_bf16,
        (DType::F32, DType::BF16) => ffi::epitome_blend_f32_bf16,
        (own, other) => bail!("{op}: {other:?} into {own:?}"),
    };
    let (from, count) = (x.as_ref().map_or(Ok(null()), address)?, sum.elem_count() as i64);
    // SAFETY: both tensors have as many numbers.
    check(op, unsafe { launch(address_mut(sum)?, from, keep, factor, count, stream(sum.device())?) })
}

/// f32 rounded to bf16.
///
/// # Errors
/// When the type does not fit, or a launch fails.
pub fn round_to_bf16(x: &Tensor) -> Result<Tensor> {
    let op = "round_to_bf16";
    let x = dense(op, x, &[DType::F32])?;
    let y = room(x.shape(), DType::BF16, x.device())?;
    let (count, to, stream) = (x.elem_count() as i64, address_mut(&y)?, stream(x.device())?);
    // SAFETY: both tensors have as many numbers.
    check(op, unsafe { ffi::epitome_round_to_bf16(address(&x)?.cast(), to, count, stream) })?;
    Ok(y)
}

/// bf16 as f32.
///
/// # Errors
/// When the type does not fit, or a launch fails.
pub fn widen_to_f32(x: &Tensor) -> Result<Tensor> {
    let op = "widen_to_f32";
    let x = dense(op, x, &[DType::BF16])?;
    let y = room(x.shape(), DType::F32, x.device())?;
    let (count, to, stream) = (x.elem_count() as i64, address_mut(&y)?.cast(), stream(x.device())?);
    // SAFETY: both tensors have as many numbers.
    check(op, unsafe { ffi::epitome_widen_to_f32(address(&x)?, to, count, stream) })?;
    Ok(y)
}
