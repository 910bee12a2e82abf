//! What the search sees of a model and of a document, and what it returns.

use std::ops::Range;

use crate::Result;

/// Tokens of a row with their log-probabilities (nats), the best first and of equal ones the first.
pub type BestTokens = Vec<(u32, f32)>;

/// A model that continues several token sequences ("rows") by one token at a time.
///
/// Before the first [`step`](Stepper::step) there is one row for each document of the batch, in order. After each step
/// that is not the last, [`reorder`](Stepper::reorder) says which rows the next step continues. The rows of a document
/// stay next to each other, and documents stay in order.
pub trait Stepper {
    /// Number of entries in the vocabulary, V.
    fn vocab_size(&self) -> usize;

    /// Appends `last[r]` to row r and writes the logits of its next token: `logits` becomes `[last.len(), V]`, row-major.
    /// What `logits` holds before is meaningless; it is passed so that its memory is reused. The first call gets the
    /// decoder start token in every row.
    ///
    /// # Errors
    /// When the model fails; the search passes the error on.
    fn step(&mut self, last: &[u32], logits: &mut Vec<f32>) -> Result<()>;

    /// As [`step`](Stepper::step), but returns only the `count` most probable tokens of each row with their log-probabilities
    /// (nats), the best first and of equal ones the first. `None`, and no step is made, where all logits are had as soon. Where a
    /// logit is no number or there is no probability, the log-probabilities are none either.
    ///
    /// # Errors
    /// When the model fails; the search passes the error on.
    fn step_best(&mut self, last: &[u32], count: usize) -> Result<Option<Vec<BestTokens>>> {
        let _ = (last, count);
        Ok(None)
    }

    /// Row r of the next step continues row `parents[r]` of the step before, and belongs to the same document. A row may
    /// be continued several times or not at all, so the number of rows grows and shrinks; a document none of whose rows is
    /// named has ended.
    ///
    /// # Errors
    /// When the model fails; the search passes the error on.
    fn reorder(&mut self, parents: &[usize]) -> Result<()>;
}

/// What the search needs to know of a document, besides what the [`Stepper`] knows.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// The tokens that the encoder saw: `encoder_no_repeat_ngram_size` and `encoder_repetition_penalty` look at them.
    pub encoder_ids: &'a [u32],
    /// Positions of its passages, which `extractive` summaries are made of.
    pub passages: &'a [Range<usize>],
}

/// A finished summary of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The generated tokens: without the decoder start token, with the end token where one was generated.
    pub tokens: Vec<u32>,
    /// The sum of the processed log-probabilities (nats) of the tokens over `tokens.len() ^ length_penalty`.
    pub score: f32,
}

/// How far a search has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Tokens generated so far in each document that has not ended.
    pub generated: usize,
    /// The most tokens that a summary may have.
    pub max_new_tokens: usize,
    /// Documents that have ended.
    pub finished: usize,
    /// Documents in the batch.
    pub documents: usize,
    /// Rows in the last step.
    pub rows: usize,
}
