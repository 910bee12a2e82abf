//! The public operations. Each checks its shapes, makes its inputs contiguous and runs a kernel of [`crate::cpu`] on their
//! slices: through [`compute`], with a function of its own for its backward, or, where it changes a tensor in place, through
//! [`update`] or a candle in-place op.

pub(crate) mod adafactor;
pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod cross_entropy;
pub(crate) mod elementwise;
pub(crate) mod global_attention;
pub(crate) mod heads;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod memory;
pub(crate) mod packed;
pub(crate) mod past;
pub(crate) mod rows;
pub(crate) mod step;

use crate::Dropout;
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor, bail};
use std::cell::OnceCell;

/// The values of a contiguous f32 tensor, given what an in-place op is given.
fn cpu_values<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    #[cfg(feature = "cuda-emulation")]
    if crate::cuda::runs_on(&Device::Cpu) {
        bail!("{op} runs on the CPU only, but here the CPU stands for a GPU");
    }
    let CpuStorage::F32(values) = storage else {
        bail!("{op} computes in f32 only: convert the {:?} tensor with to_dtype(DType::F32)", storage_type(storage));
    };
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("{op} needs a contiguous tensor, not shape {:?} with strides {:?}", layout.shape(), layout.stride());
    };
    Ok(&values[start..end])
}

/// The same for changing them in place.
fn cpu_values_mut<'a>(op: &str, storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let range = {
        let values = cpu_values(op, storage, layout)?;
        layout.start_offset()..layout.start_offset() + values.len()
    };
    let CpuStorage::F32(values) = storage else { bail!("{op} computes in f32 only") };
    Ok(&mut values[range])
}

/// The values of a contiguous f32 tensor on the CPU whose storage is locked for reading.
fn values<'a>(op: &str, storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => cpu_values(op, storage, layout),
        _ => bail!("{op} runs on the CPU only: move the tensor with to_device(&Device::Cpu)"),
    }
}

fn storage_type(storage: &CpuStorage) -> candle_core::DType {
    candle_core::backend::BackendStorage::dtype(storage)
}

/// Runs `body` on the values of contiguous tensors.
fn with_values<const N: usize, R>(op: &str, tensors: [&Tensor; N], body: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let locked = tensors.map(Tensor::storage_and_layout);
    let mut slices: [&[f32]; N] = [&[]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&locked) {
        *slice = values(op, storage, layout)?;
    }
    Ok(body(slices))
}

/// Runs `body` on the values of the inputs of an operation that records no graph.
fn compute<const N: usize, R>(op: &str, inputs: [&Tensor; N], body: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let mut contiguous = Vec::with_capacity(N);
    for input in inputs {
        refuse_tracked(op, input)?;
        contiguous.push(input.contiguous()?);
    }
    with_values(op, std::array::from_fn(|i| &contiguous[i]), body)
}

/// An operation that records no graph would silently end the gradient of a tensor that is a variable or depends on one.
pub(crate) fn refuse_tracked(op: &str, input: &Tensor) -> Result<()> {
    if input.track_op() {
        bail!("{op} records no graph, but its input of shape {:?} is in one: pass detach() of it", input.dims());
    }
    Ok(())
}

/// An update in place waits for whoever reads the storage, so it must not be given a tensor that its own inputs share.
fn refuse_shared(op: &str, target: &Tensor, inputs: &[&Tensor]) -> Result<()> {
    let (own, _) = target.storage_and_layout();
    for input in inputs {
        let (other, _) = input.storage_and_layout();
        if std::ptr::eq(&raw const *own, &raw const *other) {
            bail!("{op}: what is changed in place, of shape {:?}, shares its storage with an input", target.dims());
        }
    }
    Ok(())
}

/// Changes a tensor's values in place; returns what `body` does.
///
/// # Errors
/// When they are not contiguous f32 values on the CPU.
pub fn update<R>(target: &Tensor, body: impl Fn(&mut [f32]) -> R) -> Result<R> {
    let update = Update { body, result: OnceCell::new() };
    target.inplace_op1(&update)?;
    match update.result.into_inner() {
        Some(result) => Ok(result),
        None => bail!("an update of shape {:?} did not run", target.dims()),
    }
}

struct Update<F, R> {
    body: F,
    result: OnceCell<R>,
}

impl<R, F: Fn(&mut [f32]) -> R> InplaceOp1 for Update<F, R> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let values = cpu_values_mut(self.name(), storage, layout)?;
        self.result.get_or_init(|| (self.body)(values));
        Ok(())
    }
}

/// A CPU tensor of `values`.
fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

/// Rows and row length of a tensor whose last dimension is the row: the product of the others, and it.
fn as_rows(op: &str, x: &Tensor) -> Result<(usize, usize)> {
    match x.dims() {
        [] => bail!("{op} needs at least one dimension, not a scalar"),
        [rows @ .., width] => Ok((rows.iter().product(), *width)),
    }
}

/// Refuses tensors whose rows have no numbers.
fn require_columns(op: &str, x: &Tensor, width: usize) -> Result<()> {
    if width == 0 {
        bail!("{op}: the last dimension of shape {:?} is empty", x.dims());
    }
    Ok(())
}

fn check_dropout(op: &str, dropout: Option<Dropout>) -> Result<()> {
    match dropout {
        Some(Dropout { probability, .. }) if !(0.0..1.0).contains(&probability) => {
            bail!("{op}: dropout probability {probability} is not in 0.0..1.0")
        }
        _ => Ok(()),
    }
}
