//! Files in, token ids out: the records, documents, tokenizers and batches that LED models read.
//!
//! This crate knows nothing of tensors, models or how they are trained and searched: its last word is vectors of token ids,
//! the positions that attend globally, and what the tokens of a target are chosen from.
//!
//! | module | what it holds |
//! |---|---|
//! | [`record`] | [`Record`]: one line of JSON Lines or row of Parquet, checked |
//! | [`reader`] | [`RecordReader`]: records as a stream from JSON Lines (plain, gzip or zstd), Parquet and standard input |
//! | [`fields`] | [`FieldNames`]: what the fields of a record are called in a file |
//! | [`document`] | [`read_document`]: a whole plain-text file |
//! | [`tokenizer`] | [`Tokenizer`]: byte-level BPE as LED and BART use it: load, train, save, encode, decode |
//! | [`source`](mod@source) | [`Source`] and [`Target`]: a record as the encoder and the loss see it |
//! | [`passages`] | [`Passage`]: the parts of documents that a summary can be traced to |
//! | [`extracts`] | [`Extracts`]: the summaries that passages of a document can make, for search and training |
//! | [`examples`] | [`Example`]: tokenized training pairs, made in parallel from a stream |
//! | [`store`] | [`ExampleStore`]: examples in a file, made once and found again by a [`TokenCache`] |
//! | [`objectives`] | [`Objectives`]: what an example teaches: its summary, or a task made from its document; [`Prompts`] |
//! | [`batches`] | [`BatchPlan`]: which examples form which step of which epoch |
//!
//! Nothing is cut unless a limit was given, and then the number of tokens cut is part of the result.

#![deny(unsafe_code)]

pub mod batches;
pub mod document;
mod error;
pub mod examples;
pub mod extracts;
pub mod fields;
mod input;
pub mod objectives;
pub mod passages;
mod random;
pub mod reader;
pub mod record;
pub mod source;
pub mod store;
pub mod tokenizer;

pub use batches::{BatchPlan, BatchSize, EpochBatches};
pub use document::read_document;
pub use error::{Error, Location, RecordProblem, Result, Unit};
pub use examples::{Example, Examples, Limits, Statistics, Targets, read_examples};
pub use extracts::Extracts;
pub use fields::FieldNames;
pub use input::{content_hash, open_text};
pub use objectives::{Denoising, Extraction, GapSentences, Mixture, ObjectiveOptions, Objectives, Prompts};
pub use passages::Passage;
pub use reader::RecordReader;
pub use record::{Content, Record};
pub use source::{Source, Target};
pub use store::{Cached, ExampleSource, ExampleStore, Origin, TokenCache};
pub use tokenizer::{SpecialTokens, Tokenizer, TrainerOptions};
