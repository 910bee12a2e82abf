//! Where the numbers of tensors lie, for kernels: on a GPU, or for the emulation in this process.

#[cfg(feature = "cuda-emulation")]
mod emulation;
#[cfg(feature = "cuda")]
mod gpu;

use super::ffi::Stream;
use super::recording::recorded_room;
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor, WithDType, bail};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;

#[cfg(feature = "cuda-emulation")]
thread_local! {
    /// How many GPUs there are.
    static EMULATED: Cell<usize> = const { Cell::new(0) };
}

/// Runs `body`, for which this thread's tensors on the CPU are a GPU's: operations go through the emulated kernels.
#[cfg(feature = "cuda-emulation")]
pub fn emulated<R>(body: impl FnOnce() -> R) -> R {
    emulated_gpus(1, body)
}

/// The same on a machine with `count` GPUs, which all are the CPU.
#[cfg(feature = "cuda-emulation")]
pub fn emulated_gpus<R>(count: usize, body: impl FnOnce() -> R) -> R {
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            EMULATED.set(self.0);
        }
    }
    let _restore = Restore(EMULATED.replace(count));
    body()
}

/// Whether operations on tensors of this device are those of this module.
pub fn runs_on(device: &Device) -> bool {
    #[cfg(feature = "cuda-emulation")]
    if EMULATED.get() > 0 {
        return true;
    }
    device.is_cuda()
}

/// A tensor as kernels read it: dense, of one of the types, and in no graph.
pub(super) fn dense(op: &str, tensor: &Tensor, dtypes: &[DType]) -> Result<Tensor> {
    crate::ops::refuse_tracked(op, tensor)?;
    if !dtypes.contains(&tensor.dtype()) {
        bail!("{op}: a tensor of shape {:?} is {:?}, not one of {dtypes:?}", tensor.dims(), tensor.dtype());
    }
    tensor.contiguous()
}

/// The same of rows `[T, H, D]` that may lie apart, such as those of one of several projections that lie side by side.
pub(super) fn rows(op: &str, tensor: &Tensor, dtypes: &[DType]) -> Result<Tensor> {
    let (_, heads, size) = tensor.dims3()?;
    match *tensor.stride() {
        [apart, head, 1] if head == size && apart >= heads * size && dtypes.contains(&tensor.dtype()) => {
            crate::ops::refuse_tracked(op, tensor)?;
            Ok(tensor.clone())
        }
        _ => dense(op, tensor, dtypes),
    }
}

/// The same of a matrix whose rows may lie apart.
pub(super) fn matrix(op: &str, tensor: &Tensor, dtypes: &[DType]) -> Result<Tensor> {
    let (_, columns) = tensor.dims2()?;
    match *tensor.stride() {
        [apart, 1] if apart >= columns && dtypes.contains(&tensor.dtype()) => {
            crate::ops::refuse_tracked(op, tensor)?;
            Ok(tensor.clone())
        }
        _ => dense(op, tensor, dtypes),
    }
}

/// The address of a dense tensor's first number. It is that tensor's until what was launched on its stream has ended, even if
/// it is dropped before: memory is given back in the order of the stream.
pub(super) fn address(tensor: &Tensor) -> Result<*const c_void> {
    if !tensor.is_contiguous() {
        bail!("kernels need a dense tensor, not {:?} with strides {:?}", tensor.dims(), tensor.stride());
    }
    row_address(tensor)
}

/// The same of what `rows` or `matrix` gave.
pub(super) fn row_address(tensor: &Tensor) -> Result<*const c_void> {
    let (storage, layout) = tensor.storage_and_layout();
    let first = match &*storage {
        #[cfg(feature = "cuda-emulation")]
        Storage::Cpu(storage) => emulation::address(storage)?,
        #[cfg(feature = "cuda")]
        Storage::Cuda(storage) => gpu::address(storage)?,
        _ => bail!("kernels read no {:?} on {:?}", tensor.dtype(), tensor.device()),
    };
    Ok(offset(first, layout, tensor.dtype()))
}

/// The same where a kernel writes, too.
pub(super) fn address_mut(tensor: &Tensor) -> Result<*mut c_void> {
    if !tensor.is_contiguous() {
        bail!("kernels write dense tensors, not {:?} with strides {:?}", tensor.dims(), tensor.stride());
    }
    let found = Writable(Cell::new(null_mut()));
    tensor.inplace_op1(&found)?;
    Ok(found.0.get())
}

fn offset(first: *const c_void, layout: &Layout, dtype: DType) -> *const c_void {
    first.wrapping_byte_add(layout.start_offset() * dtype.size_in_bytes())
}

struct Writable(Cell<*mut c_void>);

impl InplaceOp1 for Writable {
    fn name(&self) -> &'static str {
        "address of a tensor"
    }

    #[cfg(feature = "cuda-emulation")]
    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        use candle_core::backend::BackendStorage;
        let (dtype, first) = (storage.dtype(), emulation::address_mut(storage)?);
        self.0.set(offset(first, layout, dtype).cast_mut());
        Ok(())
    }

    #[cfg(not(feature = "cuda-emulation"))]
    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("kernels of a GPU write no tensor of the CPU")
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut candle_core::CudaStorage, layout: &Layout) -> Result<()> {
        use candle_core::backend::BackendStorage;
        self.0.set(offset(gpu::address(storage)?, layout, storage.dtype()).cast_mut());
        Ok(())
    }
}

/// A tensor that a kernel must fill. Emulated it begins as NaN, so that what is not written shows.
pub(crate) fn room(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    recorded_room(&shape.clone(), dtype, || new_room(shape, dtype, device))
}

fn new_room(shape: Shape, dtype: DType, device: &Device) -> Result<Tensor> {
    if shape.elem_count() == 0 {
        // A GPU allocates no empty tensors. SAFETY: nobody sees the number.
        return unsafe { Tensor::empty(1, dtype, device) }?.narrow(0, 0, 0)?.reshape(shape);
    }
    if device.is_cpu() {
        return Tensor::full(f32::NAN, shape, device)?.to_dtype(dtype);
    }
    // SAFETY: any bits are numbers, and the caller's kernel writes all of them before they are read.
    unsafe { Tensor::empty(shape, dtype, device) }
}

/// Brings words to a device.
pub(super) fn words<T: WithDType>(words: &[T], device: &Device) -> Result<Tensor> {
    copies_between_launches();
    Tensor::from_slice(words, words.len(), device)
}

/// Tells the emulation, where there is one, of a copy: launches after it begin when those before it have ended.
pub fn copies_between_launches() {
    #[cfg(feature = "cuda-emulation")]
    emulation::end_launches();
}

/// Tells the emulation, where there is one, that a product which is no kernel here has written a dense tensor.
pub(super) fn written_by_product(target: &Tensor) -> Result<()> {
    #[cfg(feature = "cuda-emulation")]
    emulation::written_by_product(address_mut(target)?, target.elem_count() * target.dtype().size_in_bytes());
    #[cfg(not(feature = "cuda-emulation"))]
    let _ = target;
    Ok(())
}

/// Writes words to a dense tensor of them.
pub(super) fn write_words(target: &Tensor, words: &[u32]) -> Result<()> {
    if target.dtype() != DType::U32 || target.elem_count() != words.len() {
        bail!("{} words for {:?} in {:?}", words.len(), target.dims(), target.dtype());
    }
    copies_between_launches();
    if target.device().is_cpu() {
        return target.slice_set(&Tensor::from_slice(words, target.shape(), target.device())?, 0, 0);
    }
    #[cfg(feature = "cuda")]
    gpu::write_words(address_mut(target)?, words, target.device())?;
    Ok(())
}

/// The stream of a device, whose context becomes this thread's.
pub(super) fn stream(device: &Device) -> Result<Stream> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => gpu::stream(device),
        _ => Ok(null_mut()),
    }
}

/// The compute capability of a GPU; nothing where it is emulated.
pub(super) fn capability(device: &Device) -> Result<Option<(i32, i32)>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => gpu::capability(device).map(Some),
        _ => Ok(None),
    }
}

/// Bytes of shared memory that a block of a GPU may have; nothing where it is emulated.
pub(super) fn shared_memory(device: &Device) -> Result<Option<usize>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => gpu::shared_memory(device).map(Some),
        _ => Ok(None),
    }
}

#[cfg(feature = "cuda-emulation")]
pub(crate) use emulation::{gpu_count, open};

#[cfg(feature = "cuda")]
pub(crate) use gpu::{gpu_count, memory, open};
