//! Adafactor by the kernels of `cuda/training/adafactor.cu`.

use super::place::{address, address_mut, dense, room, stream};
use super::{check, ffi};
use crate::Adafactor;
use candle_core::{DType, Result, Tensor, bail};
use std::ptr::null_mut;

/// Rows of a block: `WARPS` of `cuda/training/adafactor.cu`.
const BLOCK_ROWS: usize = 8;

/// Rows of a chunk of a column's sum: `CHUNK_ROWS` there.
const CHUNK_ROWS: usize = 64;

/// [`adafactor_step`](crate::adafactor_step), its shapes checked: up to seven launches, after which nothing comes back.
pub(crate) fn adafactor_step(
    parameter: &Tensor,
    moments: &Tensor,
    mean: Option<&Tensor>,
    gradient: &Tensor,
    gradient_scale: f32,
    hyper: &Adafactor,
) -> Result<()> {
    let op = "adafactor_step";
    if let Some(other) = [parameter, moments].into_iter().chain(mean).find(|tensor| tensor.dtype() != DType::F32) {
        bail!("{op}: a tensor of shape {:?} is {:?}, not f32", other.dims(), other.dtype());
    }
    let gradient = dense(op, &gradient.detach(), &[DType::F32])?;
    let (device, is_vector) = (parameter.device(), parameter.rank() == 1);
    let (rows, width) = if is_vector { (1, parameter.elem_count()) } else { parameter.dims2()? };
    let all_moments = address_mut(moments)?.cast::<f32>();
    let factored = ffi::Factored {
        parameter: address_mut(parameter)?.cast(),
        mean: mean.map_or(Ok(null_mut()), address_mut)?.cast(),
        row_moments: if is_vector { null_mut() } else { all_moments },
        column_moments: all_moments.wrapping_add(if is_vector { 0 } else { rows }),
        gradient: address(&gradient)?.cast(),
        rows: rows as i64,
        width: width as i64,
    };
    let partials = room(rows.div_ceil(CHUNK_ROWS) * width, DType::F32, device)?;
    let column_factors = room(width, DType::F32, device)?;
    let squares = room(2 * rows.div_ceil(BLOCK_ROWS), DType::F64, device)?;
    let sizes = room(3, DType::F32, device)?;
    let rooms = ffi::AdafactorRoom {
        partials: address_mut(&partials)?.cast(),
        column_factors: address_mut(&column_factors)?.cast(),
        squares: address_mut(&squares)?.cast(),
        sizes: address_mut(&sizes)?.cast(),
    };
    let adafactor = described(hyper, gradient_scale);
    // SAFETY: the tensors have the shapes that rows and width say, and outlive the launches.
    check(op, unsafe { ffi::epitome_adafactor_step(&factored, &adafactor, &rooms, stream(device)?) })
}

/// Settings as kernels see them; complements are taken in f64.
fn described(hyper: &Adafactor, gradient_scale: f32) -> ffi::Adafactor {
    let beta1 = hyper.beta1.unwrap_or(0.0);
    ffi::Adafactor {
        learning_rate: hyper.learning_rate as f32,
        least_scale: hyper.least_scale.map_or(-1.0, |least| least as f32),
        beta1: beta1 as f32,
        rest1: (1.0 - beta1) as f32,
        decay: hyper.decay as f32,
        rest: (1.0 - hyper.decay) as f32,
        epsilon: hyper.epsilon as f32,
        clip_threshold: hyper.clip_threshold as f32,
        weight_decay: hyper.weight_decay as f32,
        gradient_scale,
    }
}
