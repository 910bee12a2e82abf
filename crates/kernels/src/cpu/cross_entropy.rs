//! The tied output head with cross-entropy, in chunks of rows: logits of a chunk, their softmax in place, and for
//! training `dz = scale weight (p - (1 - e) [v = target] - e / V)`, `dhidden = dz table`, `dtable += dz^T hidden`. Where a
//! target is chosen from some entries, p is over these, V is their number, and dz is 0 elsewhere. Only rows whose target is
//! not certain take part.

use super::math::{dispatch, exp, larger};
use super::matmul::{matmul, matmul_add};
use super::view::View;
use crate::ops::cross_entropy::LossTargets;
use rayon::prelude::*;

/// Logits of one chunk, in values (64 MiB).
const CHUNK_VALUES: usize = 16 << 20;

/// Independent partial sums of a row.
const LANES: usize = 16;

/// hidden [T, d], table [V, d], bias [V]; `active`: the rows that are computed, with their targets.
pub(crate) struct Head<'a> {
    pub(crate) hidden: &'a [f32],
    pub(crate) table: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) active: &'a [(usize, usize)],
    pub(crate) targets: LossTargets<'a>,
    pub(crate) width: usize,
    pub(crate) vocabulary: usize,
}

/// What a row's logits say about its target.
#[derive(Clone, Copy, Default)]
pub(crate) struct RowLoss {
    /// -log p(target).
    pub(crate) nll: f64,
    /// Mean over what it is chosen from of -log p.
    pub(crate) uniform: f64,
    /// Sum of exp(logit - maximum).
    sum: f32,
}

#[cfg(gpu)]
impl RowLoss {
    /// Of a row whose logits are elsewhere.
    pub(crate) fn new(nll: f64, uniform: f64) -> Self {
        Self { nll, uniform, sum: 0.0 }
    }
}

/// How a row's loss becomes the gradient of its logits.
#[derive(Clone, Copy)]
pub(crate) struct LossGradient {
    pub(crate) scale: f64,
    pub(crate) smoothing: f64,
}

impl Head<'_> {
    /// The losses of the active rows.
    pub(crate) fn losses(&self) -> Vec<RowLoss> {
        self.chunks(|_, _, _, _| ())
    }

    /// The losses, and the gradients of hidden [T, d] (returned) and of the table (added to `table_gradient`, if
    /// there is one).
    pub(crate) fn backward(
        &self,
        gradient: LossGradient,
        mut table_gradient: Option<&mut [f32]>,
    ) -> (Vec<RowLoss>, Vec<f32>) {
        let mut hidden_gradient = vec![0.0; self.hidden.len()];
        let losses = self.chunks(|active, hidden, probabilities, losses| {
            self.logit_gradients(active, probabilities, losses, gradient);
            let dz = View::dense(probabilities, active.len(), self.vocabulary);
            let gathered = matmul(dz, View::dense(self.table, self.vocabulary, self.width), None);
            for ((row, _), values) in active.iter().zip(gathered.chunks_exact(self.width)) {
                hidden_gradient[row * self.width..][..self.width].copy_from_slice(values);
            }
            if let Some(table_gradient) = &mut table_gradient {
                matmul_add(table_gradient, dz.transposed(), View::dense(hidden, active.len(), self.width));
            }
        });
        (losses, hidden_gradient)
    }

    /// Calls `visit(active, hidden, exponentials, losses)` for each chunk: hidden [R, d] of the chunk's rows, and
    /// exp(logit - the row's maximum) [R, V], 0 outside a row's choices, which it may overwrite.
    fn chunks(&self, mut visit: impl FnMut(&[(usize, usize)], &[f32], &mut [f32], &[RowLoss])) -> Vec<RowLoss> {
        let rows = (CHUNK_VALUES / self.vocabulary.max(1) / 8 * 8).clamp(8, 2048).min(self.active.len());
        let mut hidden = Vec::new();
        let mut losses = vec![RowLoss::default(); self.active.len()];
        for (active, losses) in self.active.chunks(rows.max(1)).zip(losses.chunks_mut(rows.max(1))) {
            hidden.clear();
            for (row, _) in active {
                hidden.extend_from_slice(&self.hidden[row * self.width..][..self.width]);
            }
            let table = View::dense(self.table, self.vocabulary, self.width).transposed();
            let mut logits = matmul(View::dense(&hidden, active.len(), self.width), table, self.bias);
            logits.par_chunks_exact_mut(self.vocabulary).zip(losses.par_iter_mut()).zip(active.par_iter()).for_each(
                |((logits, loss), (row, target))| match self.choices(*row) {
                    None => softmax_row(logits, *target, loss),
                    Some(choices) => softmax_choices(logits, choices, *target, loss),
                },
            );
            visit(active, &hidden, &mut logits, losses);
        }
        losses
    }

    /// Turns exponentials [R, V] into the gradients of the logits.
    fn logit_gradients(
        &self,
        active: &[(usize, usize)],
        values: &mut [f32],
        losses: &[RowLoss],
        gradient: LossGradient,
    ) {
        let LossGradient { scale, smoothing } = gradient;
        values.par_chunks_exact_mut(self.vocabulary).zip(losses).zip(active).for_each(
            |((values, loss), (row, target))| {
                let scale = scale * f64::from(self.targets.weight_of(*row));
                let uniform = |count: usize| (scale * smoothing / count as f64) as f32;
                let factor = (scale / f64::from(loss.sum)) as f32;
                match self.choices(*row) {
                    None => {
                        let uniform = uniform(values.len());
                        values.iter_mut().for_each(|value| *value = *value * factor - uniform);
                    }
                    Some(choices) => {
                        let uniform = uniform(choices.len());
                        choices.iter().for_each(|&token| {
                            let value = &mut values[token as usize];
                            *value = *value * factor - uniform;
                        });
                    }
                }
                values[*target] -= (scale * (1.0 - smoothing)) as f32;
            },
        );
    }

    /// What a row's target is chosen from, if that is not everything.
    fn choices(&self, row: usize) -> Option<&[u32]> {
        Some(self.targets.choices_of(row)).filter(|choices| !choices.is_empty())
    }
}

/// [`softmax_row`] over some tokens, among them the target; every other value becomes 0.
fn softmax_choices(logits: &mut [f32], choices: &[u32], target: usize, loss: &mut RowLoss) {
    let mut chosen: Vec<f32> = choices.iter().map(|&token| logits[token as usize]).collect();
    let place = choices.partition_point(|&token| (token as usize) < target);
    softmax_row(&mut chosen, place, loss);
    logits.fill(0.0);
    for (&token, value) in choices.iter().zip(chosen) {
        logits[token as usize] = value;
    }
}

dispatch! {
    /// Replaces logits by exp(logit - maximum) and fills in the row's loss.
    fn softmax_row(logits: &mut [f32], target: usize, loss: &mut RowLoss) = softmax_row_body
}

#[inline(always)]
fn softmax_row_body<const FMA: bool>(logits: &mut [f32], target: usize, loss: &mut RowLoss) {
    let mut maxima = [f32::NEG_INFINITY; LANES];
    for group in logits.chunks(LANES) {
        for (maximum, logit) in maxima.iter_mut().zip(group) {
            *maximum = larger(*logit, *maximum);
        }
    }
    let maximum = maxima.into_iter().fold(f32::NEG_INFINITY, larger);
    // Of logit - maximum, which is at hand in the loop and small.
    let at_target = f64::from(logits[target] - maximum);
    let (mut sums, mut shifted_sums) = ([0.0; LANES], [0.0; LANES]);
    for group in logits.chunks_mut(LANES) {
        for ((logit, sum), shifted_sum) in group.iter_mut().zip(&mut sums).zip(&mut shifted_sums) {
            let shifted = *logit - maximum;
            *shifted_sum += shifted;
            *logit = exp::<FMA>(shifted);
            *sum += *logit;
        }
    }
    let log_sum = sums.iter().map(|sum| f64::from(*sum)).sum::<f64>().ln();
    let mean = shifted_sums.iter().map(|sum| f64::from(*sum)).sum::<f64>() / logits.len() as f64;
    *loss = RowLoss { nll: log_sum - at_target, uniform: log_sum - mean, sum: sums.iter().sum() };
}
