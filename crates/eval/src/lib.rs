//! Predictions and references in, a report out.
//!
//! [`evaluate`] joins [`Prediction`]s and [`Reference`]s by id, scores each record with ROUGE-1, 2, L and Lsum, and gives a
//! [`Report`]: means with bootstrap intervals, the scores of every record, lengths and, when the documents are known, the
//! lead and tail baselines. A report renders itself as a table for the terminal, as JSON, Markdown and HTML.
//!
//! ```
//! use epitome_eval::{Options, Prediction, Reference, evaluate};
//!
//! let predictions = [Prediction { id: "a".into(), summary: "A cat sat.".into() }];
//! let references = [Reference { id: "a".into(), references: vec!["The cat sat.".into()], document: None }];
//! let report = evaluate(&predictions, &references, &Options::default())?;
//! println!("{}", report.table());
//! assert_eq!(report.scores.get("rouge1").map(|score| score.recall.mean), Some(2.0 / 3.0));
//! # Ok::<(), epitome_eval::Error>(())
//! ```
//!
//! The crate reads no files (its callers do) and knows nothing of models or tensors; [`Report::write`] is its only output.
//!
//! # Modules
//!
//! `input` and `join`: what comes in; `options`: how it is compared; `baselines`; `evaluate` makes the
//! `report`, from which `cells` makes the rows and notes that `render` (text, Markdown) and `html` lay out; `files`
//! writes.

#![forbid(unsafe_code)]

mod baselines;
mod cells;
mod error;
mod evaluate;
mod files;
mod html;
mod input;
mod join;
mod lengths;
mod options;
mod render;
mod report;

pub use error::{Error, Result};
pub use evaluate::{baselines, evaluate};
pub use input::{Prediction, Reference};
pub use lengths::LengthStatistics;
pub use options::{Options, SentenceSplit, UnknownSplit};
pub use report::{Baseline, Estimate, Lengths, MetricScores, RecordScores, Report, Scores};
