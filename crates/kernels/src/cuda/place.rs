//! Where the numbers of tensors lie, for kernels: on a GPU, or for the emulation in this process.

use super::ffi::Stream;
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor, bail};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;

#[cfg(feature = "cuda-emulation")]
thread_local! {
    static EMULATED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body`, for which this thread's tensors on the CPU are a GPU's: operations go through the emulated kernels.
#[cfg(feature = "cuda-emulation")]
pub fn emulated<R>(body: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            EMULATED.set(self.0);
        }
    }
    let _restore = Restore(EMULATED.replace(true));
    body()
}

/// Whether operations on tensors of this device are those of this module.
pub fn runs_on(device: &Device) -> bool {
    #[cfg(feature = "cuda-emulation")]
    if EMULATED.get() {
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

/// The address of a dense tensor's first number. It is that tensor's until what was launched on its stream has ended, even if
/// it is dropped before: memory is given back in the order of the stream.
pub(super) fn address(tensor: &Tensor) -> Result<*const c_void> {
    let (storage, layout) = tensor.storage_and_layout();
    let first = match &*storage {
        #[cfg(feature = "cuda-emulation")]
        Storage::Cpu(storage) => emulation::address(storage)?,
        #[cfg(feature = "cuda")]
        Storage::Cuda(storage) => gpu::address(storage)?,
        _ => bail!("kernels read no {:?} on {:?}", tensor.dtype(), tensor.device()),
    };
    offset(first, layout, tensor.dtype())
}

/// The same where a kernel writes, too.
pub(super) fn address_mut(tensor: &Tensor) -> Result<*mut c_void> {
    let found = Writable(Cell::new(null_mut()));
    tensor.inplace_op1(&found)?;
    Ok(found.0.get())
}

fn offset(first: *const c_void, layout: &Layout, dtype: DType) -> Result<*const c_void> {
    match layout.contiguous_offsets() {
        Some((start, _)) => Ok(first.wrapping_byte_add(start * dtype.size_in_bytes())),
        None => bail!("kernels need a dense tensor, not {:?} with strides {:?}", layout.shape(), layout.stride()),
    }
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
        self.0.set(offset(first, layout, dtype)?.cast_mut());
        Ok(())
    }

    #[cfg(not(feature = "cuda-emulation"))]
    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("kernels of a GPU write no tensor of the CPU")
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut candle_core::CudaStorage, layout: &Layout) -> Result<()> {
        use candle_core::backend::BackendStorage;
        self.0.set(offset(gpu::address(storage)?, layout, storage.dtype())?.cast_mut());
        Ok(())
    }
}

/// A tensor that a kernel must fill. Emulated it begins as NaN, so that what is not written shows.
pub(super) fn room(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    if shape.elem_count() == 0 {
        // A GPU allocates no empty tensors.
        return Tensor::zeros(1, dtype, device)?.narrow(0, 0, 0)?.reshape(shape);
    }
    if device.is_cpu() {
        return Tensor::full(f32::NAN, shape, device)?.to_dtype(dtype);
    }
    // SAFETY: any bits are numbers, and the caller's kernel writes all of them before they are read.
    unsafe { Tensor::empty(shape, dtype, device) }
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

#[cfg(feature = "cuda-emulation")]
mod emulation {
    use candle_core::{CpuStorage, Result, bail};
    use std::ffi::c_void;

    /// Of the storage's first number.
    pub(super) fn address(storage: &CpuStorage) -> Result<*const c_void> {
        Ok(match storage {
            CpuStorage::F32(values) => values.as_ptr().cast(),
            CpuStorage::F64(values) => values.as_ptr().cast(),
            CpuStorage::BF16(values) => values.as_ptr().cast(),
            CpuStorage::U32(values) => values.as_ptr().cast(),
            CpuStorage::I32(values) => values.as_ptr().cast(),
            _ => bail!("kernels read floats and words only"),
        })
    }

    pub(super) fn address_mut(storage: &mut CpuStorage) -> Result<*mut c_void> {
        Ok(match storage {
            CpuStorage::F32(values) => values.as_mut_ptr().cast(),
            CpuStorage::F64(values) => values.as_mut_ptr().cast(),
            CpuStorage::BF16(values) => values.as_mut_ptr().cast(),
            CpuStorage::U32(values) => values.as_mut_ptr().cast(),
            CpuStorage::I32(values) => values.as_mut_ptr().cast(),
            _ => bail!("kernels write floats and words only"),
        })
    }
}

#[cfg(feature = "cuda")]
pub(crate) use gpu::open;

#[cfg(feature = "cuda")]
mod gpu {
    use super::Stream;
    use candle_core::backend::BackendStorage;
    use candle_core::cuda_backend::cudarc::driver::{DevicePtr, result, sys};
    use candle_core::cuda_backend::{CudaDType, WrapErr};
    use candle_core::{CudaDevice, CudaStorage, DType, Device, Result, bail};
    use std::ffi::c_void;

    /// Of the storage's first number.
    pub(super) fn address(storage: &CudaStorage) -> Result<*const c_void> {
        match storage.dtype() {
            DType::F32 => of_type::<f32>(storage),
            DType::F64 => of_type::<f64>(storage),
            DType::BF16 => of_type::<half::bf16>(storage),
            DType::U32 => of_type::<u32>(storage),
            DType::I32 => of_type::<i32>(storage),
            other => bail!("kernels read no {other:?}"),
        }
    }

    fn of_type<T: CudaDType>(storage: &CudaStorage) -> Result<*const c_void> {
        let stream = storage.device().cuda_stream();
        let (address, _in_order) = storage.as_cuda_slice::<T>()?.device_ptr(&stream);
        Ok(std::ptr::with_exposed_provenance(address as usize))
    }

    /// A device with one stream, in whose order all is done whatever the thread, and which keeps the memory it was given.
    pub(crate) fn open(index: usize) -> Result<Device> {
        let device = Device::new_cuda_with_stream(index)?;
        let cuda = device.as_cuda_device()?;
        // SAFETY: there is no second stream that would have to wait for the first.
        unsafe { cuda.disable_event_tracking() };
        let mut most = u64::MAX;
        // SAFETY: the device is open, and the attribute is a number of 64 bits.
        unsafe {
            let pool = result::device::get_default_mem_pool(cuda.cuda_stream().context().cu_device()).w()?;
            let release_threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            result::mem_pool::set_attribute(pool, release_threshold, (&raw mut most).cast()).w()?;
        }
        Ok(device)
    }

    pub(super) fn capability(device: &CudaDevice) -> Result<(i32, i32)> {
        device.cuda_stream().context().compute_capability().w()
    }

    pub(super) fn stream(device: &CudaDevice) -> Result<Stream> {
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        Ok(stream.cu_stream().cast())
    }
}
