//! The operations LED needs and candle lacks, each one function on candle tensors: on the CPU in f32, on a GPU in f32 or bf16.
//!
//! Documents of a batch are packed end to end ([`Segments`]); only attention looks at their borders. An operation records no graph:
//! its backward is a function of its own, for networks that walk their layers themselves. This crate knows nothing of models, files or
//! text.
//!
//! | module | contents |
//! |---|---|
//! | `segments`, `visibility`, `random` | documents of a batch, masks of attention, counter-based dropout |
//! | `ops` | the public operations: they check shapes, reach into tensors and tie forward to backward |
//! | `cpu` | the kernels on plain slices |
//! | `cuda` | the same operations on a GPU (features `cuda` and `cuda-emulation`), to which those of `ops` turn |
//! | `device` | where to compute, as users name it |
//! | `collective` | sums of tensors over several processes |
//! | `precision` | what the products of inference are made of |
//! | `process`, `available` | settings of the process: memory that is freed stays at hand, candle's own threads are off; the memory it holds and can still get |
//!
//! | operation | its backward |
//! |---|---|
//! | [`linear`] | [`linear_backward`] for its parameters, [`bias_backward`] for the biases of several, [`linear_input_gradient`] or [`add_linear_input_gradient`] for its input |
//! | [`attention_forward`] | [`attention_backward`] |
//! | [`global_attention`] | [`global_attention_backward`] |
//! | [`fold_heads`], [`project_heads`] | [`head_projection_backward`] for their parameters, each other for their input |
//! | [`gather_rows`] | [`add_rows`] |
//! | [`layer_norm`], [`add_layer_norm`] | [`layer_norm_backward`], [`add_layer_norm_backward`] |
//! | [`gelu`] | [`gelu_backward`], [`gelu_rows_backward`] |
//! | [`dropout`], [`dropout_part`] | the same again |
//! | [`embed`] | [`accumulate_rows`] |
//! | [`cross_entropy`] | [`cross_entropy_backward`] |
//! | [`token_log_probabilities`], [`AttentionMemory`], [`cached_attention`], [`DecodingStep`], [`PackedLinear`] | none |
//!
//! All of these, backwards included, refuse a tensor that is in candle's graph: its gradient would silently end there.
//! Updates in place and sums take any tensor: [`write_rows`], [`add_rows`], [`accumulate_rows`], [`add_assign`], [`scale_assign`],
//! [`lerp_assign`], [`round_all`], [`sum_of_squares`], [`adamw_step`], [`adafactor_step`], and the running sums that backwards add to.
//!
//! Errors: every operation returns a candle error that names it, and the shapes, when shapes do not fit, when a tensor
//! is not f32 or, without GPU support, not on the CPU.

mod available;
mod collective;
mod cpu;
#[cfg(gpu)]
pub mod cuda;
mod device;
mod ops;
mod precision;
mod process;
mod random;
mod segments;
mod visibility;

pub use available::available_memory;
pub use candle_core::Device;
pub use collective::Collective;
pub use device::{DeviceName, gpu_memory, is_gpu, is_gpu_full};
pub use ops::adafactor::{Adafactor, adafactor_step};
pub use ops::adamw::{AdamW, AdamWParameter, adamw_step};
pub use ops::attention::{Attended, attention_backward, attention_forward};
pub use ops::cross_entropy::{
    IGNORE_INDEX, Loss, LossTargets, PendingLoss, TABLE_ROWS, cross_entropy, cross_entropy_backward,
    token_log_probabilities,
};
pub use ops::elementwise::{
    add_assign, dropout, dropout_part, gelu, gelu_backward, gelu_rows_backward, lerp_assign, round_all, scale_assign,
    sum_of_squares,
};
pub use ops::global_attention::{GlobalRows, Pooled, global_attention, global_attention_backward};
pub use ops::heads::{HeadProjection, fold_heads, head_projection_backward, project_heads};
pub use ops::layer_norm::{
    Norm, ResidualSum, add_layer_norm, add_layer_norm_backward, layer_norm, layer_norm_backward,
};
pub use ops::linear::{
    AffineSums, add_linear_input_gradient, bias_backward, linear, linear_backward, linear_input_gradient,
};
pub use ops::memory::AttentionMemory;
pub use ops::packed::{PackedLinear, read_best};
pub use ops::past::{KeyValueRows, cached_attention};
pub use ops::rows::{RowIndex, accumulate_rows, add_rows, embed, gather_rows, write_rows};
pub use ops::step::DecodingStep;
pub use ops::update;
pub use precision::Precision;
pub use process::{anonymous_memory_gib, peak_memory_gib, prepare_process, resident_memory_gib};
pub use random::{Dropout, DropoutKey, splitmix};
pub use segments::Segments;
pub use visibility::{Attention, Visibility};
