//! The kernels of `cuda/`, which nvcc compiles for a GPU (feature `cuda`) and a C++ compiler for an emulation of one (feature
//! `cuda-emulation`), where every thread of a block is a fiber: so indices, masks, barriers and sums are tested anywhere.
//!
//! | module | contents |
//! |---|---|
//! | `ffi` | the launchers and their argument structs |
//! | `plan` | what attention has to know of the documents of a batch, as one array for the device |
//! | `attention` | the kernels on slices, which the emulation reads in place |

// Until tensors on a GPU come here, only the emulation calls the launchers.
#![cfg_attr(not(feature = "cuda-emulation"), allow(dead_code))]

mod ffi;
mod plan;

#[cfg(feature = "cuda-emulation")]
mod attention;
#[cfg(feature = "cuda-emulation")]
mod element;

#[cfg(feature = "cuda-emulation")]
pub use attention::{Attended, Inputs, attention_backward, attention_forward};
#[cfg(feature = "cuda-emulation")]
pub use element::Element;
pub use plan::Plan;

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
