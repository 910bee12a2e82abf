//! Numbers in the memory that kernels read: a GPU's, or for the emulation this process's.

use candle_core::Result;
use std::ffi::c_void;
use std::marker::PhantomData;

/// `length` numbers; aligned for accesses of 16 bytes.
pub(super) struct Buffer<T> {
    address: *mut c_void,
    length: usize,
    numbers: PhantomData<T>,
}

impl<T: Copy> Buffer<T> {
    /// A copy of `values`.
    pub(super) fn of(values: &[T]) -> Result<Self> {
        let buffer = Self::room(values.len())?;
        // SAFETY: both are as long; a `Copy` type has no destructor to run twice.
        unsafe { memory::write(buffer.address, values.as_ptr().cast(), size_of_val(values))? };
        Ok(buffer)
    }

    /// Room that a kernel must fill: until then all bits are set, which in floats is NaN.
    pub(super) fn room(length: usize) -> Result<Self> {
        let address = memory::allocate(length * size_of::<T>())?;
        Ok(Self { address, length, numbers: PhantomData })
    }

    pub(super) fn pointer(&self) -> *mut T {
        self.address.cast()
    }

    /// For launchers of several types.
    pub(super) fn any(&self) -> *mut c_void {
        self.address
    }

    /// What is in it when everything launched before has ended.
    pub(super) fn to_vec(&self) -> Result<Vec<T>>
    where
        T: Default,
    {
        let mut values = vec![T::default(); self.length];
        // SAFETY: both are as long, and every pattern of bits is a number.
        unsafe { memory::read(values.as_mut_ptr().cast(), self.address, size_of_val(&values[..]))? };
        Ok(values)
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated with as many bytes, and not used any more.
        unsafe { memory::free(self.address, self.length * size_of::<T>()) };
    }
}

/// The address, or null of nothing.
pub(super) fn address_of<T: Copy>(buffer: &Option<Buffer<T>>) -> *mut T {
    buffer.as_ref().map_or(std::ptr::null_mut(), Buffer::pointer)
}

/// A copy of what may be missing.
pub(super) fn buffer_of<T: Copy>(values: Option<&[T]>) -> Result<Option<Buffer<T>>> {
    values.map(Buffer::of).transpose()
}

#[cfg(feature = "cuda-emulation")]
mod memory {
    use candle_core::Result;
    use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
    use std::ffi::c_void;

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, 16).expect("less than an address space")
    }

    /// Exactly as much as was asked for, so that an address sanitizer sees what lies outside.
    pub(super) fn allocate(bytes: usize) -> Result<*mut c_void> {
        if bytes == 0 {
            return Ok(std::ptr::without_provenance_mut(16));
        }
        // SAFETY: not empty.
        let address = unsafe { alloc(layout(bytes)) };
        if address.is_null() {
            handle_alloc_error(layout(bytes));
        }
        // SAFETY: as many bytes were allocated.
        unsafe { address.write_bytes(0xff, bytes) };
        Ok(address.cast())
    }

    pub(super) unsafe fn write(target: *mut c_void, values: *const c_void, bytes: usize) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(values.cast::<u8>(), target.cast(), bytes) };
        Ok(())
    }

    pub(super) unsafe fn read(target: *mut c_void, values: *const c_void, bytes: usize) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { write(target, values, bytes) }
    }

    pub(super) unsafe fn free(address: *mut c_void, bytes: usize) {
        if bytes > 0 {
            // SAFETY: the caller's.
            unsafe { dealloc(address.cast(), layout(bytes)) };
        }
    }
}

#[cfg(not(feature = "cuda-emulation"))]
mod memory {
    use crate::cuda::check;
    use candle_core::Result;
    use std::ffi::{c_int, c_void};

    /// Of cudaMemcpyKind.
    const TO_DEVICE: c_int = 1;
    const TO_HOST: c_int = 2;

    unsafe extern "C" {
        fn cudaMalloc(address: *mut *mut c_void, bytes: usize) -> c_int;
        fn cudaMemset(address: *mut c_void, value: c_int, bytes: usize) -> c_int;
        fn cudaMemcpy(target: *mut c_void, source: *const c_void, bytes: usize, kind: c_int) -> c_int;
        fn cudaFree(address: *mut c_void) -> c_int;
    }

    pub(super) fn allocate(bytes: usize) -> Result<*mut c_void> {
        let mut address = std::ptr::null_mut();
        // SAFETY: writes an address; fills what was allocated.
        unsafe {
            check("cudaMalloc", cudaMalloc(&mut address, bytes))?;
            check("cudaMemset", cudaMemset(address, 0xff, bytes))?;
        }
        Ok(address)
    }

    pub(super) unsafe fn write(target: *mut c_void, values: *const c_void, bytes: usize) -> Result<()> {
        // SAFETY: the caller's.
        check("cudaMemcpy", unsafe { cudaMemcpy(target, values, bytes, TO_DEVICE) })
    }

    pub(super) unsafe fn read(target: *mut c_void, values: *const c_void, bytes: usize) -> Result<()> {
        // SAFETY: the caller's.
        check("cudaMemcpy", unsafe { cudaMemcpy(target, values, bytes, TO_HOST) })
    }

    pub(super) unsafe fn free(address: *mut c_void, _: usize) {
        // SAFETY: the caller's. An error here is one of an earlier launch, which its result has told.
        unsafe { cudaFree(address) };
    }
}
