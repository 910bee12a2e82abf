//! The launchers of `cuda/`, as C sees them. Pointers are to device memory, except those to a [`Problem`] or another
//! argument struct, which is read before the call returns. A launcher returns the number of a CUDA error, 0 for none.

use crate::cpu::adamw::{Betas, Update};
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

/// `ColumnSum` of `cuda/rows/column_sums.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ColumnSum {
    pub(crate) x: *const c_void,
    pub(crate) sum: *mut f32,
}

/// `Values` of `cuda/training/tensors.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Values {
    pub(crate) first: *const f32,
    pub(crate) count: i64,
}

/// `Trained` of `cuda/training/tensors.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Trained {
    pub(crate) parameter: *mut f32,
    pub(crate) mean: *mut f32,
    pub(crate) square: *mut f32,
    pub(crate) gradient: *const f32,
    pub(crate) copy: *mut c_void,
    pub(crate) count: i64,
    pub(crate) update: Update,
}

/// `Rounded` of `cuda/training/round.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Rounded {
    pub(crate) from: *const f32,
    pub(crate) to: *mut c_void,
    pub(crate) count: i64,
}

/// `Chunk` of `cuda/training/tensors.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Chunk {
    pub(crate) tensor: c_int,
    pub(crate) index: c_int,
}

/// `Factored` of `cuda/training/adafactor.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Factored {
    pub(crate) parameter: *mut f32,
    pub(crate) mean: *mut f32,
    pub(crate) row_moments: *mut f32,
    pub(crate) column_moments: *mut f32,
    pub(crate) gradient: *const f32,
    pub(crate) rows: i64,
    pub(crate) width: i64,
}

/// `Adafactor` of `cuda/training/adafactor.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Adafactor {
    pub(crate) learning_rate: f32,
    pub(crate) least_scale: f32,
    pub(crate) beta1: f32,
    pub(crate) rest1: f32,
    pub(crate) decay: f32,
    pub(crate) rest: f32,
    pub(crate) epsilon: f32,
    pub(crate) clip_threshold: f32,
    pub(crate) weight_decay: f32,
    pub(crate) gradient_scale: f32,
}

/// `Room` of `cuda/training/adafactor.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct AdafactorRoom {
    pub(crate) partials: *mut f32,
    pub(crate) column_factors: *mut f32,
    pub(crate) squares: *mut f64,
    pub(crate) sizes: *mut f32,
}

/// Declares launchers that differ in the type of their numbers only, and the type of such a function. The last argument of each
/// is a stream.
macro_rules! launchers {
    ($($type:ident = $($name:ident)|+ => $arguments:tt;)*) => {
        $(
            launchers!(@type $type $arguments);
            $(launchers!(@function $name $arguments);)+
        )*
    };
    (@type $type:ident ($($argument:ident: $kind:ty),* $(,)?)) => {
        pub(crate) type $type = unsafe extern "C" fn($($argument: $kind,)* stream: Stream) -> c_int;
    };
    (@function $name:ident ($($argument:ident: $kind:ty),* $(,)?)) => {
        unsafe extern "C" {
            pub(crate) fn $name($($argument: $kind,)* stream: Stream) -> c_int;
        }
    };
}

launchers! {
    AttentionForward = epitome_attention_forward_warp_group_bf16 | epitome_attention_forward_bf16
        | epitome_attention_forward_any_f32 | epitome_attention_forward_any_bf16
        => (problem: *const Problem, output: *mut c_void, log_sum_exp: *mut f32);
    AttentionDelta = epitome_attention_delta_f32 | epitome_attention_delta_bf16
        => (output: *const c_void, gradient: *const c_void, delta: *mut f32, rows: i64, heads: c_int, size: c_int);
    AttentionBackward = epitome_attention_backward_any_f32 | epitome_attention_backward_any_bf16 => (
        problem: *const Problem, gradient: *const c_void, log_sum_exp: *const f32, delta: *const f32,
        dq: *mut c_void, dk: *mut c_void, dv: *mut c_void,
    );
    AttentionBackwardQueries = epitome_attention_backward_queries_warp_group_bf16
        | epitome_attention_backward_queries_bf16 => (
        problem: *const Problem, output: *const c_void, gradient: *const c_void, log_sum_exp: *const f32, delta: *mut f32,
        dq: *mut c_void,
    );
    AttentionBackwardKeys = epitome_attention_backward_keys_warp_group_bf16 | epitome_attention_backward_keys_bf16 => (
        problem: *const Problem, gradient: *const c_void, log_sum_exp: *const f32, delta: *const f32,
        dk: *mut c_void, dv: *mut c_void, partial_dk: *mut f32, partial_dv: *mut f32,
    );
    LayerNorm = epitome_layer_norm_f32 | epitome_layer_norm_bf16 => (
        x: *const c_void, residual: *const c_void, weight: *const f32, bias: *const f32, draws: Draws, first: u64,
        rows: i64, width: c_int, eps: f32, y: *mut c_void,
    );
    LayerNormBackward = epitome_layer_norm_backward_f32 | epitome_layer_norm_backward_bf16 => (
        x: *const c_void, residual: *const c_void, weight: *const f32, draws: Draws, first: u64, rows: i64, width: c_int, eps: f32,
        dy: *const c_void, dsum: *mut c_void, dx: *mut c_void, dweight: *mut f32, dbias: *mut f32, x_sum: *mut f32,
        partials: *mut f32, chunk: c_int,
    );
    BiasGelu = epitome_bias_gelu_f32 | epitome_bias_gelu_bf16
        => (x: *const c_void, bias: *const f32, y: *mut c_void, rows: i64, width: c_int, chunk: c_int);
    BiasGeluBackward = epitome_bias_gelu_backward_f32 | epitome_bias_gelu_backward_bf16 => (
        x: *const c_void, bias: *const f32, dy: *const c_void, dx: *mut c_void, y: *mut c_void, dbias: *mut f32,
        partials: *mut f32, rows: i64, width: c_int, chunk: c_int,
    );
    ColumnSums = epitome_column_sums_f32 | epitome_column_sums_bf16
        => (list: *const ColumnSum, count: c_int, partials: *mut f32, rows: i64, width: c_int, chunk: c_int);
    ApplyDropout = epitome_dropout_f32 | epitome_dropout_bf16
        => (x: *const c_void, y: *mut c_void, draws: Draws, first: u64, count: i64);
    Add = epitome_add_f32 | epitome_add_bf16 | epitome_add_f32_bf16
        => (sum: *mut c_void, x: *const c_void, factor: f32, pull: f32, count: i64);
    Embed = epitome_embed_f32 | epitome_embed_bf16 | epitome_embed_f32_bf16 => (
        table: *const c_void, ids: *const u32, positions: *const c_void, position_ids: *const u32, y: *mut c_void,
        rows: i64, width: c_int,
    );
    AccumulateRows = epitome_accumulate_rows_f32 | epitome_accumulate_rows_bf16 => (
        sums: *mut f32, gradient: *const c_void, ids: *const u32, starts: *const u32, places: *const u32, count: c_int,
        width: c_int,
    );
    CrossEntropy = epitome_cross_entropy_f32 | epitome_cross_entropy_f32_bf16 | epitome_cross_entropy_bf16 => (
        logits: *const c_void, gradient: *mut c_void, bias: *const f32, labels: *const c_int, offsets: *const c_int,
        tokens: *const c_int, weights: *const f32, rows: i64, stride: i64, vocabulary: c_int, smoothing: f32, scale: f32,
        nll: *mut f32, uniform: *mut f32,
    );
    GlobalSoftmax = epitome_global_softmax_f32 | epitome_global_softmax_bf16 => (
        count: c_int, tokens: c_int, stride: i64, draws: Draws, first: u32, lane_stride: i64, scores: *const f32,
        bias: *const f32, probabilities: *mut c_void, mass: *mut f32, log_sum_exp: *mut f32,
    );
    GlobalSoftmaxBackward = epitome_global_softmax_backward_f32 | epitome_global_softmax_backward_bf16 => (
        count: c_int, tokens: c_int, stride: i64, draws: Draws, first: u32, lane_stride: i64, scores: *const f32,
        products: *const f32, bias: *const f32, mass_gradient: *const f32, log_sum_exp: *const f32,
        score_gradients: *mut c_void, probabilities: *mut c_void, bias_gradient: *mut f32,
    );
    SplitLanes = epitome_split_lanes_f32 | epitome_split_lanes_bf16
        => (count: c_int, width: c_int, first: *const f32, second: *const f32, parts: *mut c_void);
    JoinLanes = epitome_join_lanes_f32 | epitome_join_lanes_bf16
        => (count: c_int, width: c_int, parts: *const f32, rows: *mut f32);
    FoldHeads = epitome_fold_heads_f32 | epitome_fold_heads_bf16 => (
        rows: c_int, heads: c_int, size: c_int, width: c_int, x: *const c_void, weight: *const f32, bias: *const f32,
        scale: f32, y: *mut f32,
    );
    ProjectHeads = epitome_project_heads_f32 | epitome_project_heads_bf16 => (
        rows: c_int, heads: c_int, size: c_int, width: c_int, y: *const f32, weight: *const f32, bias: *const f32,
        scale: f32, x: *mut c_void,
    );
    AddHeadGradients = epitome_add_head_gradients_f32 | epitome_add_head_gradients_bf16 => (
        rows: c_int, heads: c_int, size: c_int, width: c_int, x: *const c_void, y: *const f32, scale: f32,
        weight: *mut f32, bias: *mut f32,
    );
    ChangeRows = epitome_change_rows_f32 | epitome_change_rows_bf16 => (
        change: c_int, matrix: *mut c_void, index: *const u32, rows: *mut c_void, count: c_int, width: i64,
    );
    PastAttention = epitome_past_attention_f32 | epitome_past_attention_bf16 => (
        q: *const c_void, new_keys: *const c_void, new_values: *const c_void, stride: i64, keys: *mut c_void,
        values: *mut c_void, places: *const u32, lengths: *const u32, ancestors: *const u32, reach: c_int, rows: c_int,
        heads: c_int, size: c_int, scale: f32, output: *mut c_void,
    );
    TopK = epitome_top_k_f32 | epitome_top_k_bf16 => (
        logits: *const c_void, bias: *const f32, rows: i64, stride: i64, vocabulary: c_int, k: c_int,
        room: *mut c_void, values: *mut f32, indices: *mut c_int,
    );
}

unsafe extern "C" {
    pub(crate) fn epitome_attention_reduce_global_bf16(
        problem: *const Problem,
        partial_dk: *const f32,
        partial_dv: *const f32,
        dk: *mut c_void,
        dv: *mut c_void,
        stream: Stream,
    ) -> c_int;
    pub(crate) fn epitome_attention_merge_splits_bf16(
        query_offsets: *const c_int,
        splits: c_int,
        rows: c_int,
        heads: c_int,
        size: c_int,
        parts: *const c_void,
        part_sums: *const f32,
        output: *mut c_void,
        log_sum_exp: *mut f32,
        stream: Stream,
    ) -> c_int;
    pub(crate) fn epitome_attention_add_splits_bf16(
        query_offsets: *const c_int,
        splits: c_int,
        rows: c_int,
        heads: c_int,
        size: c_int,
        parts: *const c_void,
        sums: *mut c_void,
        stream: Stream,
    ) -> c_int;
    pub(crate) fn epitome_adamw_step(
        tensors: *const Trained,
        chunks: *const Chunk,
        chunk_count: c_int,
        betas: *const Betas,
        gradient_scale: f32,
        stream: Stream,
    ) -> c_int;
    pub(crate) fn epitome_round_all(
        tensors: *const Rounded,
        chunks: *const Chunk,
        chunk_count: c_int,
        stream: Stream,
    ) -> c_int;
    pub(crate) fn epitome_adafactor_step(
        tensor: *const Factored,
        hyper: *const Adafactor,
        rooms: *const AdafactorRoom,
        stream: Stream,
    ) -> c_int;
    pub(crate) fn epitome_sum_of_squares(
        tensors: *const Values,
        chunks: *const Chunk,
        chunk_count: c_int,
        squares: *mut f64,
        total: *mut f64,
        stream: Stream,
    ) -> c_int;
    pub(crate) fn epitome_few_rows_bf16(
        x: *const c_void,
        count: c_int,
        width: c_int,
        steps: c_int,
        residual: *const c_void,
        norm_weight: *const f32,
        norm_bias: *const f32,
        eps: f32,
        normalised: *mut c_void,
        weight: *const c_void,
        bias: *const f32,
        gelu: c_int,
        outputs: c_int,
        y: *mut c_void,
        stream: Stream,
    ) -> c_int;
    pub(crate) fn epitome_head_bf16(
        x: *const c_void,
        count: c_int,
        width: c_int,
        weight: *const c_void,
        bias: *const f32,
        outputs: c_int,
        logits: *mut f32,
        stride: i64,
        stream: Stream,
    ) -> c_int;
    pub(crate) fn epitome_memory_attention_bf16(
        problem: *const Problem,
        partial_context: *mut f32,
        partial_log_sum_exp: *mut f32,
        arrivals: *mut c_int,
        output: *mut c_void,
        stream: Stream,
    ) -> c_int;
}
