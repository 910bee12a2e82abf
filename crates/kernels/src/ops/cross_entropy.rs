//! [`cross_entropy`], [`cross_entropy_backward`], [`token_log_probabilities`].

use super::{compute, refuse_shared, refuse_tracked, tensor, update};
use crate::cpu::cross_entropy::{Head, LossGradient, RowLoss};
#[cfg(gpu)]
use crate::cuda;
use candle_core::{Result, Tensor, bail};

/// The target of a position that has none.
pub const IGNORE_INDEX: i64 = -100;

/// What a loss compares with the model's prediction.
#[derive(Clone, Copy, Debug)]
pub struct LossTargets<'a> {
    /// A token for each position; -100 where there is none.
    pub labels: &'a [i64],
    /// For each position the tokens that it is chosen from, ascending, its label among them: over these the probabilities sum
    /// to one. None is the whole vocabulary, and so is an empty list for all positions.
    pub choices: &'a [Vec<u32>],
    /// For each position what its part of [`Loss::loss`] and of the gradients is multiplied by; an empty list is 1 for all.
    pub weights: &'a [f32],
}

impl<'a, L: AsRef<[i64]> + ?Sized> From<&'a L> for LossTargets<'a> {
    fn from(labels: &'a L) -> Self {
        Self { labels: labels.as_ref(), choices: &[], weights: &[] }
    }
}

impl LossTargets<'_> {
    /// What a row's target is chosen from; nothing is the whole vocabulary.
    pub(crate) fn choices_of(&self, row: usize) -> &[u32] {
        self.choices.get(row).map_or(&[], Vec::as_slice)
    }

    /// What a row's loss is multiplied by.
    pub(crate) fn weight_of(&self, row: usize) -> f32 {
        self.weights.get(row).copied().unwrap_or(1.0)
    }

    /// The same of rows that are computed.
    fn weights_of(&self, active: &[(usize, usize)]) -> Vec<f32> {
        active.iter().map(|(row, _)| self.weight_of(*row)).collect()
    }

    /// Positions that have a target.
    fn tokens(&self) -> usize {
        self.labels.iter().filter(|label| **label != IGNORE_INDEX).count()
    }
}

/// Cross-entropy of a batch, summed, not averaged: divide by the tokens of the whole optimizer step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Weighted sum over the targets of `(1 - e) nll + e * mean over what it is chosen from of -log p`, e the label smoothing,
    /// in nats.
    pub loss: f64,
    /// Sum over the targets of -log p(target), in nats, without weights; p is over what the target is chosen from.
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

/// A loss that a GPU may not have computed yet.
#[derive(Debug)]
pub struct PendingLoss(Pending);

#[derive(Debug)]
enum Pending {
    Known(Loss),
    #[cfg(gpu)]
    OnGpu {
        losses: Vec<cuda::RowLosses>,
        weights: Vec<f32>,
        tokens: usize,
        smoothing: f64,
    },
}

impl PendingLoss {
    /// Waits for it.
    ///
    /// # Errors
    /// When the GPU has failed.
    pub fn read(self) -> Result<Loss> {
        match self.0 {
            Pending::Known(loss) => Ok(loss),
            #[cfg(gpu)]
            Pending::OnGpu { losses, weights, tokens, smoothing } => {
                let rows = losses.iter().map(cuda::RowLosses::read).collect::<Result<Vec<_>>>()?.concat();
                Ok(total(&rows, &weights, tokens, smoothing))
            }
        }
    }
}

/// Loss of the tied output head: logits `hidden table^T + bias` with `hidden` `[T, d]`, `table` `[V, d]`, `bias` `[V]` and
/// T targets. Records no graph; logits of some rows at a time (64 MiB) are all it stores. Behind the rows that have a bias the table
/// may have up to [`TABLE_ROWS`] - 1 rows of zeros, which are no tokens.
///
/// # Errors
/// When the shapes do not fit, a tensor is in a graph, a target is neither -100 nor in `0..V`, choices are not ascending or
/// without their target, or a weight is not a number from 0.
pub fn cross_entropy<'t>(
    hidden: &Tensor,
    table: &Tensor,
    bias: Option<&Tensor>,
    targets: impl Into<LossTargets<'t>>,
    label_smoothing: f64,
) -> Result<Loss> {
    let targets = targets.into();
    let (active, losses) = row_losses(hidden, table, bias, targets)?;
    Ok(total(&losses, &targets.weights_of(&active), targets.tokens(), label_smoothing))
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
    let (active, losses) = row_losses(hidden, table, bias, targets.into())?;
    let mut log_probabilities = vec![0.0; targets.len()];
    for ((row, _), loss) in active.iter().zip(losses) {
        log_probabilities[*row] = -loss.nll as f32;
    }
    Ok(log_probabilities)
}

/// What the rows of a table are a multiple of with which a GPU's products are fastest.
pub const TABLE_ROWS: usize = 8;

/// [`cross_entropy`], with the gradient `[T, d]` of `scale * loss` in `hidden`; the table's gradient is added to
/// `table_gradient` `[V, d]` in place, unless there is none because the table is not trained. On a GPU nobody waits for it but who
/// reads the loss.
///
/// # Errors
/// As [`cross_entropy`], and when `table_gradient` does not have the shape of the table's tokens.
pub fn cross_entropy_backward<'t>(
    hidden: &Tensor,
    table: &Tensor,
    bias: Option<&Tensor>,
    targets: impl Into<LossTargets<'t>>,
    label_smoothing: f64,
    scale: f64,
    table_gradient: Option<&Tensor>,
) -> Result<(PendingLoss, Tensor)> {
    let (width, vocabulary) = check(hidden, table, bias)?;
    if let Some(sum) = table_gradient {
        if sum.dims() != [vocabulary, width] {
            bail!("cross_entropy: gradient {:?} does not fit table {:?}", sum.dims(), table.dims());
        }
        refuse_shared("cross_entropy", sum, &[hidden, table])?;
    }
    let targets = targets.into();
    let active = active_rows(hidden, vocabulary, targets)?;
    let (weights, tokens) = (targets.weights_of(&active), targets.tokens());
    #[cfg(gpu)]
    if cuda::runs_on(hidden.device()) {
        let how = cuda::LossGradient { scale: scale as f32, smoothing: label_smoothing as f32 };
        let head = cuda::Head { hidden, table, bias, vocabulary, active: &active, targets };
        let (losses, gradient) = head.backward(how, table_gradient)?;
        return Ok((PendingLoss(Pending::OnGpu { losses, weights, tokens, smoothing: label_smoothing }), gradient));
    }
    let table = &table.narrow(0, 0, vocabulary)?;
    let bias: Option<Vec<f32>> = bias.map(Tensor::to_vec1).transpose()?;
    let gradient = LossGradient { scale, smoothing: label_smoothing };
    let (losses, gradient) = compute("cross_entropy", [hidden, table], |[hidden, table]| {
        let head = Head { hidden, table, bias: bias.as_deref(), active: &active, targets, width, vocabulary };
        match table_gradient {
            None => Ok(head.backward(gradient, None)),
            Some(sum) => update(sum, |sum| head.backward(gradient, Some(sum))),
        }
    })??;
    let loss = total(&losses, &weights, tokens, label_smoothing);
    Ok((PendingLoss(Pending::Known(loss)), tensor(gradient, hidden.shape())?))
}

/// The rows that are computed, with their targets, and their losses.
type RowLosses = (Vec<(usize, usize)>, Vec<RowLoss>);

fn row_losses(hidden: &Tensor, table: &Tensor, bias: Option<&Tensor>, targets: LossTargets) -> Result<RowLosses> {
    let (width, vocabulary) = check(hidden, table, bias)?;
    let active = active_rows(hidden, vocabulary, targets)?;
    #[cfg(gpu)]
    if cuda::runs_on(hidden.device()) {
        let losses = cuda::Head { hidden, table, bias, vocabulary, active: &active, targets }.losses()?;
        return Ok((active, losses));
    }
    let table = &table.narrow(0, 0, vocabulary)?;
    let bias: Option<Vec<f32>> = bias.map(Tensor::to_vec1).transpose()?;
    let losses = compute("cross_entropy", [hidden, table], |[hidden, table]| {
        Head { hidden, table, bias: bias.as_deref(), active: &active, targets, width, vocabulary }.losses()
    })?;
    Ok((active, losses))
}

/// Checks shapes, and that nothing is in a graph; returns d and V, the tokens.
fn check(hidden: &Tensor, table: &Tensor, bias: Option<&Tensor>) -> Result<(usize, usize)> {
    for input in [hidden, table].into_iter().chain(bias) {
        refuse_tracked("cross_entropy", input)?;
    }
    match (hidden.dims(), table.dims()) {
        (&[_, width], &[rows, columns]) if width == columns && width > 0 && rows > 0 => match bias.map(Tensor::dims) {
            None => Ok((width, rows)),
            Some(&[tokens]) if tokens == rows || tokens.next_multiple_of(TABLE_ROWS) == rows => Ok((width, tokens)),
            Some(bias) => bail!("cross_entropy: bias {bias:?} does not fit table {:?}", table.dims()),
        },
        (hidden, table) => bail!("cross_entropy: hidden {hidden:?} and table {table:?} must be [T, d] and [V, d]"),
    }
}

/// The rows whose target is not certain, with it.
fn active_rows(hidden: &Tensor, vocabulary: usize, targets: LossTargets) -> Result<Vec<(usize, usize)>> {
    let rows = hidden.dim(0)?;
    let LossTargets { labels, choices, weights } = targets;
    if labels.len() != rows {
        bail!("cross_entropy: {} targets for hidden {:?}", labels.len(), hidden.dims());
    }
    for (what, length) in [("choices", choices.len()), ("weights", weights.len())] {
        if length != 0 && length != rows {
            bail!("cross_entropy: {what} of {length} positions for hidden {:?}", hidden.dims());
        }
    }
    if let Some(weight) = weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
        bail!("cross_entropy: the weight {weight} is not a number from 0");
    }
    let mut active = Vec::with_capacity(rows);
    for (row, target) in labels.iter().enumerate() {
        match usize::try_from(*target) {
            Ok(target) if target < vocabulary => {
                let choices = targets.choices_of(row);
                check_choices(choices, target, row, vocabulary)?;
                // What is certain has neither a loss nor a gradient.
                if choices.len() != 1 {
                    active.push((row, target));
                }
            }
            _ if *target == IGNORE_INDEX => (),
            _ => bail!("cross_entropy: target {target} at position {row} is not in a vocabulary of {vocabulary}"),
        }
    }
    Ok(active)
}

fn check_choices(choices: &[u32], target: usize, row: usize, vocabulary: usize) -> Result<()> {
    if choices.is_empty() {
        return Ok(());
    }
    if !choices.is_sorted_by(|a, b| a < b) || choices.last().is_some_and(|&last| last as usize >= vocabulary) {
        bail!("cross_entropy: the choices at position {row} are not ascending tokens of a vocabulary of {vocabulary}");
    }
    if choices.binary_search(&(target as u32)).is_err() {
        bail!("cross_entropy: target {target} at position {row} is not among its choices");
    }
    Ok(())
}

/// The loss of rows with these weights.
fn total(losses: &[RowLoss], weights: &[f32], tokens: usize, smoothing: f64) -> Loss {
    debug_assert_eq!(losses.len(), weights.len(), "a weight for each row");
    let mut total = Loss { tokens, ..Loss::default() };
    for (RowLoss { nll, uniform, .. }, weight) in losses.iter().zip(weights) {
        // Without smoothing an infinite `uniform` must not turn the loss into NaN.
        let loss = if smoothing == 0.0 { *nll } else { (1.0 - smoothing) * nll + smoothing * uniform };
        total.loss += loss * f64::from(*weight);
        total.nll += nll;
    }
    total
}
