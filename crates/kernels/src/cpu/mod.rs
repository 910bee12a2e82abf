//! Kernels on plain slices: no tensors, no graph. Parallel with rayon's global pool; every result is independent
//! of the number of threads.

pub(crate) mod adafactor;
pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod cross_entropy;
pub(crate) mod elementwise;
pub(crate) mod global_attention;
pub(crate) mod heads;
mod int8;
pub(crate) mod layer_norm;
pub(crate) mod linear;
mod math;
pub(crate) mod matmul;
pub(crate) mod memory_attention;
pub(crate) mod packed;
mod panels;
pub(crate) mod past;
mod product;
pub(crate) mod rows;
mod shared;
mod softmax;
pub(crate) mod tile;
pub(crate) mod view;
