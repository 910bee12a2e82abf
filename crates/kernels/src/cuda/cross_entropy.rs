//! Cross-entropy of logits by the kernel of `cuda/training/`.

use super::element::of_type;
use super::place::{address, address_mut, dense, room, stream};
use super::{check, ffi};
use candle_core::{DType, Result, Tensor, bail};
use std::ffi::c_int;
use std::ptr::null;

/// The losses of rows of logits, each `[rows]` in f32.
pub struct RowLosses {
    /// -log p(target); 0 without one.
    pub nll: Tensor,
    /// Mean over the vocabulary of -log p.
    pub uniform: Tensor,
}

/// How a row's loss becomes the gradient of its logits.
#[derive(Clone, Copy)]
pub struct LossGradient {
    /// What the loss is multiplied by.
    pub scale: f32,
    /// Label smoothing.
    pub smoothing: f32,
}

/// Cross-entropy of logits `[rows, stride]`, of which the first `vocabulary` of each row count; targets below 0 mean none. With
/// `gradient`, the logits become its gradient, in place.
///
/// # Errors
/// When shapes or types do not fit, a target is not below `vocabulary`, or a launch fails.
pub fn cross_entropy(
    logits: &Tensor,
    vocabulary: usize,
    bias: Option<&Tensor>,
    targets: &[i32],
    gradient: Option<LossGradient>,
) -> Result<RowLosses> {
    let op = "cross_entropy";
    let ((rows, stride), device) = (logits.dims2()?, logits.device());
    let fits = targets.len() == rows && vocabulary <= stride && vocabulary > 0;
    if !fits || bias.is_some_and(|bias| bias.dims() != [vocabulary]) {
        bail!("{op}: logits {:?} for {} rows of {vocabulary}", logits.dims(), targets.len());
    }
    if let Some(target) = targets.iter().find(|target| **target >= vocabulary as i32) {
        bail!("{op}: target {target} is not in a vocabulary of {vocabulary}");
    }
    let bias = bias.map(|bias| dense(op, bias, &[DType::F32])).transpose()?;
    let (nll, uniform) = (room(rows, DType::F32, device)?, room(rows, DType::F32, device)?);
    let targets = Tensor::from_slice(targets, rows, device)?;
    let LossGradient { scale, smoothing } = gradient.unwrap_or(LossGradient { scale: 0.0, smoothing: 0.0 });
    let [f32, bf16]: [ffi::CrossEntropy; 2] = [ffi::epitome_cross_entropy_f32, ffi::epitome_cross_entropy_bf16];
    let launch = of_type(op, logits.dtype(), f32, bf16)?;
    // SAFETY: the tensors have the shapes that rows, stride and vocabulary say.
    check(op, unsafe {
        launch(
            address_mut(logits)?,
            bias.as_ref().map_or(Ok(null()), address)?.cast(),
            address(&targets)?.cast(),
            rows as i64,
            stride as i64,
            vocabulary as c_int,
            c_int::from(gradient.is_some()),
            smoothing,
            scale,
            address_mut(&nll)?.cast(),
            address_mut(&uniform)?.cast(),
            stream(device)?,
        )
    })?;
    Ok(RowLosses { nll, uniform })
}
