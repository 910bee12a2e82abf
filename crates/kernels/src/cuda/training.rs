//! Losses and optimizer by the kernels of `cuda/training/`.

use super::check;
use super::element::of_type;
use super::ffi::{self, Stream};
use super::place::{address, address_mut, dense, room, stream};
use crate::AdamW;
use candle_core::{DType, Device, Result, Tensor, bail};
use std::ffi::c_int;
use std::ptr::{null, null_mut};

/// Numbers of a chunk of a tensor: `CHUNK_VALUES` of `cuda/training/tensors.cuh`.
const CHUNK_VALUES: usize = 16_384;

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

/// A parameter, its moments and gradient, all of one shape in f32, and its copy in bf16, if it has one.
pub struct Trained<'a> {
    /// Master weights.
    pub parameter: &'a Tensor,
    /// First moment.
    pub mean: &'a Tensor,
    /// Second moment.
    pub square: &'a Tensor,
    /// Gradient.
    pub gradient: &'a Tensor,
    /// What products read.
    pub copy: Option<&'a Tensor>,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Trained<'_> {
    /// As kernels see it, with its gradient dense.
    fn described(&self, gradient: &Tensor, first_correction: f64) -> Result<ffi::Trained> {
        let all = [self.parameter, self.mean, self.square, self.gradient];
        let fit = |tensor: &Tensor, dtype| tensor.dims() == self.parameter.dims() && tensor.dtype() == dtype;
        if !all.iter().all(|one| fit(one, DType::F32)) || !self.copy.is_none_or(|copy| fit(copy, DType::BF16)) {
            bail!("adamw_step: a parameter {:?} has moments, gradient or copy of others", self.parameter.dims());
        }
        Ok(ffi::Trained {
            parameter: address_mut(self.parameter)?.cast(),
            mean: address_mut(self.mean)?.cast(),
            square: address_mut(self.square)?.cast(),
            gradient: address(gradient)?.cast(),
            copy: self.copy.map_or(Ok(null_mut()), address_mut)?,
            count: self.parameter.elem_count() as i64,
            decay: (1.0 - self.learning_rate * self.weight_decay) as f32,
            step_size: (self.learning_rate / first_correction) as f32,
        })
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

/// A list of structs as words in the device's memory.
fn list_of<T: Copy>(items: &[T], device: &Device) -> Result<Tensor> {
    // SAFETY: the structs of `ffi` are C's, of whole words without gaps, and any bits are words.
    let words = unsafe { std::slice::from_raw_parts(items.as_ptr().cast::<u32>(), size_of_val(items) / 4) };
    Tensor::from_slice(words, words.len(), device)
}

/// Tensors in the device's memory as kernels see them.
struct List {
    tensors: Tensor,
    chunks: Tensor,
    count: usize,
    stream: Stream,
}

impl List {
    fn new(described: &[ffi::Trained], device: &Device) -> Result<Self> {
        let chunks = chunks_of(described.iter().map(|one| one.count as usize));
        let (tensors, count) = (list_of(described, device)?, chunks.len());
        Ok(Self { tensors, chunks: list_of(&chunks, device)?, count, stream: stream(device)? })
    }

    /// `factor` times the norm of all gradients, and what they are multiplied by so that this stays within `max_norm`, both `[1]`.
    fn norm(&self, factor: f32, max_norm: f32) -> Result<[Tensor; 2]> {
        let device = self.tensors.device();
        // Numbers of f64, each in the room of two of f32.
        let squares = room(2 * self.count, DType::F32, device)?;
        let (norm, scale) = (room(1, DType::F32, device)?, room(1, DType::F32, device)?);
        let (tensors, chunks) = (address(&self.tensors)?.cast(), address(&self.chunks)?.cast());
        let squares = address_mut(&squares)?.cast();
        let [to, scale_to]: [*mut f32; 2] = [address_mut(&norm)?.cast(), address_mut(&scale)?.cast()];
        let count = self.count as c_int;
        // SAFETY: the list describes tensors that outlive the launch.
        check("global_norm", unsafe {
            ffi::epitome_global_norm(tensors, chunks, count, factor, max_norm, squares, to, scale_to, self.stream)
        })?;
        Ok([norm, scale])
    }

    fn step(&self, hyper: &AdamW, gradient_scale: &Tensor) -> Result<()> {
        let AdamW { beta1, beta2, epsilon, step, .. } = *hyper;
        let adamw = ffi::AdamW {
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            correction: (1.0 - beta2.powf(step as f64)).sqrt() as f32,
            epsilon: epsilon as f32,
        };
        let (tensors, chunks) = (address(&self.tensors)?.cast(), address(&self.chunks)?.cast());
        let (scale, count) = (address(gradient_scale)?.cast(), self.count as c_int);
        // SAFETY: the list describes tensors that outlive the launch.
        check("adamw_step", unsafe { ffi::epitome_adamw_step(tensors, chunks, count, &adamw, scale, self.stream) })
    }
}

/// One AdamW step on all parameters, after clipping by their global norm, which is returned, `[1]`: gradients are multiplied by
/// `factor`, and where `factor` times their norm is above `max_norm` (unless that is 0) scaled down to it. Of `hyper`, learning
/// rate and decay are the tensors' own.
///
/// # Errors
/// When there is no parameter, shapes or types do not fit, or a launch fails.
pub fn clipped_adamw_step(trained: &[Trained<'_>], factor: f32, max_norm: f32, hyper: &AdamW) -> Result<Tensor> {
    let Some(device) = trained.first().map(|one| one.parameter.device()) else { bail!("adamw_step: no parameter") };
    let first_correction = 1.0 - hyper.beta1.powf(hyper.step as f64);
    let dense_gradient = |one: &Trained<'_>| dense("adamw_step", one.gradient, &[DType::F32]);
    let gradients = trained.iter().map(dense_gradient).collect::<Result<Vec<_>>>()?;
    let both = trained.iter().zip(&gradients);
    let described = both.map(|(one, gradient)| one.described(gradient, first_correction));
    let list = List::new(&described.collect::<Result<Vec<_>>>()?, device)?;
    let [norm, gradient_scale] = list.norm(factor, max_norm)?;
    list.step(hyper, &gradient_scale)?;
    Ok(norm)
}

/// The root of the sum of the squares of all elements, in f32.
///
/// # Errors
/// When the type does not fit, or a launch fails.
pub fn norm(t: &Tensor) -> Result<f32> {
    let t = dense("norm", t, &[DType::F32])?;
    let one = ffi::Trained {
        parameter: null_mut(),
        mean: null_mut(),
        square: null_mut(),
        gradient: address(&t)?.cast(),
        copy: null_mut(),
        count: t.elem_count() as i64,
        decay: 1.0,
        step_size: 0.0,
    };
    let [norm, _] = List::new(&[one], t.device())?.norm(1.0, 0.0)?;
    norm.squeeze(0)?.to_scalar()
}
