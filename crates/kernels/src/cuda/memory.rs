//! Keys and values that decoding keeps on a GPU.

use super::attention::attention_forward;
use super::decoding::{full, memory_attention, past_attention};
use super::units::{Units, has_fast_kernels};
use crate::Segments;
use candle_core::{DType, Result, Tensor, bail};
use std::ops::Range;

/// Rows of queries whose probabilities over a document are in memory at a time.
const QUERY_ROWS: usize = 256;

/// Keys and values of encoded documents, `[S, H, D]`.
#[derive(Clone, Debug)]
pub struct Memory {
    keys: Tensor,
    values: Tensor,
    sources: Segments,
}

impl Memory {
    /// Of the documents `sources`.
    pub fn new([keys, values]: [Tensor; 2], sources: &Segments) -> Self {
        Self { keys, values, sources: sources.clone() }
    }

    /// Keys of a document.
    pub fn length(&self, document: usize) -> usize {
        self.sources.length(document)
    }

    /// Attention of each row of `query` `[R, H, D]` to all keys of its document.
    ///
    /// # Errors
    /// When shapes do not fit or a launch fails.
    pub fn attend(&self, query: &Tensor, rows: &Segments, scale: f32) -> Result<Tensor> {
        let (.., size) = query.dims3()?;
        let query = query.to_dtype(self.keys.dtype())?;
        if self.keys.dtype() == DType::BF16 && has_fast_kernels(size) {
            return memory_attention([&query, &self.keys, &self.values], (rows, &self.sources), scale);
        }
        let spec = full(rows, &self.sources, scale);
        Ok(attention_forward(&query, &self.keys, &self.values, &spec, Units::Plain)?.output)
    }

    /// The same, and for each row the mean over the heads of the softmax's sums over its document's `spans` of keys.
    ///
    /// # Errors
    /// As [`Memory::attend`].
    pub fn attend_with_mass(
        &self,
        query: &Tensor,
        rows: &Segments,
        scale: f32,
        spans: &[Vec<Range<usize>>],
    ) -> Result<(Tensor, Vec<Vec<f32>>)> {
        let mut masses = Vec::with_capacity(rows.total());
        for (document, rows) in rows.ranges().enumerate() {
            for first in rows.clone().step_by(QUERY_ROWS) {
                let part = query.narrow(0, first, QUERY_ROWS.min(rows.end - first))?;
                let mean = self.mean_probabilities(&part, document, scale)?;
                masses.extend(
                    mean.iter().map(|p| spans[document].iter().map(|span| p[span.clone()].iter().sum()).collect()),
                );
            }
        }
        Ok((self.attend(query, rows, scale)?, masses))
    }

    /// The softmax of each row of `query` `[r, H, D]` over the keys of a document, in the mean over the heads.
    fn mean_probabilities(&self, query: &Tensor, document: usize, scale: f32) -> Result<Vec<Vec<f32>>> {
        let ((rows, heads, _), own) = (query.dims3()?, self.sources.range(document));
        if own.is_empty() {
            return Ok(vec![Vec::new(); rows]);
        }
        let keys = self.keys.narrow(0, own.start, own.len())?;
        let mut mean = Tensor::zeros((rows, own.len()), DType::F32, query.device())?;
        for head in 0..heads {
            let [query, keys] = [query, &keys].map(|rows| rows.narrow(1, head, 1)?.squeeze(1)?.to_dtype(DType::F32));
            let scores = (query?.contiguous()?.matmul(&keys?.contiguous()?.t()?)? * f64::from(scale))?;
            let exponentials = scores.broadcast_sub(&scores.max_keepdim(1)?)?.exp()?;
            mean = (mean + exponentials.broadcast_div(&exponentials.sum_keepdim(1)?)?)?;
        }
        (mean / heads as f64)?.to_vec2()
    }
}

/// Keys and values of generated tokens, `[N, H, D]`; nothing at first.
#[derive(Clone, Debug, Default)]
pub struct Past(Option<[Tensor; 2]>);

impl Past {
    /// Appends rows of keys and values `[R, H, D]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn append(&mut self, keys: &Tensor, values: &Tensor) -> Result<()> {
        self.0 = Some(match &self.0 {
            None => [keys.contiguous()?, values.contiguous()?],
            Some([old_keys, old_values]) => {
                [Tensor::cat(&[old_keys, keys], 0)?, Tensor::cat(&[old_values, values], 0)?]
            }
        });
        Ok(())
    }

    /// Attention of each row of `query` `[R, H, D]` to the rows that its ancestors name.
    ///
    /// # Errors
    /// When shapes do not fit, an ancestor is not a row, or a launch fails.
    pub fn attend(&self, query: &Tensor, ancestors: &[Vec<u32>], scale: f32) -> Result<Tensor> {
        match &self.0 {
            Some([keys, values]) => past_attention([query, keys, values], ancestors, scale),
            None if ancestors.iter().all(Vec::is_empty) => query.zeros_like(),
            None => bail!("past_attention: an ancestor in an empty cache"),
        }
    }
}
