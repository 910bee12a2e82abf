//! Dropout and updates in place by the kernels of `cuda/rows/elementwise.cu`.

use super::element::{FLOATS, of_type};
use super::place::{address, address_mut, dense, room, stream};
use super::{check, ffi};
use crate::Dropout;
use candle_core::{DType, Result, Tensor, bail};

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

/// `sum += x` in place, of one shape: of f32 and f32, bf16 and bf16, or f32 and bf16.
///
/// # Errors
/// When shapes or types do not fit, or a launch fails.
pub fn add_assign(sum: &Tensor, x: &Tensor) -> Result<()> {
    add("add_assign", sum, x, [1.0, 0.0])
}

/// `average += weight (x - average)` in place, otherwise as [`add_assign`].
///
/// # Errors
/// As [`add_assign`].
pub fn lerp_assign(average: &Tensor, x: &Tensor, weight: f32) -> Result<()> {
    add("lerp_assign", average, x, [weight, 1.0])
}

fn add(op: &str, sum: &Tensor, x: &Tensor, [factor, pull]: [f32; 2]) -> Result<()> {
    if x.dims() != sum.dims() {
        bail!("{op}: {:?} into {:?}", x.dims(), sum.dims());
    }
    let x = dense(op, x, &FLOATS)?;
    let launch: ffi::Add = match (sum.dtype(), x.dtype()) {
        (DType::F32, DType::F32) => ffi::epitome_add_f32,
        (DType::BF16, DType::BF16) => ffi::epitome_add_bf16,
        (DType::F32, DType::BF16) => ffi::epitome_add_f32_bf16,
        (own, other) => bail!("{op}: {other:?} into {own:?}"),
    };
    let (from, count) = (address(&x)?, sum.elem_count() as i64);
    // SAFETY: both tensors have as many numbers.
    check(op, unsafe { launch(address_mut(sum)?, from, factor, pull, count, stream(sum.device())?) })
}
