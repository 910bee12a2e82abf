//! [`cross_entropy`], [`cross_entropy_backward`], [`token_log_probabilities`].

use super::{compute, cpu_values, cpu_values_mut, refuse_tracked, tensor};
use crate::cpu::cross_entropy::{Head, LossGradient, RowLoss};
use candle_core::{CpuStorage, InplaceOp3, Layout, Result, Tensor, bail};
use std::sync::OnceLock;

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
/// `table_gradient` `[V, d]` in place.
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
    table_gradient: &Tensor,
) -> Result<(Loss, Tensor)> {
    if table_gradient.dims() != table.dims() {
        bail!("cross_entropy: gradient {:?} does not fit table {:?}", table_gradient.dims(), table.dims());
    }
    let op = HeadBackward {
        sizes: check(hidden, table, bias)?,
        active: active_rows(hidden, table, targets)?,
        bias: bias.map(Tensor::to_vec1).transpose()?,
        gradient: LossGradient { scale, smoothing: label_smoothing },
        result: OnceLock::new(),
    };
    table_gradient.inplace_op3(&hidden.contiguous()?, &table.contiguous()?, &op)?;
    match op.result.into_inner() {
        Some((losses, gradient)) => Ok((total(&losses, label_smoothing), tensor(gradient, hidden.shape())?)),
        None => bail!("cross_entropy: the backward did not run"),
    }
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

struct HeadBackward {
    sizes: (usize, usize),
    active: Vec<(usize, usize)>,
    bias: Option<Vec<f32>>,
    gradient: LossGradient,
    result: OnceLock<(Vec<RowLoss>, Vec<f32>)>,
}

impl InplaceOp3 for HeadBackward {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(
        &self,
        table_gradient: &mut CpuStorage,
        lg: &Layout,
        hidden: &CpuStorage,
        lh: &Layout,
        table: &CpuStorage,
        lt: &Layout,
    ) -> Result<()> {
        let head = Head {
            hidden: cpu_values(self.name(), hidden, lh)?,
            table: cpu_values(self.name(), table, lt)?,
            bias: self.bias.as_deref(),
            active: &self.active,
            width: self.sizes.0,
            vocabulary: self.sizes.1,
        };
        let table_gradient = cpu_values_mut(self.name(), table_gradient, lg)?;
        self.result.get_or_init(|| head.backward(self.gradient, table_gradient));
        Ok(())
    }
}
