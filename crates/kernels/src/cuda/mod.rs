//! The kernels of `cuda/`, which nvcc compiles for a GPU (feature `cuda`) and a C++ compiler for an emulation of one (feature
//! `cuda-emulation`), where every thread of a block is a fiber: so indices, masks, barriers and sums are tested anywhere.
//!
//! Here they are operations on tensors of a GPU, in f32 or bf16, which the public operations turn to where [`runs_on`] says so.
//! Emulated, tensors are the CPU's (`emulated`).
//!
//! | module | contents |
//! |---|---|
//! | `ffi` | the launchers and their argument structs |
//! | `nccl` | sums over the GPUs of several processes |
//! | `units` | which of the kernels for attention a device uses |
//! | `plan` | what attention has to know of the documents of a batch, as one array for the device |
//! | `place`, `element` | where the numbers of tensors lie, and their types |
//! | `key_splits` | attention of few queries to many keys |
//! | `few_rows` | layers of few rows, which decoding has, and their logits |
//! | `attention`, `rows`, `heads`, `indexed`, `elementwise`, `embedding`, `cross_entropy`, `optimizer`, `adafactor`, `decoding` | the kernels on tensors |
//! | `product` | products of matrices, by cuBLASLt |
//! | `step`, `recording` | what the kernels of a decoding step read, and their launches as one graph |
//! | `global_attention`, `head`, `linear`, `memory` | what is made of them and of candle's operations |

mod adafactor;
mod attention;
mod cross_entropy;
mod decoding;
mod element;
mod elementwise;
mod embedding;
mod few_rows;
mod ffi;
mod global_attention;
mod head;
mod heads;
mod indexed;
mod key_splits;
mod linear;
mod memory;
mod nccl;
mod optimizer;
mod place;
mod plan;
mod product;
mod recording;
mod rows;
mod step;
mod units;

pub(crate) use adafactor::adafactor_step;
pub use attention::{attention_backward, attention_forward};
pub use cross_entropy::{LossGradient, RowLosses, RowTargets, cross_entropy};
pub(crate) use decoding::find_top_k;
pub use decoding::{memory_attention, top_k};
pub use elementwise::{add_assign, dropout_part, lerp_assign};
pub(crate) use embedding::embed_step;
pub use embedding::{accumulate_rows, embed};
pub use global_attention::{global_attention, global_attention_backward};
pub(crate) use head::Head;
pub use heads::{fold_heads, head_projection_backward, project_heads};
pub use indexed::{add_rows, gather_rows, write_rows};
pub use linear::{Linear, dtype_of};
pub(crate) use linear::{add_input_gradient, input_gradient, linear, parameter_gradients};
pub use memory::{Memory, Past};
pub(crate) use nccl::Communicator;
pub(crate) use optimizer::{adamw_step, round_all, sum_of_squares};
#[cfg(feature = "cuda")]
pub(crate) use place::memory;
pub(crate) use place::room;
pub use place::{copies_between_launches, runs_on};
#[cfg(feature = "cuda-emulation")]
pub use place::{emulated, emulated_gpus};
pub(crate) use place::{gpu_count, open};
pub use plan::Plan;
pub(crate) use recording::Recording;
pub use rows::{NormInputs, bias_gelu, bias_gelu_backward, column_sums, layer_norm, layer_norm_backward};
pub(crate) use step::{Step, StepRows};
pub use units::Units;

use crate::device::GPU_IS_FULL;
use candle_core::{Result, bail};
use std::ffi::c_int;

/// `INVALID` of `cuda/platform.cuh`.
const NO_KERNEL: c_int = -1;

/// What a launcher returned.
fn check(op: &str, code: c_int) -> Result<()> {
    match code {
        0 => Ok(()),
        NO_KERNEL => bail!("{op}: no kernel for these arguments"),
        2 => bail!("{op}: {GPU_IS_FULL}"),
        code => bail!("{op}: CUDA error {code}"),
    }
}
