//! Keys and values that decoding keeps on a GPU.

use super::attention::{PlacedPlan, attend_by_plan};
use super::decoding::{full, memory_attention_by_plan, past_attention};
use super::plan::Plan;
use super::step::Step;
use super::units::{Units, has_fast_kernels};
use crate::Segments;
use candle_core::{DType, Result, Tensor};
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
        let few = self.has_kernels_for_few()?;
        let spec = full(rows, &self.sources, scale);
        let plan = if few { Plan::memory(rows, &self.sources, self.keys.dim(1)?)? } else { Plan::new(&spec)? };
        self.attend_by_plan(query, rows, scale, &PlacedPlan::new(plan, query.device())?)
    }

    /// The same of the rows of a decoding step.
    ///
    /// # Errors
    /// As [`Memory::attend`].
    pub fn attend_step(&self, query: &Tensor, rows: &Segments, scale: f32, step: &Step) -> Result<Tensor> {
        self.attend_by_plan(query, rows, scale, step.plan(self.has_kernels_for_few()?, self.keys.dim(1)?)?)
    }

    fn has_kernels_for_few(&self) -> Result<bool> {
        has_fast_kernels(self.keys.device(), self.keys.dtype(), self.keys.dim(2)?)
    }

    fn attend_by_plan(&self, query: &Tensor, rows: &Segments, scale: f32, plan: &PlacedPlan) -> Result<Tensor> {
        let query = query.to_dtype(self.keys.dtype())?;
        let inputs = [&query, &self.keys, &self.values];
        if self.has_kernels_for_few()? {
            return memory_attention_by_plan(inputs, (rows, &self.sources), scale, plan);
        }
        Ok(attend_by_plan(inputs, &full(rows, &self.sources, scale), plan, Units::Plain)?.output)
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

/// Keys and values of generated tokens, `[capacity, H, D]`; nothing at first.
#[derive(Debug, Default)]
pub struct Past(Option<[Tensor; 2]>);

impl Past {
    /// Takes the keys and values of a step, and attends with its queries, `[R, H, D]` each, to the past of each row.
    ///
    /// # Errors
    /// When shapes do not fit or a launch fails.
    pub fn attend(&mut self, [q, k, v]: [&Tensor; 3], step: &Step, scale: f32) -> Result<Tensor> {
        let (_, heads, size) = q.dims3()?;
        let [keys, values] = match &self.0 {
            Some(rows) if rows[0].dim(0)? >= step.capacity => rows.clone(),
            old => {
                // Not a room of a recording: it is there from step to step.
                let rows = || Tensor::zeros((step.capacity, heads, size), k.dtype(), k.device());
                let rows = [rows()?, rows()?];
                for (new, old) in rows.iter().zip(old.iter().flatten()) {
                    new.slice_set(old, 0, 0)?;
                }
                if old.is_some() {
                    // The kernel reads the past before it waits for what was launched just now: see `launch_early`.
                    k.device().synchronize()?;
                }
                self.0 = Some(rows.clone());
                rows
            }
        };
        past_attention([q, k, v], [&keys, &values], step, scale)
    }
}
