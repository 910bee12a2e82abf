//! Losses and optimizer by the kernels of `cuda/training/`.

use super::buffer::{Buffer, address_of, buffer_of};
use super::element::{Element, of_type};
use super::{check, ffi};
use crate::AdamW;
use candle_core::{Result, bail};
use half::bf16;
use std::ffi::c_int;
use std::ptr::null_mut;

/// Numbers of a chunk of a tensor: `CHUNK_VALUES` of `cuda/training/tensors.cuh`.
const CHUNK_VALUES: usize = 16_384;

/// The losses of rows of logits.
pub struct RowLosses {
    /// -log p(target); 0 without one.
    pub nll: Vec<f32>,
    /// Mean over the vocabulary of -log p.
    pub uniform: Vec<f32>,
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
/// `gradient`, the logits become its gradient.
///
/// # Errors
/// When shapes do not fit, a target is not below `vocabulary`, or a launch fails.
pub fn cross_entropy<T: Element>(
    logits: &mut [T],
    (stride, vocabulary): (usize, usize),
    bias: Option<&[f32]>,
    targets: &[i32],
    gradient: Option<LossGradient>,
) -> Result<RowLosses> {
    let rows = targets.len();
    let fits = logits.len() == rows * stride && vocabulary <= stride && vocabulary > 0;
    if !fits || bias.is_some_and(|bias| bias.len() != vocabulary) {
        bail!("cross_entropy: {} logits for {rows} rows of {vocabulary} in {stride}", logits.len());
    }
    if let Some(target) = targets.iter().find(|target| **target >= vocabulary as i32) {
        bail!("cross_entropy: target {target} is not in a vocabulary of {vocabulary}");
    }
    let (nll, uniform) = (Buffer::<f32>::room(rows)?, Buffer::<f32>::room(rows)?);
    let (own, targets, bias) = (Buffer::of(logits)?, Buffer::of(targets)?, buffer_of(bias)?);
    let LossGradient { scale, smoothing } = gradient.unwrap_or(LossGradient { scale: 0.0, smoothing: 0.0 });
    let launch = of_type::<T, ffi::CrossEntropy>(ffi::epitome_cross_entropy_f32, ffi::epitome_cross_entropy_bf16);
    // SAFETY: the slices have the shapes that rows, stride and vocabulary say.
    check("cross_entropy", unsafe {
        launch(
            own.any(),
            address_of(&bias),
            targets.pointer(),
            rows as i64,
            stride as i64,
            vocabulary as c_int,
            c_int::from(gradient.is_some()),
            smoothing,
            scale,
            nll.pointer(),
            uniform.pointer(),
            null_mut(),
        )
    })?;
    logits.copy_from_slice(&own.to_vec()?);
    Ok(RowLosses { nll: nll.to_vec()?, uniform: uniform.to_vec()? })
}

/// A parameter, its moments and gradient, all of one length, and its copy in bf16, or an empty one.
pub struct Trained<'a> {
    /// Master weights.
    pub parameter: &'a mut [f32],
    /// First moment.
    pub mean: &'a mut [f32],
    /// Second moment.
    pub square: &'a mut [f32],
    /// Gradient.
    pub gradient: &'a [f32],
    /// What products read.
    pub copy: &'a mut [bf16],
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// The buffers of one parameter: itself, its moments and gradient, and its copy.
struct Tensor {
    parameter: Buffer<f32>,
    mean: Buffer<f32>,
    square: Buffer<f32>,
    gradient: Buffer<f32>,
    copy: Option<Buffer<bf16>>,
}

impl Tensor {
    fn of(one: &Trained<'_>) -> Result<Self> {
        let count = one.parameter.len();
        let copied = one.copy.is_empty() || one.copy.len() == count;
        if [one.mean.len(), one.square.len(), one.gradient.len()] != [count; 3] || !copied {
            bail!("adamw_step: a tensor of {count} numbers has moments, gradient or copy of others");
        }
        Ok(Self {
            parameter: Buffer::of(one.parameter)?,
            mean: Buffer::of(one.mean)?,
            square: Buffer::of(one.square)?,
            gradient: Buffer::of(one.gradient)?,
            copy: (!one.copy.is_empty()).then(|| Buffer::room(count)).transpose()?,
        })
    }

    /// As kernels see it.
    fn described(&self, one: &Trained<'_>, first_correction: f64) -> ffi::Trained {
        ffi::Trained {
            parameter: self.parameter.pointer(),
            mean: self.mean.pointer(),
            square: self.square.pointer(),
            gradient: self.gradient.pointer(),
            copy: address_of(&self.copy).cast(),
            count: one.parameter.len() as i64,
            decay: (1.0 - one.learning_rate * one.weight_decay) as f32,
            step_size: (one.learning_rate / first_correction) as f32,
        }
    }

    fn read(&self, one: &mut Trained<'_>) -> Result<()> {
        one.parameter.copy_from_slice(&self.parameter.to_vec()?);
        one.mean.copy_from_slice(&self.mean.to_vec()?);
        one.square.copy_from_slice(&self.square.to_vec()?);
        if let Some(copy) = &self.copy {
            one.copy.copy_from_slice(&copy.to_vec()?);
        }
        Ok(())
    }
}

/// The chunks of tensors of these lengths.
fn chunks_of(lengths: impl Iterator<Item = usize>) -> Vec<ffi::Chunk> {
    let chunks = |(tensor, count): (usize, usize)| {
        (0..count.div_ceil(CHUNK_VALUES))
            .map(move |index| ffi::Chunk { tensor: tensor as c_int, index: index as c_int })
    };
    lengths.enumerate().flat_map(chunks).collect()
}

/// One AdamW step on all parameters, after clipping by their global norm, which is returned: gradients are multiplied by
/// `factor`, and where `factor` times their norm is above `max_norm` (unless that is 0) scaled down to it. Of `hyper`, learning
/// rate and decay are the tensors' own.
///
/// # Errors
/// When lengths do not fit, or a launch fails.
pub fn clipped_adamw_step(trained: &mut [Trained<'_>], factor: f32, max_norm: f32, hyper: &AdamW) -> Result<f32> {
    let AdamW { beta1, beta2, epsilon, step, .. } = *hyper;
    let buffers = trained.iter().map(Tensor::of).collect::<Result<Vec<Tensor>>>()?;
    let first_correction = 1.0 - beta1.powf(step as f64);
    let described: Vec<ffi::Trained> =
        buffers.iter().zip(trained.iter()).map(|(buffers, one)| buffers.described(one, first_correction)).collect();
    let chunks = chunks_of(trained.iter().map(|one| one.parameter.len()));
    let count = chunks.len() as c_int;
    let squares = Buffer::<f64>::room(chunks.len())?;
    let (tensors, chunks) = (Buffer::of(&described)?, Buffer::of(&chunks)?);
    let (norm, gradient_scale) = (Buffer::<f32>::room(1)?, Buffer::<f32>::room(1)?);
    let adamw = ffi::AdamW {
        rest1: (1.0 - beta1) as f32,
        beta2: beta2 as f32,
        rest2: (1.0 - beta2) as f32,
        correction: (1.0 - beta2.powf(step as f64)).sqrt() as f32,
        epsilon: epsilon as f32,
    };
    // SAFETY: the list describes buffers that outlive the calls.
    let codes = unsafe {
        [
            ffi::epitome_global_norm(
                tensors.pointer(),
                chunks.pointer(),
                count,
                factor,
                max_norm,
                squares.pointer(),
                norm.pointer(),
                gradient_scale.pointer(),
                null_mut(),
            ),
            ffi::epitome_adamw_step(
                tensors.pointer(),
                chunks.pointer(),
                count,
                &adamw,
                gradient_scale.pointer(),
                null_mut(),
            ),
        ]
    };
    codes.into_iter().try_for_each(|code| check("adamw_step", code))?;
    buffers.iter().zip(trained).try_for_each(|(buffers, one)| buffers.read(one))?;
    Ok(norm.to_vec()?[0])
}
