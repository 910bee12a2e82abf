//! The tests of the crate as its users see it, in one program so that it is linked once.

mod batches;
mod documents;
mod records;
mod sources;
mod support;
mod tokenizer_files;
mod tokenizer_parity;
mod tokenizer_training;
