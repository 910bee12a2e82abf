//! The searches against `transformers`, against brute force, and against themselves in other batches.

mod batches;
mod brute_force;
mod dead_ends;
mod model;
mod reference;
