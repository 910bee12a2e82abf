//! The reference's numbers, from the fixtures that `tests/reference` makes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod attention_mass;
mod fixture;
mod forward;
mod generate;
mod gradients;
mod models;
#[cfg(any(feature = "cuda", feature = "cuda-emulation"))]
mod narrow;
mod optimization;
mod overfit;
mod training;
