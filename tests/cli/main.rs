//! The command line end to end, on a tiny fresh model.

mod bad_input;
mod decode;
mod evaluate;
mod fixture;
mod models;
mod score;
mod train;
