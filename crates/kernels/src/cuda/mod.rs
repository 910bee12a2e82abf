//! The kernels of `cuda/`, which nvcc compiles for a GPU (feature `cuda`) and a C++ compiler for an emulation of one (feature
//! `cuda-emulation`), where every thread of a block is a fiber: so indices, masks, barriers and sums are tested anywhere.
//!
//! Here they are functions on slices, whose numbers are copied to the memory of the kernels and back: for tests, which are the
//! same for both. Tensors on a GPU will come to the launchers themselves.
//!
//! | module | contents |
//! |---|---|
//! | `ffi` | the launchers and their argument structs |
//! | `plan` | what attention has to know of the documents of a batch, as one array for the device |
//! | `buffer`, `element` | numbers in the memory of kernels, and their types |
//! | `attention`, `rows`, `training`, `decoding` | the kernels on slices |

mod attention;
mod buffer;
mod decoding;
mod element;
mod ffi;
mod plan;
mod rows;
mod training;

pub use attention::{Attended, Inputs, attention_backward, attention_forward};
pub use decoding::{memory_attention, past_attention, top_k};
pub use element::Element;
pub use plan::Plan;
pub use rows::{
    NormInputs, accumulate_rows, bias_gelu, bias_gelu_backward, dropout_part, embed, layer_norm, layer_norm_backward,
    round_to_bf16, widen_to_f32,
};
pub use training::{LossGradient, RowLosses, Trained, clipped_adamw_step, cross_entropy};

use candle_core::{Result, bail};
use std::ffi::c_int;

/// What a launcher returned.
fn check(op: &str, code: c_int) -> Result<()> {
    match code {
        0 => Ok(()),
        1 => bail!("{op}: no kernel for these arguments"),
        code => bail!("{op}: CUDA error {code}"),
    }
}
