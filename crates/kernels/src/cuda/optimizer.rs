//! Sums of squares, AdamW and copies in bf16, of all tensors of a list at once, by the kernels of `cuda/training/`.

use super::place::{self, address, address_mut, dense, room, stream};
use super::{check, ffi};
use crate::{AdamW, AdamWParameter};
use candle_core::{DType, Device, Result, Tensor, bail};
use std::ffi::c_int;
use std::ptr::null_mut;

/// Numbers of a chunk of a tensor: `CHUNK_VALUES` of `cuda/training/tensors.cuh`.
const CHUNK_VALUES: usize = 16_384;

/// Descriptions of tensors in the device's memory, and the chunks of these tensors; both are arrays of words.
struct List {
    tensors: Tensor,
    chunks: Tensor,
    chunk_count: c_int,
}

impl List {
    /// Of tensors of these lengths; nothing if they have no numbers.
    fn new<T: Copy>(described: &[T], lengths: impl Iterator<Item = usize>, device: &Device) -> Result<Option<Self>> {
        let of_tensor = |(tensor, length): (usize, usize)| {
            (0..length.div_ceil(CHUNK_VALUES))
                .map(move |index| ffi::Chunk { tensor: tensor as c_int, index: index as c_int })
        };
        let chunks: Vec<ffi::Chunk> = lengths.enumerate().flat_map(of_tensor).collect();
        if chunks.is_empty() {
            return Ok(None);
        }
        let (tensors, chunk_count) = (words(described, device)?, chunks.len() as c_int);
        Ok(Some(Self { tensors, chunks: words(&chunks, device)?, chunk_count }))
    }
}

/// Structs as words in the device's memory.
fn words<T: Copy>(items: &[T], device: &Device) -> Result<Tensor> {
    // SAFETY: the structs of `ffi` are C's, of whole words without gaps, and any bits are words.
    let words = unsafe { std::slice::from_raw_parts(items.as_ptr().cast::<u32>(), size_of_val(items) / 4) };
    place::words(words, device)
}

/// [`sum_of_squares`](crate::sum_of_squares) of tensors of one device: a list of two launches, and one number that comes back.
pub(crate) fn sum_of_squares(tensors: &[&Tensor]) -> Result<f64> {
    let op = "sum_of_squares";
    let Some(device) = tensors.first().map(|tensor| tensor.device()) else { return Ok(0.0) };
    let tensors = tensors.iter().map(|tensor| dense(op, &tensor.detach(), &[DType::F32]));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let described = tensors
        .iter()
        .map(|tensor| Ok(ffi::Values { first: address(tensor)?.cast(), count: tensor.elem_count() as i64 }));
    let lengths = tensors.iter().map(Tensor::elem_count);
    let Some(list) = List::new(&described.collect::<Result<Vec<_>>>()?, lengths, device)? else { return Ok(0.0) };
    let squares = room(list.chunk_count as usize, DType::F64, device)?;
    let total = room(1, DType::F64, device)?;
    // SAFETY: the list describes tensors that outlive the launches, `squares` has a number a chunk.
    check(op, unsafe {
        ffi::epitome_sum_of_squares(
            address(&list.tensors)?.cast(),
            address(&list.chunks)?.cast(),
            list.chunk_count,
            address_mut(&squares)?.cast(),
            address_mut(&total)?.cast(),
            stream(device)?,
        )
    })?;
    total.squeeze(0)?.to_scalar()
}

/// [`adamw_step`](crate::adamw_step) of parameters of one device, checked: one launch.
pub(crate) fn adamw_step(parameters: &[AdamWParameter<'_>], gradient_scale: f32, hyper: &AdamW) -> Result<()> {
    let op = "adamw_step";
    let Some(device) = parameters.first().map(|one| one.parameter.device()) else { return Ok(()) };
    let gradients = parameters.iter().map(|one| dense(op, &one.gradient.detach(), &[DType::F32]));
    let gradients = gradients.collect::<Result<Vec<_>>>()?;
    let described = parameters.iter().zip(&gradients).map(|(one, gradient)| trained(one, gradient, hyper));
    let lengths = parameters.iter().map(|one| one.parameter.elem_count());
    let Some(list) = List::new(&described.collect::<Result<Vec<_>>>()?, lengths, device)? else { return Ok(()) };
    let (tensors, chunks) = (address(&list.tensors)?.cast(), address(&list.chunks)?.cast());
    // SAFETY: the list describes tensors that outlive the launch.
    check(op, unsafe {
        ffi::epitome_adamw_step(tensors, chunks, list.chunk_count, &hyper.betas(), gradient_scale, stream(device)?)
    })
}

/// [`round_all`](crate::round_all) of tensors of one device, from f32 to bf16: one launch.
pub(crate) fn round_all(copies: &[[&Tensor; 2]]) -> Result<()> {
    let op = "round_all";
    let Some(device) = copies.first().map(|[from, _]| from.device()) else { return Ok(()) };
    let described = copies.iter().map(|[from, to]| {
        if (from.dtype(), to.dtype()) != (DType::F32, DType::BF16) {
            bail!("{op}: from {:?} to {:?}, not from f32 to bf16", from.dtype(), to.dtype());
        }
        Ok(ffi::Rounded { from: address(from)?.cast(), to: address_mut(to)?, count: from.elem_count() as i64 })
    });
    let lengths = copies.iter().map(|[from, _]| from.elem_count());
    let Some(list) = List::new(&described.collect::<Result<Vec<_>>>()?, lengths, device)? else { return Ok(()) };
    let (tensors, chunks) = (address(&list.tensors)?.cast(), address(&list.chunks)?.cast());
    // SAFETY: the list describes tensors that outlive the launch.
    check(op, unsafe { ffi::epitome_round_all(tensors, chunks, list.chunk_count, stream(device)?) })
}

/// A parameter as kernels see it, with its gradient dense.
fn trained(one: &AdamWParameter<'_>, gradient: &Tensor, hyper: &AdamW) -> Result<ffi::Trained> {
    if let Some(other) = [one.parameter, one.moments].iter().find(|tensor| tensor.dtype() != DType::F32) {
        bail!("adamw_step: a parameter or its moments of shape {:?} are {:?}, not f32", other.dims(), other.dtype());
    }
    if let Some(copy) = one.copy.filter(|copy| copy.dtype() != DType::BF16) {
        bail!("adamw_step: a copy of shape {:?} is {:?}, not bf16", copy.dims(), copy.dtype());
    }
    let (count, moments) = (one.parameter.elem_count(), address_mut(one.moments)?.cast::<f32>());
    Ok(ffi::Trained {
        parameter: address_mut(one.parameter)?.cast(),
        mean: moments,
        square: moments.wrapping_add(count),
        gradient: address(gradient)?.cast(),
        copy: one.copy.map_or(Ok(null_mut()), address_mut)?,
        count: count as i64,
        update: one.update(hyper),
    })
}
