//! Predictions and references in, a report out.
//!
//! [`evaluate_streams`] joins the [`Predictions`] of one or more systems with [`Reference`]s by id, scores each record with
//! ROUGE-1, 2, L and Lsum, and gives a [`Report`]: means with bootstrap intervals, baselines made of the documents' own
//! sentences, tests of every difference, what the summaries are like, and the scores of every record. [`evaluate`] does so
//! for one system in memory. A report renders itself as tables for the terminal, as JSON, Markdown, LaTeX and HTML.
//!
//! ```
//! use epitome_eval::{Options, Prediction, Reference, evaluate};
//!
//! let predictions = [Prediction { id: "a".into(), summary: "A cat sat.".into(), ..Prediction::default() }];
//! let references = [Reference { id: "a".into(), references: vec!["The cat sat.".into()], documents: Vec::new() }];
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
//! `evaluate` goes through all records. `input` and `join`: what comes in, record by record; `options`: how it is compared;
//! `record`: what is found of one record, with `baselines` and `characteristics`; `gather` makes the `report` of all, with
//! `comparison` and the `lengths` of summaries; `cells` makes rows and notes that `render` (text, Markdown) and `html` lay out;
//! `files` writes. `error`: what can go wrong.

#![forbid(unsafe_code)]

mod baselines;
mod cells;
mod characteristics;
mod comparison;
mod error;
mod evaluate;
mod files;
mod gather;
mod html;
mod input;
mod join;
mod lengths;
mod options;
mod record;
mod render;
mod report;

pub use baselines::{BaselineInput, BaselineKind, UnknownBaseline};
pub use cells::Table;
pub use characteristics::{
    Alignment, Characteristics, LONGEST_NGRAM, LengthDistribution, LengthGroup, LengthRange, MeanOfRecords, Measures,
    POSITION_BINS, Profile, Profiler, SourceDocument, scores_by_document_length,
};
pub use comparison::{Comparison, ComparisonError, Comparisons, RANDOMIZATIONS, Role, System, SystemScores, compare};
pub use epitome_sentences::counted;
pub use error::{Error, Result};
pub use evaluate::{evaluate, evaluate_streams};
pub use input::{Input, Prediction, Predictions, Reference, Stream};
pub use lengths::LengthStatistics;
pub use options::{Options, SentenceSplit, SeveralReferences, UnknownChoice, UnknownSplit};
pub use report::{
    AblationPoint, Baseline, Estimate, MetricScores, RecordScores, Report, SCHEMA, Scores, SystemRecord, SystemReport,
};
