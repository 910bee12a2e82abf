//! The functions of NCCL, found in its shared library when they are needed: `nccl.h` of NCCL 2.

use crate::cuda::ffi::Stream;
use candle_core::{Result, bail};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;

/// The library's file, which the dynamic linker looks for.
pub(super) const NAME: &str = "libnccl.so.2";

/// `ncclUniqueId`, as bytes.
pub(super) type UniqueId = [u8; 128];

/// `ncclUniqueId`, which goes by value.
#[repr(C)]
pub(super) struct RawUniqueId(pub(super) UniqueId);

/// `ncclComm_t`.
pub(super) type Handle = *mut c_void;

/// `ncclResult_t`.
pub(super) const SUCCESS: c_int = 0;
/// `ncclDataType_t`.
pub(super) const FLOAT32: c_int = 7;
/// `ncclRedOp_t`.
pub(super) const SUM: c_int = 0;

type GetUniqueId = unsafe extern "C" fn(*mut RawUniqueId) -> c_int;
type CommInitRank = unsafe extern "C" fn(*mut Handle, c_int, RawUniqueId, c_int) -> c_int;
type AllReduce = unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Handle, Stream) -> c_int;
type Group = unsafe extern "C" fn() -> c_int;
type CommDestroy = unsafe extern "C" fn(Handle) -> c_int;
type GetErrorString = unsafe extern "C" fn(c_int) -> *const c_char;

/// What is used of NCCL.
#[derive(Clone, Copy)]
pub(super) struct Library {
    pub(super) get_unique_id: GetUniqueId,
    pub(super) comm_init_rank: CommInitRank,
    pub(super) all_reduce: AllReduce,
    pub(super) group_start: Group,
    pub(super) group_end: Group,
    pub(super) comm_destroy: CommDestroy,
    pub(super) get_error_string: GetErrorString,
}

impl Library {
    /// The functions of a library file.
    pub(super) fn load(name: &str) -> Result<Self> {
        match Self::find(name) {
            Ok(library) => Ok(library),
            Err(error) => bail!(
                "several processes on GPUs need NCCL 2, whose directory LD_LIBRARY_PATH can name: {}",
                with_causes(&error)
            ),
        }
    }

    fn find(name: &str) -> std::result::Result<Self, libloading::Error> {
        // SAFETY: what NCCL does when it is loaded asks nothing of the process, and the types of its functions are those of its
        // header.
        unsafe {
            let file = libloading::Library::new(name)?;
            let found = Self {
                get_unique_id: *file.get::<GetUniqueId>(c"ncclGetUniqueId")?,
                comm_init_rank: *file.get::<CommInitRank>(c"ncclCommInitRank")?,
                all_reduce: *file.get::<AllReduce>(c"ncclAllReduce")?,
                group_start: *file.get::<Group>(c"ncclGroupStart")?,
                group_end: *file.get::<Group>(c"ncclGroupEnd")?,
                comm_destroy: *file.get::<CommDestroy>(c"ncclCommDestroy")?,
                get_error_string: *file.get::<GetErrorString>(c"ncclGetErrorString")?,
            };
            // It has threads of its own, and is never unloaded.
            std::mem::forget(file);
            Ok(found)
        }
    }

    /// What the processes of a new communicator know each other by.
    pub(super) fn unique_id(&self) -> Result<UniqueId> {
        let mut id = RawUniqueId([0; 128]);
        // SAFETY: there is room for an id.
        self.check("ncclGetUniqueId", unsafe { (self.get_unique_id)(&raw mut id) })?;
        Ok(id.0)
    }

    /// Waits for all processes with this id.
    pub(super) fn join(&self, id: UniqueId, rank: usize, processes: usize) -> Result<Handle> {
        let mut handle = null_mut();
        let id = RawUniqueId(id);
        // SAFETY: there is room for a handle.
        let code = unsafe { (self.comm_init_rank)(&raw mut handle, processes as c_int, id, rank as c_int) };
        self.check("ncclCommInitRank", code)?;
        Ok(handle)
    }

    /// Sums of buffers of f32, in place and all as one group, in the order of `stream`.
    ///
    /// # Safety
    /// The handle must be one of this library that has not left, the buffers memory of its device in the order of `stream`.
    pub(super) unsafe fn sum(&self, handle: Handle, buffers: &[(*mut c_void, usize)], stream: Stream) -> Result<()> {
        // SAFETY: as the caller promises.
        let sum = |&(first, count): &(*mut c_void, usize)| unsafe {
            self.check("ncclAllReduce", (self.all_reduce)(first, first, count, FLOAT32, SUM, handle, stream))
        };
        // SAFETY: the calls stand around the others, on one thread.
        let (start, end) = unsafe { (|| (self.group_start)(), || (self.group_end)()) };
        self.check("ncclGroupStart", start())?;
        let called = buffers.iter().try_for_each(sum);
        // A group is closed after an error in it, too; the first error is the one that says something.
        let ended = self.check("ncclGroupEnd", end());
        called.and(ended)
    }

    /// Gives back what a communicator holds; waits for the other processes.
    pub(super) fn leave(&self, handle: Handle) -> Result<()> {
        // SAFETY: the handle is from `join`, and its owner is gone.
        self.check("ncclCommDestroy", unsafe { (self.comm_destroy)(handle) })
    }

    fn check(&self, function: &str, code: c_int) -> Result<()> {
        if code == SUCCESS {
            return Ok(());
        }
        // SAFETY: NCCL has a constant text for every number.
        let text = unsafe { CStr::from_ptr((self.get_error_string)(code)) };
        bail!("{function}: {}", text.to_string_lossy())
    }
}

/// An error and what it comes from, which says which file is missing.
fn with_causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_causes(cause)),
        None => error.to_string(),
    }
}
