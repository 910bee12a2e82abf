//! Attention of few queries to all rows of long documents without projecting those rows.

use std::ops::Range;

use candle_core::{DType, Tensor};
use epitome_kernels::{self as kernels, AttentionMemory, GlobalRows, HeadProjection, Precision, Segments};

use crate::layers::Projection;
use crate::{GradientSums, Result};

/// Key and value projections that are folded into the queries and out of the context: by re-association
/// `q.(W_k x + b_k) = (W_k^T q).x + q.b_k` and `sum_j p_j (W_v x_j + b_v) = W_v (sum_j p_j x_j) + (sum_j p_j) b_v`, so that
/// neither `W_k x` nor `W_v x` is computed for all rows. Equal up to rounding.
#[derive(Clone, Debug)]
pub(crate) struct Pooling {
    pub(crate) key: Projection,
    pub(crate) value: Projection,
    pub(crate) heads: usize,
    /// Of the queries.
    pub(crate) scale: f32,
}

/// Which queries and which rows belong to a document.
#[derive(Clone, Copy)]
pub(crate) struct PoolingSegments<'a> {
    pub(crate) queries: &'a Segments,
    pub(crate) rows: &'a Segments,
}

impl Pooling {
    /// The context `[G, d]` of queries `[G, d]`, in their type, over the rows `x` `[T, d]` of their documents.
    pub(crate) fn attend(&self, queries: &Tensor, x: &Tensor, segments: PoolingSegments<'_>) -> Result<Tensor> {
        let of = GlobalRows { rows: segments.queries, documents: segments.rows, dropout: None };
        let pooled = kernels::global_attention(x, &self.fold(queries)?, of)?;
        self.context(&pooled.output, queries.dtype())
    }

    /// The key projection folded into queries `[G, d]`, `[G, H, d + 1]` in f32: few rows, whose scores are over all of a document.
    pub(crate) fn fold(&self, queries: &Tensor) -> Result<Tensor> {
        Ok(kernels::fold_heads(queries, self.keys())?)
    }

    /// The gradient of the queries, given that of what they were folded to; adds those of the key projection.
    pub(crate) fn fold_backward(
        &self,
        queries: &Tensor,
        gradient: &Tensor,
        sums: &mut dyn GradientSums,
    ) -> Result<Tensor> {
        kernels::head_projection_backward(queries, gradient, self.scale, &self.key.sums(sums)?)?;
        Ok(kernels::project_heads(gradient, self.keys(), queries.dtype())?)
    }

    /// The value projection of what was pooled, `[G, H, d + 1]`: the context `[G, d]`.
    pub(crate) fn context(&self, pooled: &Tensor, dtype: DType) -> Result<Tensor> {
        Ok(kernels::project_heads(pooled, self.values(), dtype)?)
    }

    /// The gradient of what was pooled, given that of the context; adds those of the value projection.
    pub(crate) fn context_backward(
        &self,
        pooled: &Tensor,
        gradient: &Tensor,
        sums: &mut dyn GradientSums,
    ) -> Result<Tensor> {
        kernels::head_projection_backward(gradient, pooled, 1.0, &self.value.sums(sums)?)?;
        Ok(kernels::fold_heads(gradient, self.values())?)
    }

    fn keys(&self) -> HeadProjection<'_> {
        HeadProjection { weight: &self.key.weight, bias: &self.key.bias, heads: self.heads, scale: self.scale }
    }

    fn values(&self) -> HeadProjection<'_> {
        HeadProjection { weight: &self.value.weight, bias: &self.value.bias, heads: self.heads, scale: 1.0 }
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
