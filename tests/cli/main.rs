//! The command line end to end, on a tiny fresh model.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod attribution;
mod bad_input;
mod data;
mod decode;
mod evaluate;
mod extractive;
mod fixture;
#[cfg(all(feature = "mpi", feature = "cuda-emulation"))]
mod gpus;
mod memory;
mod models;
mod monitoring;
#[cfg(feature = "mpi")]
mod mpi;
mod optimization;
mod outputs;
#[cfg(feature = "mpi")]
mod processes;
mod protection;
mod refusals;
mod resume;
mod resume_decoding;
mod score;
mod train;
