//! The best permitted tokens of a step, where the model has them sooner than all logits.

use crate::processors::{LogitsProcessor, LogitsProcessors};
use crate::{BestTokens, Error, Result, Stepper};

/// Tokens of a row, beyond which all logits are had as soon.
const MOST: usize = 64;

/// A row of a step: the document it belongs to, that document's rules, and what it holds, the decoder start token first.
pub(crate) struct Row<'a> {
    pub(crate) document: usize,
    pub(crate) processors: &'a LogitsProcessors<'a>,
    pub(crate) tokens: &'a [u32],
}

/// At least the `count` most probable permitted tokens of each row with their log-probabilities, the best first, or all there are.
/// `None`, and no step is made, where the rules need all scores or the stepper has no shorter way.
///
/// # Errors
/// When the stepper fails, or a log-probability is no number.
pub(crate) fn best_permitted<S: Stepper + ?Sized>(
    stepper: &mut S,
    rows: &[Row<'_>],
    count: usize,
) -> Result<Option<Vec<BestTokens>>> {
    let forbidden: Option<Vec<Vec<u32>>> = rows.iter().map(|row| row.processors.forbidden(row.tokens)).collect();
    let Some(forbidden) = forbidden else { return Ok(None) };
    let count = count.saturating_add(forbidden.iter().map(Vec::len).max().unwrap_or(0));
    let last: Option<Vec<u32>> = rows.iter().map(|row| row.tokens.last().copied()).collect();
    let (Some(last), true) = (last, count <= MOST) else { return Ok(None) };
    let count = count.min(stepper.vocab_size());
    let Some(mut best) = stepper.step_best(&last, count)? else { return Ok(None) };
    let found = best.iter().map(Vec::len).sum();
    if best.len() != rows.len() || found != rows.len() * count {
        return Err(Error::LogitsShape { found, rows: rows.len(), vocab_size: count });
    }
    for ((best, row), forbidden) in best.iter_mut().zip(rows).zip(&forbidden) {
        if best.iter().any(|(_, score)| score.is_nan()) {
            return Err(Error::Logits { document: row.document, position: row.tokens.len() });
        }
        // Sorted by `LogitsProcessors::forbidden`.
        best.retain(|(token, score)| *score > f32::NEG_INFINITY && forbidden.binary_search(token).is_err());
    }
    Ok(Some(best))
}
