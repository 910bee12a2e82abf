//! Every operation against a plain f64 reference written out in the tests: outputs, gradients, odd shapes, bad input.

#![allow(clippy::unwrap_used)]

mod adafactor;
mod adamw;
mod attention;
mod attention_blocks;
mod attention_reference;
mod cached_attention;
mod cross_entropy;
#[cfg(any(feature = "cuda", feature = "cuda-emulation"))]
mod cuda;
mod dense;
mod global_attention;
mod heads;
mod linear;
mod memory;
mod memory_mass;
mod numbers;
mod packed;
mod packed_precisions;
mod refusals;
mod rows;
