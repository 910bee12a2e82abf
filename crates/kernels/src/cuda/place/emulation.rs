//! Numbers in this process's memory, as an emulated GPU's.

use super::EMULATED;
use candle_core::{CpuStorage, Device, Result, bail};
use std::ffi::c_void;

pub(crate) fn gpu_count() -> Result<usize> {
    Ok(EMULATED.get())
}

pub(crate) fn open(index: usize) -> Result<Device> {
    match EMULATED.get() {
        0 => bail!("this build has no GPU support"),
        count if index < count => Ok(Device::Cpu),
        count => bail!("there is no GPU {index} among {count} emulated ones"),
    }
}

/// Says that all launches so far have ended.
pub(super) fn end_launches() {
    unsafe extern "C" {
        safe fn epitome_emulation_end_launches();
    }
    epitome_emulation_end_launches();
}

/// Says that a launch of one thread has written so many bytes there.
pub(super) fn written_by_product(target: *mut c_void, bytes: usize) {
    unsafe extern "C" {
        // It keeps the address and looks at nothing there.
        safe fn epitome_emulation_product(target: *mut c_void, bytes: usize);
    }
    epitome_emulation_product(target, bytes);
}

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
