//! NCCL's functions where tensors are the CPU's: the processes' own sums, made when a group ends.

use super::library::{FLOAT32, Handle, Library, RawUniqueId, SUCCESS, SUM};
use crate::cuda::ffi::Stream;
use epitome_distributed::ProcessGroup;
use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int, c_void};
use std::ptr::null;

/// `ncclInvalidArgument`.
const INVALID_ARGUMENT: c_int = 4;
/// `ncclInvalidUsage`.
const INVALID_USAGE: c_int = 5;

const ID: [u8; 128] = [37; 128];

/// A sum that was asked for.
struct Call {
    first: *mut f32,
    count: usize,
    processes: *const ProcessGroup,
}

thread_local! {
    /// Those that this thread joins: NCCL's interface has no place for them.
    static PROCESSES: Cell<*const ProcessGroup> = const { Cell::new(null()) };
    /// The calls since a group was begun.
    static GROUP: RefCell<Option<Vec<Call>>> = const { RefCell::new(None) };
}

/// NCCL for the processes of `group`, which must outlive what joins.
pub(super) fn library(group: &ProcessGroup) -> Library {
    PROCESSES.set(group);
    Library { get_unique_id, comm_init_rank, all_reduce, group_start, group_end, comm_destroy, get_error_string }
}

unsafe extern "C" fn get_unique_id(id: *mut RawUniqueId) -> c_int {
    // SAFETY: the caller has room for an id.
    unsafe { id.write(RawUniqueId(ID)) };
    SUCCESS
}

unsafe extern "C" fn comm_init_rank(handle: *mut Handle, processes: c_int, id: RawUniqueId, rank: c_int) -> c_int {
    // SAFETY: the group outlives what joins.
    let group = unsafe { &*PROCESSES.get() };
    if id.0 != ID || processes as usize != group.world_size() || rank as usize != group.rank() {
        return INVALID_ARGUMENT;
    }
    group.barrier();
    // SAFETY: the caller has room for a handle.
    unsafe { handle.write(PROCESSES.get().cast_mut().cast()) };
    SUCCESS
}

unsafe extern "C" fn group_start() -> c_int {
    match GROUP.replace(Some(Vec::new())) {
        None => SUCCESS,
        Some(_) => INVALID_USAGE,
    }
}

unsafe extern "C" fn all_reduce(
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    dtype: c_int,
    operation: c_int,
    handle: Handle,
    _: Stream,
) -> c_int {
    if from != to || to.is_null() || dtype != FLOAT32 || operation != SUM {
        return INVALID_ARGUMENT;
    }
    GROUP.with_borrow_mut(|group| {
        let Some(calls) = group else { return INVALID_USAGE };
        calls.push(Call { first: to.cast(), count, processes: handle.cast_const().cast() });
        SUCCESS
    })
}

unsafe extern "C" fn group_end() -> c_int {
    let Some(calls) = GROUP.take() else { return INVALID_USAGE };
    for Call { first, count, processes } in calls {
        // SAFETY: the group outlives what joins, and the buffer is memory of the tensor that the caller holds.
        let (group, values) = unsafe { (&*processes, std::slice::from_raw_parts_mut(first, count)) };
        // Processes that do not ask for the same sums would wait for ever.
        let mut counts = vec![0.0; group.world_size()];
        counts[group.rank()] = count as f64;
        group.all_reduce_f64(&mut counts);
        if counts.iter().any(|other| *other != count as f64) {
            return INVALID_ARGUMENT;
        }
        group.all_reduce(values);
    }
    SUCCESS
}

unsafe extern "C" fn comm_destroy(handle: Handle) -> c_int {
    // SAFETY: the group outlives what joins.
    unsafe { &*handle.cast_const().cast::<ProcessGroup>() }.barrier();
    SUCCESS
}

unsafe extern "C" fn get_error_string(code: c_int) -> *const c_char {
    match code {
        INVALID_ARGUMENT => c"invalid argument (emulated)".as_ptr(),
        _ => c"invalid usage (emulated)".as_ptr(),
    }
}
