//! The projections of attention to the rows it comes from.

use std::sync::Arc;

use candle_core::Tensor;
use epitome_kernels::{self as kernels, PackedLinear};

use crate::layers::Linear;
use crate::step_input::StepInput;
use crate::{GradientSums, Result};

/// Query, key and value projections of one input: one product, where that is faster than three.
#[derive(Clone, Debug)]
pub(crate) struct SelfProjections {
    parts: [Linear; 3],
    joined: Option<Arc<PackedLinear>>,
}

impl SelfProjections {
    pub(crate) fn new([query, key, value]: [Linear; 3]) -> Result<Self> {
        if let (Linear::Packed(q), Linear::Packed(k), Linear::Packed(v)) = (&query, &key, &value)
            && let Some((joined, parts)) = PackedLinear::joined(&[q, k, v])?
            && let Ok(parts) = <[PackedLinear; 3]>::try_from(parts)
        {
            let parts = parts.map(|part| Linear::Packed(Arc::new(part)));
            return Ok(Self { parts, joined: Some(Arc::new(joined)) });
        }
        Ok(Self { parts: [query, key, value], joined: None })
    }

    /// Of the projections of queries, keys and values.
    pub(crate) fn parts(&self) -> &[Linear; 3] {
        &self.parts
    }

    /// `[T, d]` to queries, keys and values, each `[T, heads, d / heads]`.
    pub(crate) fn heads(&self, x: &Tensor, heads: usize) -> Result<[Tensor; 3]> {
        let [query, key, value] = &self.parts;
        match &self.joined {
            None => Ok([query.heads(x, heads)?, key.heads(x, heads)?, value.heads(x, heads)?]),
            Some(joined) => split(&joined.forward(x)?, heads),
        }
    }

    /// Adds the gradients of the biases, given those of queries, keys and values.
    pub(crate) fn bias_backward(&self, gradients: &[Tensor; 3], sums: &mut dyn GradientSums) -> Result<()> {
        let biases = self.parts.iter().map(|part| part.bias_sum(sums)).collect::<Result<Vec<_>>>()?;
        let trained = |(gradient, bias): (&Tensor, Option<Tensor>)| Some((gradient.flatten_from(1), bias?));
        let all = gradients.iter().zip(biases).filter_map(trained).map(|(gradient, bias)| Ok((gradient?, bias)));
        let all = all.collect::<Result<Vec<(Tensor, Tensor)>>>()?;
        Ok(kernels::bias_backward(&all.iter().map(|(gradient, bias)| (gradient, bias)).collect::<Vec<_>>())?)
    }

    /// A step's rows, and their [`heads`](Self::heads).
    pub(crate) fn step_heads(&self, input: &StepInput<'_>, heads: usize) -> Result<(Tensor, [Tensor; 3])> {
        let Some(joined) = &self.joined else {
            let rows = input.rows()?;
            let projected = self.heads(&rows, heads)?;
            return Ok((rows, projected));
        };
        let [rows, all] = input.forward_packed(joined)?;
        Ok((rows, split(&all, heads)?))
    }
}

/// Three projections that lie side by side, `[T, 3 d]`, each `[T, heads, d / heads]`.
fn split(all: &Tensor, heads: usize) -> Result<[Tensor; 3]> {
    let (rows, width) = all.dims2()?;
    let all = all.reshape((rows, 3 * heads, width / (3 * heads)))?;
    let part = |index: usize| all.narrow(1, index * heads, heads);
    Ok([part(0)?, part(1)?, part(2)?])
}
