//! [`cross_entropy`], [`cross_entropy_backward`], [`token_log_probabilities`].

use super::{compute, refuse_shared, refuse_tracked, tensor, update};
use crate::cpu::cross_entropy::{Head, LossGradient, RowLoss};
use candle_core::{Result, Tensor, bail};

/// The target of a position that has none.
pub const IGNORE_INDEX: i64 = -100;

/// Cross-entropy of a batch, summed, not averaged: divide by the tokens of the whole optimizer step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Sum over the targets of `(1 - e) nll + e * mean over the vocabulary of -log p`, e the label smoothing, in nats.
    pub loss: f64,
    /// Sum over the targets of -log p(target), in nats.
    pub nll: f64,
    /// Number of targets.
    pub tokens: usize,
}

impl std::ops::AddAssign for Loss {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.nll += other.nll;
        self.tokens += other.tokens;
    }
}

/// Loss of the tied output head: logits `hidden table^T + bias` with `hidden` `[T, d]`, `table` `[V, d]`, `bias` `[V]` and
/// T targets, where -100 means none. Records no graph; logits of some rows at a time (64 MiB) are all it stores.
///
/// # Errors
/// When the shapes do not fit, a tensor is in a graph, or a target is neither -100 nor in `0..V`.
pub fn cross_entropy(
    hidden: &Tensor,
    table: &Tensor,
    bias: Option<&Tensor>,
    targets: &[i64],
    label_smoothing: f64,
) -> Result<Loss> {
    Ok(total(&row_losses(hidden, table, bias, targets)?.1, label_smoothing))
}

/// log p(target), in nats, of every position; 0 where the target is -100. Arguments and errors as [`cross_entropy`].
///
/// # Errors
/// As [`cross_entropy`].
pub fn token_log_probabilities(
    hidden: &Tensor,
    table: &Tensor,
    bias: Option<&Tensor>,
    targets: &[i64],
) -> Result<Vec<f32>> {
    let (active, losses) = row_losses(hidden, table, bias, targets)?;
    let mut log_probabilities = vec![0.0; targets.len()];
    for ((row, _), loss) in active.iter().zip(losses) {
        log_probabilities[*row] = -loss.nll as f32;
    }
    Ok(log_probabilities)
}

/// [`cross_entropy`], with the gradient `[T, d]` of `scale * loss` in `hidden`; the table's gradient is added to
/// `table_gradient` `[V, d]` in place, unless there is none because the table is not trained.
///
/// # Errors
/// As [`cross_entropy`], and when `table_gradient` does not have the table's shape.
pub fn cross_entropy_backward(
    hidden: &Tensor,
    table: &Tensor,
    bias: Option<&Tensor>,
    targets: &[i64],
    label_smoothing: f64,
    scale: f64,
    table_gradient: Option<&Tensor>,
) -> Result<(Loss, Tensor)> {
    let (width, vocabulary) = check(hidden, table, bias)?;
    if let Some(sum) = table_gradient {
        if sum.dims() != table.dims() {
            bail!("cross_entropy: gradient {:?} does not fit table {:?}", sum.dims(), table.dims());
        }
        refuse_shared("cross_entropy", sum, &[hidden, table])?;
    }
    let active = active_rows(hidden, table, targets)?;
    let bias: Option<Vec<f32>> = bias.map(Tensor::to_vec1).transpose()?;
    let gradient = LossGradient { scale, smoothing: label_smoothing };
    let (losses, gradient) = compute("cross_entropy", [hidden, table], |[hidden, table]| {
        let head = Head { hidden, table, bias: bias.as_deref(), active: &active, width, vocabulary };
        match table_gradient {
            None => Ok(head.backward(gradient, None)),
            Some(sum) => update(sum, |sum| head.backward(gradient, Some(sum))),
        }
    })??;
    Ok((total(&losses, label_smoothing), tensor(gradient, hidden.shape())?))
}

/// The rows with a target, with it, and their losses.
type RowLosses = (Vec<(usize, usize)>, Vec<RowLoss>);

fn row_losses(hidden: &Tensor, table: &Tensor, bias: Option<&Tensor>, targets: &[i64]) -> Result<RowLosses> {
    let (width, vocabulary) = check(hidden, table, bias)?;
    let active = active_rows(hidden, table, targets)?;
    let bias: Option<Vec<f32>> = bias.map(Tensor::to_vec1).transpose()?;
    let losses = compute("cross_entropy", [hidden, table], |[hidden, table]| {
        Head { hidden, table, bias: bias.as_deref(), active: &active, width, vocabulary }.losses()
    })?;
    Ok((active, losses))
}

/// Checks shapes, and that nothing is in a graph; returns d and V.
fn check(hidden: &Tensor, table: &Tensor, bias: Option<&Tensor>) -> Result<(usize, usize)> {
    for input in [hidden, table].into_iter().chain(bias) {
        refuse_tracked("cross_entropy", input)?;
    }
    match (hidden.dims(), table.dims()) {
        (&[_, width], &[vocabulary, columns]) if width == columns && width > 0 && vocabulary > 0 => match bias {
            Some(bias) if bias.dims() != [vocabulary] => {
                bail!("cross_entropy: bias {:?} does not fit table {:?}", bias.dims(), table.dims())
            }
            _ => Ok((width, vocabulary)),
        },
        (hidden, table) => bail!("cross_entropy: hidden {hidden:?} and table {table:?} must be [T, d] and [V, d]"),
    }
}

fn active_rows(hidden: &Tensor, table: &Tensor, targets: &[i64]) -> Result<Vec<(usize, usize)>> {
    let (rows, vocabulary) = (hidden.dim(0)?, table.dim(0)?);
    if targets.len() != rows {
        bail!("cross_entropy: {} targets for hidden {:?}", targets.len(), hidden.dims());
    }
    let mut active = Vec::with_capacity(rows);
    for (row, target) in targets.iter().enumerate() {
        match usize::try_from(*target) {
            Ok(target) if target < vocabulary => active.push((row, target)),
            _ if *target == IGNORE_INDEX => (),
            _ => bail!("cross_entropy: target {target} at position {row} is not in a vocabulary of {vocabulary}"),
        }
    }
    Ok(active)
}

fn total(losses: &[RowLoss], smoothing: f64) -> Loss {
    let nll: f64 = losses.iter().map(|loss| loss.nll).sum();
    let uniform: f64 = losses.iter().map(|loss| loss.uniform).sum();
    // Without smoothing an infinite `uniform` must not turn the loss into NaN.
    let loss = if smoothing == 0.0 { nll } else { (1.0 - smoothing) * nll + smoothing * uniform };
    Loss { loss, nll, tokens: losses.len() }
}
