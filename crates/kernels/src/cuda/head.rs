//! The loss of the tied output head, some rows at a time.

use super::cross_entropy::{LossGradient, RowLosses, RowTargets, cross_entropy};
use super::product::Product;
use crate::LossTargets;
use crate::cpu::cross_entropy::RowLoss;
use crate::ops::rows::{RowIndex, gather_rows, write_rows};
use candle_core::{DType, Result, Tensor};

/// Logits of a chunk of rows, in f32 (1 GiB).
const CHUNK_VALUES: usize = 1 << 28;

/// What [`cross_entropy`](crate::cross_entropy) is given, checked: hidden states `[T, d]`, the table `[V, d]`, the bias `[V]`.
pub(crate) struct Head<'a> {
    pub(crate) hidden: &'a Tensor,
    pub(crate) table: &'a Tensor,
    pub(crate) bias: Option<&'a Tensor>,
    /// Rows that have a loss, with their labels.
    pub(crate) active: &'a [(usize, usize)],
    pub(crate) targets: LossTargets<'a>,
}

/// Rows with their labels, their hidden states and, in f32, their logits, rows of which are a little longer.
struct Chunk<'a> {
    rows: &'a [(usize, usize)],
    index: RowIndex,
    hidden: Tensor,
    logits: Tensor,
}

impl Head<'_> {
    /// The losses of the active rows.
    pub(crate) fn losses(&self) -> Result<Vec<RowLoss>> {
        let mut losses = Vec::with_capacity(self.active.len());
        self.each_chunk(|chunk, _| {
            losses.extend(self.row_losses(&chunk, None)?.read()?);
            Ok(())
        })?;
        Ok(losses)
    }

    /// The same, which nobody waits for, and the gradient of the hidden states; that of the table is added in place.
    pub(crate) fn backward(&self, how: LossGradient, table_sum: Option<&Tensor>) -> Result<(Vec<RowLosses>, Tensor)> {
        let gradient = self.hidden.zeros_like()?;
        let mut losses = Vec::new();
        self.each_chunk(|chunk, table| {
            // Its logits become their gradient.
            losses.push(self.row_losses(&chunk, Some(how))?);
            let logits = self.weighted(&chunk)?.to_dtype(self.hidden.dtype())?.narrow(1, 0, table.dim(0)?)?;
            let rows = Product::new(&logits, table, [false, false])?.evaluate(None, logits.dtype())?;
            write_rows(&gradient, &chunk.index, &rows)?;
            table_sum.map_or(Ok(()), |sum| Product::new(&logits, &chunk.hidden, [true, false])?.add_to(sum))
        })?;
        Ok((losses, gradient))
    }

    /// Visits the active rows in order, with the table in the type of hidden states.
    fn each_chunk(&self, mut visit: impl FnMut(Chunk<'_>, &Tensor) -> Result<()>) -> Result<()> {
        let hidden = self.hidden.detach();
        let table = self.table.detach().to_dtype(hidden.dtype())?.contiguous()?;
        for rows in self.active.chunks((CHUNK_VALUES / table.dim(0)?).max(1)) {
            let index = RowIndex::new(rows.iter().map(|(row, _)| *row).collect());
            let hidden = gather_rows(&hidden, &index)?;
            let logits = Product::new(&hidden, &table, [false, true])?.evaluate_aligned(None, DType::F32)?;
            visit(Chunk { rows, index, hidden, logits }, &table)?;
        }
        Ok(())
    }

    fn row_losses(&self, chunk: &Chunk<'_>, how: Option<LossGradient>) -> Result<RowLosses> {
        let labels: Vec<i32> = chunk.rows.iter().map(|(_, label)| *label as i32).collect();
        let choices: Vec<&[u32]> = chunk.rows.iter().map(|(row, _)| self.targets.choices_of(*row)).collect();
        let targets = RowTargets { labels: &labels, choices: &choices };
        cross_entropy(&chunk.logits, self.table.dim(0)?, self.bias, targets, how)
    }

    /// Gradients of logits, each row times its weight.
    fn weighted(&self, Chunk { rows, logits, .. }: &Chunk<'_>) -> Result<Tensor> {
        let weights: Vec<f32> = rows.iter().map(|(row, _)| self.targets.weight_of(*row)).collect();
        if weights.iter().all(|weight| *weight == 1.0) {
            return Ok(logits.clone());
        }
        logits.broadcast_mul(&Tensor::from_vec(weights, (rows.len(), 1), logits.device())?)
    }
}
