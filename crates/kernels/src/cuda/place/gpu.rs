//! Numbers in a GPU's memory.

use super::Stream;
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, DevicePtr, result, sys};
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

/// How many GPUs this process sees.
pub(crate) fn gpu_count() -> Result<usize> {
    Ok(CudaContext::device_count().w()? as usize)
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

/// The words are read before this returns.
pub(super) fn write_words(target: *mut c_void, words: &[u32], device: &Device) -> Result<()> {
    let stream = device.as_cuda_device()?.cuda_stream();
    stream.context().bind_to_thread().w()?;
    // SAFETY: the target has room for the words, which the driver copies from pageable memory at once.
    unsafe { result::memcpy_htod_async(target.expose_provenance() as u64, words, stream.cu_stream()) }.w()
}

/// Bytes of the card.
pub(crate) fn memory(device: &Device) -> Result<usize> {
    device.as_cuda_device()?.cuda_stream().context().total_mem().w()
}

pub(super) fn capability(device: &CudaDevice) -> Result<(i32, i32)> {
    device.cuda_stream().context().compute_capability().w()
}

pub(super) fn shared_memory(device: &CudaDevice) -> Result<usize> {
    let most = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    Ok(device.cuda_stream().context().attribute(most).w()? as usize)
}

pub(super) fn stream(device: &CudaDevice) -> Result<Stream> {
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    Ok(stream.cu_stream().cast())
}
