//! ROUGE between texts: the numbers of Python's `rouge_score` 0.1.2, computed fast and in little memory.
//!
//! ```
//! use rouge::{Options, score};
//!
//! let reference = "The quick brown fox\njumps over the lazy dog.";
//! let prediction = "The dog is lazy.\nA brown fox jumps.";
//! let found = score(reference, prediction, &Options { stemmer: true });
//! assert_eq!(found.rouge1.recall, 6.0 / 9.0);
//! assert_eq!(found.rouge_l.precision, 4.0 / 8.0);
//! assert_eq!(found.rouge_lsum.f1, 2.0 * 5.0 / 17.0);
//! ```
//!
//! # What is computed
//!
//! - [`score`] compares a prediction with one reference, [`score_multi`] with several (the best F1 counts, for each
//!   metric on its own; [`score_metrics`] takes any list of metrics), [`score_batch`] many pairs in parallel.
//! - [`Pair`] tokenizes two texts once and then gives any [`Metric`], also ROUGE-3 and beyond.
//! - [`bootstrap`] turns the scores of many documents into a mean and a confidence interval;
//!   [`bootstrap_means`] does so for other values.
//! - [`select`] finds the sentences of a document that match a reference best.
//! - [`tokenize`] shows the words that are compared, [`visit_words`] also where they stand; [`Vocabulary`] numbers them.
//!
//! ROUGE-L treats a text as one sequence. ROUGE-Lsum goes by lines: put each sentence on a line of its own. What the
//! literature prints as "ROUGE-L" of long summaries is usually ROUGE-Lsum.
//!
//! # What is not
//!
//! The crate does not split sentences, read files, or know any language but the English of its stemmer: like
//! `rouge_score` it sees only the letters a to z and digits, so text in other scripts has no words.
//!
//! # Modules
//!
//! `tokenize` (with `porter`, the stemmer) turns text into numbers, `ngram` and `lcs` (over the bit masks of `columns`)
//! count matches, `pair` makes scores of the counts, `bootstrap` aggregates them with what [`resampling`] offers, and `selection` searches for
//! the best sentences.

#![forbid(unsafe_code)]

mod bootstrap;
mod columns;
mod lcs;
mod ngram;
mod pair;
mod porter;
pub mod resampling;
mod score;
mod selection;
mod tokenize;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

use rayon::prelude::*;

pub use bootstrap::{Aggregate, Interval, bootstrap, bootstrap_means};
pub use pair::Pair;
pub use score::{Metric, Score, UnknownMetric};
pub use selection::{Selection, select};
pub use tokenize::{Vocabulary, tokenize, visit_words};

/// How texts are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Compare the stems of words longer than three letters (the Porter stemmer as NLTK has it). Off by default.
    pub stemmer: bool,
}

/// The four scores that summarization papers report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rouge {
    /// Overlap of words.
    pub rouge1: Score,
    /// Overlap of word pairs.
    pub rouge2: Score,
    /// Longest common subsequence of the whole texts.
    pub rouge_l: Score,
    /// Union of longest common subsequences by line.
    pub rouge_lsum: Score,
}

/// ROUGE-1, 2, L and Lsum of `prediction` against `reference`. An empty text scores 0.
pub fn score(reference: &str, prediction: &str, options: &Options) -> Rouge {
    score_multi(&[reference], prediction, options)
}

/// [`score`] against several references: for each metric the reference with the best F1, the first of equal ones.
///
/// ```
/// use rouge::{Options, score_multi};
///
/// let found = score_multi(&["no match", "two words here"], "two words", &Options::default());
/// assert_eq!(found.rouge1.precision, 1.0);
/// ```
///
/// Without references every score is 0.
pub fn score_multi<S: AsRef<str>>(references: &[S], prediction: &str, options: &Options) -> Rouge {
    let metrics = [Metric::N(1), Metric::N(2), Metric::L, Metric::Lsum];
    let scores = score_metrics(references, prediction, &metrics, options);
    Rouge { rouge1: scores[0], rouge2: scores[1], rouge_l: scores[2], rouge_lsum: scores[3] }
}

/// [`score_multi`] for metrics of your choice: one score for each, in their order.
///
/// ```
/// use rouge::{Metric, Options, score_metrics};
///
/// let metrics = [Metric::N(3), Metric::N(4)];
/// let found = score_metrics(&["a b c d"], "a b c x", &metrics, &Options::default());
/// assert_eq!((found[0].recall, found[1].recall), (0.5, 0.0));
/// ```
pub fn score_metrics<S: AsRef<str>>(
    references: &[S],
    prediction: &str,
    metrics: &[Metric],
    options: &Options,
) -> Vec<Score> {
    let references = references.iter().map(AsRef::as_ref);
    let pairs: Vec<Pair> = references.map(|text| Pair::new(text, prediction, options)).collect();
    let better = |best: Score, next: Score| if next.f1 > best.f1 { next } else { best };
    let best = |&metric: &Metric| {
        let scores = pairs.iter().map(|pair| pair.score(metric));
        scores.reduce(better).unwrap_or_default()
    };
    metrics.iter().map(best).collect()
}

/// [`score`] of many `(reference, prediction)` pairs, in their order, on all threads of the current rayon pool.
///
/// ```
/// use rouge::{Options, score_batch};
///
/// let pairs = [("a b c", "a b"), ("d e", "x")];
/// let f1: Vec<f64> = score_batch(&pairs, &Options::default()).iter().map(|s| s.rouge1.f1).collect();
/// assert_eq!(f1, [0.8, 0.0]);
/// ```
pub fn score_batch<R, P>(pairs: &[(R, P)], options: &Options) -> Vec<Rouge>
where
    R: AsRef<str> + Sync,
    P: AsRef<str> + Sync,
{
    let pairs = pairs.par_iter();
    pairs.map(|(reference, prediction)| score(reference.as_ref(), prediction.as_ref(), options)).collect()
}
