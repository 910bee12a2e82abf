//! The searches against `transformers`, against brute force, and against themselves in other batches.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod batches;
mod brute_force;
mod dead_ends;
mod extractive;
mod model;
mod reference;
