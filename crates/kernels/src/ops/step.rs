//! [`DecodingStep`].

use crate::AttentionMemory;
#[cfg(gpu)]
use crate::cuda;
use crate::{KeyValueRows, Segments, cached_attention, embed};
use candle_core::{DType, Device, Error, Result, Tensor, bail};
#[cfg(gpu)]
use std::collections::BTreeMap;

/// The rows of a decoding step: hypotheses, each of which continues one of the step before. Which rows of a cache a hypothesis has
/// come through is a list of row numbers, so that reordering hypotheses moves no keys and values.
#[derive(Debug)]
pub struct DecodingStep {
    tokens: Vec<u32>,
    position: u32,
    /// Of each document.
    rows: Segments,
    ancestors: Vec<Vec<u32>>,
    /// Rows of the cache.
    stored: usize,
    /// Steps so far.
    length: usize,
    #[cfg(gpu)]
    gpu: Gpu,
}

/// What a GPU reads of a step, and what it does in one.
#[cfg(gpu)]
#[derive(Debug, Default)]
struct Gpu {
    step: Option<cuda::Step>,
    /// Of each kind of bodies, and the step's epoch that they belong to.
    recordings: BTreeMap<usize, cuda::Recording>,
    epoch: Option<u64>,
    was_graph: bool,
}

impl DecodingStep {
    /// Of `rows` hypotheses without tokens.
    pub fn new(rows: usize) -> Self {
        Self {
            tokens: Vec::new(),
            position: 0,
            rows: Segments::from_lengths(&[]),
            ancestors: vec![Vec::new(); rows],
            stored: 0,
            length: 0,
            #[cfg(gpu)]
            gpu: Gpu::default(),
        }
    }

    /// How many tokens each hypothesis has.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Row r of the next step continues row `parents[r]` of the last one. Hypotheses that nobody continues leave.
    pub fn reorder(&mut self, parents: &[usize]) {
        self.ancestors = parents.iter().map(|&parent| self.ancestors[parent].clone()).collect();
    }

    /// Begins the next step: the last token of each row; `rows` says how many rows each document has, `sources` how many keys in
    /// memory. The tables of words and positions have so many rows, over the latter of which positions are tiled.
    ///
    /// # Errors
    /// When the numbers of rows differ, a token is not in its table, or a GPU fails.
    pub fn advance(
        &mut self,
        tokens: &[u32],
        (rows, sources): (&Segments, &Segments),
        [words, positions]: [usize; 2],
        device: &Device,
    ) -> Result<()> {
        if let Some(token) = tokens.iter().find(|token| **token as usize >= words) {
            bail!("embed: id {token} is not in a table of {words} rows");
        }
        if tokens.len() != self.ancestors.len() || rows.total() != tokens.len() || positions == 0 {
            let (count, held) = (tokens.len(), self.ancestors.len());
            bail!("a decoder step of {count} rows, {} by documents, but the cache holds {held}", rows.total());
        }
        for (row, ancestors) in self.ancestors.iter_mut().enumerate() {
            ancestors.push((self.stored + row) as u32);
        }
        self.stored += tokens.len();
        self.position = (self.length % positions) as u32;
        self.length += 1;
        self.tokens = tokens.to_vec();
        self.rows = rows.clone();
        #[cfg(gpu)]
        if cuda::runs_on(device) {
            let numbers = cuda::StepRows {
                tokens,
                position: self.position,
                ancestors: &self.ancestors,
                rows,
                sources,
                stored: self.stored,
            };
            self.gpu.step = Some(cuda::Step::next(self.gpu.step.take(), &numbers, device)?);
        }
        #[cfg(not(gpu))]
        let _ = (device, sources);
        Ok(())
    }

    /// What [`DecodingStep::run`] does next depends on other memory than before, such as other documents.
    pub fn forget(&mut self) {
        #[cfg(gpu)]
        {
            self.gpu.recordings.clear();
        }
    }

    /// Runs a step's `body`, whose operations are those on a [`DecodingStep`], on [`PackedLinear`](crate::PackedLinear)s, layer norms
    /// and no other if it has a `kind`: a GPU then gets the launches of steps of the same shape and kind as one, on the memory that it was
    /// given first, which all results of a kind share. The body may be run twice, to the same effect.
    ///
    /// # Errors
    /// Those of the body, and when a GPU fails.
    pub fn run<E: From<Error>>(
        &mut self,
        kind: Option<usize>,
        mut body: impl FnMut(&Self) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Tensor, E> {
        #[cfg(gpu)]
        {
            self.gpu.was_graph = false;
            if let (Some(step), Some(kind)) = (&self.gpu.step, kind) {
                let (epoch, device) = (step.epoch(), step.device().clone());
                if self.gpu.epoch.replace(epoch) != Some(epoch) {
                    self.gpu.recordings.clear();
                }
                let mut recording = self.gpu.recordings.remove(&kind).unwrap_or_default();
                let result = recording.run(&device, epoch, || body(self));
                self.gpu.was_graph = recording.is_graph();
                self.gpu.recordings.insert(kind, recording);
                return result;
            }
        }
        #[cfg(not(gpu))]
        let _ = kind;
        body(self)
    }

    /// Whether the last step was one graph of launches: on a GPU, from the second step of a shape and kind on.
    pub fn was_graph(&self) -> bool {
        #[cfg(gpu)]
        return self.gpu.was_graph;
        #[cfg(not(gpu))]
        false
    }

    /// [`embed`] of the step's tokens in the tables of words and positions: `[R, d]`.
    ///
    /// # Errors
    /// As [`embed`].
    pub fn embed(&self, words: &Tensor, positions: &Tensor, dtype: DType) -> Result<Tensor> {
        #[cfg(gpu)]
        if let Some(step) = &self.gpu.step {
            return cuda::embed_step(words, positions, step, dtype);
        }
        embed(&[(words, &self.tokens), (positions, &vec![self.position; self.tokens.len()])], dtype)
    }

    /// Appends the step's keys and values to a cache, whose rows of earlier steps were there before the step began, and attends with
    /// its queries, `[R, H, D]` each, to all of each row's past.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn attend_past(&self, cache: &mut KeyValueRows, [q, k, v]: [&Tensor; 3], scale: f32) -> Result<Tensor> {
        #[cfg(gpu)]
        if let Some(step) = &self.gpu.step {
            return cache.gpu.attend([q, k, v], step, scale);
        }
        cache.append(k, v)?;
        cached_attention(q, cache, &self.ancestors, scale)
    }

    /// [`AttentionMemory::attend`] with the step's queries `[R, H, D]`, to a memory that was there before the step began.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn attend_memory(&self, memory: &AttentionMemory, query: &Tensor, scale: f32) -> Result<Tensor> {
        #[cfg(gpu)]
        if let Some(step) = &self.gpu.step {
            return memory.attend_step(query, &self.rows, scale, step);
        }
        memory.attend(query, &self.rows, scale)
    }

    /// Rows of each document.
    pub fn rows(&self) -> &Segments {
        &self.rows
    }
}
