//! Attention of few queries to all rows of long documents without projecting those rows.

use std::ops::Range;

use candle_core::{DType, Tensor};
use epitome_kernels::{self as kernels, AttentionMemory, Dropout, GlobalRows, Precision, Segments};

use crate::Result;
use crate::layers::Projection;

/// Key and value projections that are folded into the queries and out of the context: by re-association
/// `q.(W_k x + b_k) = (W_k^T q).x + q.b_k` and `sum_j p_j (W_v x_j + b_v) = W_v (sum_j p_j x_j) + (sum_j p_j) b_v`, so that
/// neither `W_k x` nor `W_v x` is computed for all rows (semantics A13).
#[derive(Clone, Debug)]
pub(crate) struct Pooling {
    pub(crate) key: Projection,
    pub(crate) value: Projection,
    pub(crate) heads: usize,
}

/// Which queries and which rows belong to a document.
#[derive(Clone, Copy)]
pub(crate) struct PoolingSegments<'a> {
    pub(crate) queries: &'a Segments,
    pub(crate) rows: &'a Segments,
}

impl<'a> PoolingSegments<'a> {
    pub(crate) fn with(self, dropout: Option<Dropout>) -> GlobalRows<'a> {
        GlobalRows { rows: self.queries, documents: self.rows, dropout }
    }
}

impl Pooling {
    /// The context `[G, d]`, in f32, of queries `[G, H, D]`, already scaled, over the rows `x` `[T, d]` of their documents.
    pub(crate) fn attend(
        &self,
        query: &Tensor,
        x: &Tensor,
        segments: PoolingSegments<'_>,
        dropout: Option<Dropout>,
    ) -> Result<Tensor> {
        let [a, c] = self.fold(query)?;
        let pooled = kernels::global_attention(x, &a, &c, segments.with(dropout))?;
        self.context(&pooled.output)
    }

    /// The key projection folded into queries `[G, H, D]`: what rows are multiplied by, `[G, H, d]`, and what is added, `[G, H]`.
    pub(crate) fn fold(&self, query: &Tensor) -> Result<[Tensor; 2]> {
        let (_, heads, size) = query.dims3()?;
        // Few rows, whose scores are over all of a document: in f32 whatever the rest is.
        let query = &query.to_dtype(DType::F32)?;
        let weight = self.key.weight.reshape((heads, size, heads * size))?;
        let bias = self.key.bias.reshape((1, heads, size))?;
        Ok([kernels::head_linear(query, &weight, false)?, query.broadcast_mul(&bias)?.sum(2)?])
    }

    /// The value projection of what was pooled, `[G, H, d + 1]`: the context `[G, d]`.
    pub(crate) fn context(&self, pooled: &Tensor) -> Result<Tensor> {
        let (count, heads, width) = pooled.dims3()?;
        let d = width - 1;
        let sums = pooled.narrow(2, 0, d)?; // [G, H, d]
        let mass = pooled.narrow(2, d, 1)?; // [G, H, 1]
        let weight = self.value.weight.reshape((heads, d / heads, d))?;
        let projected = kernels::head_linear(&sums, &weight, true)?; // [G, H, D]
        let bias = self.value.bias.reshape((1, heads, d / heads))?;
        Ok((projected + mass.broadcast_mul(&bias)?)?.reshape((count, d))?)
    }

    /// The context `[R, d]` of many queries `[R, H, D]`, already scaled, and the mean over the heads of their softmax's sums
    /// over spans of rows, as [`AttentionMemory::attend_with_mass`] gives them. So many queries are worth projecting the
    /// rows for; the keys and values of one head at a time are kept.
    pub(crate) fn attend_with_mass(
        &self,
        query: &Tensor,
        x: &Tensor,
        segments: PoolingSegments<'_>,
        spans: &[Vec<Range<usize>>],
    ) -> Result<(Tensor, Vec<Vec<f32>>)> {
        let (count, heads, size) = query.dims3()?;
        let mut contexts = Vec::with_capacity(heads);
        let mut masses: Vec<Vec<f32>> = Vec::new();
        for head in 0..heads {
            let memory =
                AttentionMemory::project(segments.rows, (1, size), Precision::F32, x.device(), |rows| -> Result<_> {
                    let rows = x.narrow(0, rows.start, rows.len())?;
                    Ok([self.key.head(&rows, head, size)?, self.value.head(&rows, head, size)?])
                })?;
            let query = query.narrow(1, head, 1)?;
            let (context, found) = memory.attend_with_mass(&query, segments.queries, 1.0, spans)?;
            contexts.push(context);
            masses.resize_with(found.len(), Vec::new);
            for (sums, found) in masses.iter_mut().zip(found) {
                sums.resize(found.len(), 0.0);
                sums.iter_mut().zip(found).for_each(|(sum, mass)| *sum += mass / heads as f32);
            }
        }
        Ok((Tensor::cat(&contexts, 1)?.reshape((count, heads * size))?, masses))
    }
}
