//! The tests of the crate as its users see it, in one program so that it is linked once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod batches;
mod documents;
mod extracts;
mod fields;
mod objectives;
mod parquet_files;
mod passages;
mod records;
mod sources;
mod special_tokens;
mod stores;
mod support;
mod tokenizer_files;
mod tokenizer_parity;
mod tokenizer_training;
