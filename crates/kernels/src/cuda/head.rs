//! The loss of the tied output head, some rows at a time.

use super::cross_entropy::{LossGradient, RowLosses, RowTargets, cross_entropy};
use super::place::room;
use super::product::{ALIGNED, Product};
use crate::LossTargets;
use crate::cpu::cross_entropy::RowLoss;
use crate::ops::rows::{RowIndex, gather_rows, write_rows};
use candle_core::{DType, Result, Tensor};

/// Logits of a chunk of rows, in f32 (1 GiB).
const CHUNK_VALUES: usize = 1 << 28;

/// What [`cross_entropy`](crate::cross_entropy) is given, checked: hidden states `[T, d]`, the table `[V, d]`, the bias `[V]`. Behind
/// the table there may be rows of zeros, with which all products have sizes that are aligned.
pub(crate) struct Head<'a> {
    pub(crate) hidden: &'a Tensor,
    pub(crate) table: &'a Tensor,
    pub(crate) bias: Option<&'a Tensor>,
    pub(crate) vocabulary: usize,
    /// Rows that have a loss, with their labels.
    pub(crate) active: &'a [(usize, usize)],
    pub(crate) targets: LossTargets<'a>,
}

/// Rows with their labels, their hidden states and, in f32, their logits, rows of which may be longer than the vocabulary.
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
            let logits = match self.hidden.dtype() {
                DType::F32 => chunk.logits.clone(),
                dtype => room(chunk.logits.shape(), dtype, chunk.logits.device())?,
            };
            losses.push(self.row_losses(&chunk, Some((how, &logits)))?);
            let known = logits.narrow(1, 0, table.dim(0)?)?;
            let rows = Product::new(&known, table, [false, false])?.evaluate(None, logits.dtype())?;
            write_rows(&gradient, &chunk.index, &rows)?;
            table_sum.map_or(Ok(()), |sum| self.add_table_gradient(&logits, &chunk.hidden, sum))
        })?;
        Ok((losses, gradient))
    }

    /// Adds the table's: as many rows as are aligned, and the few others.
    fn add_table_gradient(&self, logits: &Tensor, hidden: &Tensor, sum: &Tensor) -> Result<()> {
        let whole = self.vocabulary - self.vocabulary % ALIGNED;
        for rows in [0..whole, whole..self.vocabulary].into_iter().filter(|rows| !rows.is_empty()) {
            let logits = logits.narrow(1, rows.start, rows.len())?;
            Product::new(&logits, hidden, [true, false])?.add_to(&sum.narrow(0, rows.start, rows.len())?)?;
        }
        Ok(())
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

    fn row_losses(&self, chunk: &Chunk<'_>, gradient: Option<(LossGradient, &Tensor)>) -> Result<RowLosses> {
        let labels: Vec<i32> = chunk.rows.iter().map(|(_, label)| *label as i32).collect();
        let choices: Vec<&[u32]> = chunk.rows.iter().map(|(row, _)| self.targets.choices_of(*row)).collect();
        let mut weights: Vec<f32> = chunk.rows.iter().map(|(row, _)| self.targets.weight_of(*row)).collect();
        if weights.iter().all(|weight| *weight == 1.0) {
            weights.clear();
        }
        let targets = RowTargets { labels: &labels, choices: &choices, weights: &weights };
        cross_entropy(&chunk.logits, self.vocabulary, self.bias, targets, gradient)
    }
}
