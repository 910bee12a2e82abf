//! The differentiable operations LED needs and candle lacks, each one function on candle tensors, on the CPU in f32.
//!
//! Documents of a batch are packed end to end ([`Segments`]); only attention looks at their borders. An operation is a
//! candle custom op with a hand-written backward, or an update in place for what training does outside the graph. This
//! crate knows nothing of models, files or text.
//!
//! | module | contents |
//! |---|---|
//! | `segments`, `visibility`, `random` | documents of a batch, masks of attention, counter-based dropout |
//! | `ops` | the public operations: they check shapes, reach into tensors and tie forward to backward |
//! | `cpu` | the kernels on plain slices |
//! | `precision` | what the products of inference are made of |
//! | `process` | settings of the process: memory that is freed stays at hand, candle's own threads are off |
//!
//! | operation | in the graph |
//! |---|---|
//! | [`attention`], [`banded_attention`], [`global_attention`] | yes |
//! | [`linear`], [`head_linear`], [`gelu`], [`layer_norm`], [`add_layer_norm`], [`dropout`] | yes |
//! | [`gather_rows`], [`pull_back`] | yes |
//! | [`embed`], [`write_rows`], [`accumulate_rows`], [`add_assign`], [`scale_assign`], [`sum_of_squares`] | no |
//! | [`cross_entropy`], [`cross_entropy_backward`], [`token_log_probabilities`], [`adamw_step`] | no |
//! | [`linear_backward`], [`linear_input_gradient`], [`add_linear_input_gradient`], [`layer_norm_backward`] | no |
//! | [`gelu_backward`], [`attention_forward`], [`attention_backward`], [`dropout_part`] | no |
//! | [`AttentionMemory`], [`cached_attention`], [`PackedLinear`] | no |
//!
//! Errors: every operation returns a candle error that names it, and the shapes, when shapes do not fit, when a tensor
//! is not f32 or when it is not on the CPU.

mod cpu;
mod ops;
mod precision;
mod process;
mod random;
mod segments;
mod visibility;

pub use ops::adamw::{AdamW, adamw_step};
pub use ops::attention::{attention, banded_attention};
pub use ops::backward::{
    AffineSums, Attended, add_linear_input_gradient, attention_backward, attention_forward, gelu_backward,
    layer_norm_backward, linear_backward, linear_input_gradient,
};
pub use ops::cross_entropy::{IGNORE_INDEX, Loss, cross_entropy, cross_entropy_backward, token_log_probabilities};
pub use ops::elementwise::{add_assign, dropout, dropout_part, gelu, pull_back, scale_assign, sum_of_squares};
pub use ops::global_attention::global_attention;
pub use ops::head_linear::head_linear;
pub use ops::layer_norm::{add_layer_norm, layer_norm};
pub use ops::linear::linear;
pub use ops::memory::AttentionMemory;
pub use ops::packed::PackedLinear;
pub use ops::past::{KeyValueRows, cached_attention};
pub use ops::rows::{accumulate_rows, embed, gather_rows, write_rows};
pub use precision::Precision;
pub use process::prepare_process;
pub use random::{Dropout, DropoutKey};
pub use segments::Segments;
pub use visibility::{Attention, Band, Visibility};
