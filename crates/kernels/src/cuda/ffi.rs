//! The launchers of `cuda/`, as C sees them. Pointers are to device memory, except those to a [`Problem`] or another
//! argument struct, which is read before the call returns. A launcher returns the number of a CUDA error, 0 for none.

use std::ffi::{c_int, c_void};

/// A cudaStream_t.
pub(crate) type Stream = *mut c_void;

/// `Block` of `cuda/attention/problem.cuh`, as three words of a plan.
pub(crate) const BLOCK_WORDS: usize = 3;

/// `Plan` of `cuda/attention/problem.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) query_offsets: *const c_int,
    pub(crate) key_offsets: *const c_int,
    pub(crate) global_offsets: *const c_int,
    pub(crate) global_positions: *const c_int,
    pub(crate) partial_offsets: *const c_int,
    pub(crate) query_blocks: *const c_int,
    pub(crate) key_blocks: *const c_int,
    pub(crate) global_blocks: *const c_int,
    pub(crate) query_block_count: c_int,
    pub(crate) key_block_count: c_int,
    pub(crate) global_block_count: c_int,
    pub(crate) documents: c_int,
    pub(crate) queries: c_int,
    pub(crate) globals: c_int,
    pub(crate) chunk: c_int,
}

/// `Visibility` of `cuda/attention/problem.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Visibility {
    pub(crate) kind: c_int,
    pub(crate) reach: c_int,
}

/// `Draws` of `cuda/random.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Draws {
    pub(crate) key: u64,
    pub(crate) threshold: u32,
    pub(crate) keep: f32,
}

/// `Problem` of `cuda/attention/problem.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Problem {
    pub(crate) plan: Plan,
    pub(crate) q: *const c_void,
    pub(crate) k: *const c_void,
    pub(crate) v: *const c_void,
    pub(crate) q_stride: i64,
    pub(crate) k_stride: i64,
    pub(crate) v_stride: i64,
    pub(crate) heads: c_int,
    pub(crate) head_size: c_int,
    pub(crate) visibility: Visibility,
    pub(crate) scale: f32,
    pub(crate) draws: Draws,
}

/// Declares launchers; the last argument of each is a stream.
macro_rules! launchers {
    ($($name:ident($($argument:ident: $type:ty),* $(,)?);)*) => {
        unsafe extern "C" {
            $(pub(crate) fn $name($($argument: $type,)* stream: Stream) -> c_int;)*
        }
    };
}

/// Attention: `problem`, output and log-sum-exp.
pub(crate) type AttentionForward = unsafe extern "C" fn(*const Problem, *mut c_void, *mut f32, Stream) -> c_int;

/// Output, its gradient, delta, rows, heads and head size.
pub(crate) type AttentionDelta =
    unsafe extern "C" fn(*const c_void, *const c_void, *mut f32, i64, c_int, c_int, Stream) -> c_int;

/// `problem`, the output's gradient, log-sum-exp and delta; gradients of q, k and v.
pub(crate) type AttentionBackward = unsafe extern "C" fn(
    *const Problem,
    *const c_void,
    *const f32,
    *const f32,
    *mut c_void,
    *mut c_void,
    *mut c_void,
    Stream,
) -> c_int;

launchers! {
    epitome_attention_forward_bf16(problem: *const Problem, output: *mut c_void, log_sum_exp: *mut f32);
    epitome_attention_forward_any_f32(problem: *const Problem, output: *mut c_void, log_sum_exp: *mut f32);
    epitome_attention_forward_any_bf16(problem: *const Problem, output: *mut c_void, log_sum_exp: *mut f32);
    epitome_attention_delta_f32(
        output: *const c_void, gradient: *const c_void, delta: *mut f32, rows: i64, heads: c_int, size: c_int,
    );
    epitome_attention_delta_bf16(
        output: *const c_void, gradient: *const c_void, delta: *mut f32, rows: i64, heads: c_int, size: c_int,
    );
    epitome_attention_backward_any_f32(
        problem: *const Problem, gradient: *const c_void, log_sum_exp: *const f32, delta: *const f32,
        dq: *mut c_void, dk: *mut c_void, dv: *mut c_void,
    );
    epitome_attention_backward_any_bf16(
        problem: *const Problem, gradient: *const c_void, log_sum_exp: *const f32, delta: *const f32,
        dq: *mut c_void, dk: *mut c_void, dv: *mut c_void,
    );
    epitome_attention_backward_queries_bf16(
        problem: *const Problem, gradient: *const c_void, log_sum_exp: *const f32, delta: *const f32, dq: *mut c_void,
    );
    epitome_attention_backward_keys_bf16(
        problem: *const Problem, gradient: *const c_void, log_sum_exp: *const f32, delta: *const f32,
        dk: *mut c_void, dv: *mut c_void, partial_dk: *mut f32, partial_dv: *mut f32,
    );
    epitome_attention_reduce_global_bf16(
        problem: *const Problem, partial_dk: *const f32, partial_dv: *const f32, dk: *mut c_void, dv: *mut c_void,
    );
}
