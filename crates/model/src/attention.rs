//! BART's attention, with names as in its checkpoints: the decoder's self- and cross-attention.

use std::ops::Range;

use candle_core::{DType, Tensor};
use epitome_kernels::{
    self as kernels, Attended, Attention, AttentionMemory, DecodingStep, Dropout, KeyValueRows, Segments, Visibility,
};

use crate::cache::LayerMemory;
use crate::layers::Linear;
use crate::pooling::{Pooling, PoolingSegments};
use crate::projections::SelfProjections;
use crate::step_input::StepInput;
use crate::weights::Source;
use crate::{Config, CrossMemory, GradientSums, Keep, Result};

#[derive(Clone, Debug)]
pub(crate) struct MultiHeadAttention {
    projections: SelfProjections,
    out_proj: Linear,
    heads: usize,
    scale: f32,
}

/// The documents of queries and keys, which keys a query sees, and the dropout of probabilities.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) queries: &'a Segments,
    pub(crate) keys: &'a Segments,
    pub(crate) visibility: &'a Visibility,
    pub(crate) dropout: Option<Dropout>,
}

/// What a forward pass keeps.
#[derive(Debug, Default)]
pub(crate) struct AttentionKept {
    projected: Option<[Tensor; 3]>,
    attended: Option<Attended>,
}

impl MultiHeadAttention {
    pub(crate) fn load(source: Source<'_>, prefix: &str, config: &Config) -> Result<Self> {
        let d = config.d_model;
        let projection = |name: &str| Linear::load(source, &format!("{prefix}.{name}"), d, d);
        let heads = config.decoder_attention_heads;
        Ok(Self {
            projections: SelfProjections::new([projection("q_proj")?, projection("k_proj")?, projection("v_proj")?])?,
            out_proj: projection("out_proj")?,
            heads,
            scale: ((d / heads) as f32).powf(-0.5),
        })
    }

    /// Output of the attention of `hidden` `[T, d]` to `source` `[S, d]`, `[T, d]`, and what the backward pass is given.
    pub(crate) fn forward(
        &self,
        hidden: &Tensor,
        source: &Tensor,
        scope: Scope<'_>,
        keep: Keep,
    ) -> Result<(Tensor, AttentionKept)> {
        let projected = self.project(hidden, source)?;
        let attended = self.attend(&projected, scope)?;
        let output = self.out_proj.forward(&attended.output.reshape(hidden.shape())?)?;
        let projected = (keep == Keep::Everything).then_some(projected);
        Ok((output, AttentionKept { projected, attended: (keep >= Keep::Outputs).then_some(attended) }))
    }

    /// The layer whose output is that of the attention; who has that one's gradient adds the bias's.
    pub(crate) fn output(&self) -> &Linear {
        &self.out_proj
    }

    /// Adds the gradients of `hidden` and, if asked for, `source`, given that of the output, which may be the tensor that
    /// they are added to: all of it is read before.
    pub(crate) fn backward(
        &self,
        (hidden, source): (&Tensor, &Tensor),
        kept: AttentionKept,
        gradient: &Tensor,
        scope: Scope<'_>,
        (hidden_gradient, source_gradient): (&Tensor, Option<&Tensor>),
        sums: &mut dyn GradientSums,
    ) -> Result<()> {
        let projected = kept.projected.map_or_else(|| self.project(hidden, source), Ok)?;
        let attended = kept.attended.map_or_else(|| self.attend(&projected, scope), Ok)?;
        let context_gradient = self.out_proj.input_gradient(gradient)?;
        self.out_proj.weight_backward(&attended.output.reshape(hidden.shape())?, gradient, sums)?;
        let [q, k, v] = &projected;
        let gradient = context_gradient.reshape(q.shape())?;
        let gradients = kernels::attention_backward(q, k, v, &self.spec(scope), &attended, &gradient)?;
        self.projections.bias_backward(&gradients, sums)?;
        let ([query, key, value], [dq, dk, dv]) = (self.projections.parts(), gradients);
        for (linear, input, sum, gradient) in [
            (query, hidden, Some(hidden_gradient), dq),
            (key, source, source_gradient, dk),
            (value, source, source_gradient, dv),
        ] {
            let gradient = gradient.reshape(input.shape())?;
            linear.weight_backward(input, &gradient, sums)?;
            if let Some(sum) = sum {
                linear.add_input_gradient(sum, &gradient)?;
            }
        }
        Ok(())
    }

    /// Keys and values of encoded documents `[S, d]`, kept for decoding.
    pub(crate) fn memory(&self, encoded: &Tensor, sources: &Segments) -> Result<AttentionMemory> {
        let sizes = (self.heads, encoded.dim(1)? / self.heads);
        AttentionMemory::project(sources, sizes, self.k_proj().precision(), encoded.device(), |rows| {
            let rows = encoded.narrow(0, rows.start, rows.len())?;
            Ok([self.k_proj().heads(&rows, self.heads)?, self.v_proj().heads(&rows, self.heads)?])
        })
    }

    fn q_proj(&self) -> &Linear {
        &self.projections.parts()[0]
    }

    fn k_proj(&self) -> &Linear {
        &self.projections.parts()[1]
    }

    fn v_proj(&self) -> &Linear {
        &self.projections.parts()[2]
    }

    /// Whether its layer is one for inference.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self.out_proj, Linear::Packed(_))
    }

    /// What decoding without keeping keys and values needs.
    pub(crate) fn pooling(&self) -> Result<Pooling> {
        let (key, value) = (self.k_proj().unpacked()?, self.v_proj().unpacked()?);
        Ok(Pooling { key, value, heads: self.heads, scale: self.scale })
    }

    /// A step's rows `[R, d]`, and the output of their attention to the documents of `memory`, `[R, d]`.
    pub(crate) fn attend_memory(
        &self,
        input: &StepInput<'_>,
        memory: &CrossMemory,
        layer: usize,
        step: &DecodingStep,
    ) -> Result<[Tensor; 2]> {
        let [hidden, queries] = input.forward(self.q_proj())?;
        let context = match memory.layer(layer) {
            LayerMemory::Kept(kept) => {
                let (rows, width) = queries.dims2()?;
                step.attend_memory(kept, &queries.reshape((rows, self.heads, width / self.heads))?, self.scale)?
            }
            LayerMemory::Folded { pooling, encoded } => {
                let segments = PoolingSegments { queries: step.rows(), rows: memory.sources() };
                pooling.attend(&queries, encoded, segments)?
            }
        };
        let output = self.out_proj.forward(&context.reshape(hidden.shape())?)?;
        Ok([hidden, output])
    }

    /// As [`attend_memory`](Self::attend_memory), for many rows at a time, with the mean over the heads of the mass that each
    /// row has on each of its document's `spans`.
    pub(crate) fn attend_memory_with_mass(
        &self,
        hidden: &Tensor,
        memory: &CrossMemory,
        layer: usize,
        rows: &Segments,
        spans: &[Vec<Range<usize>>],
    ) -> Result<(Tensor, Vec<Vec<f32>>)> {
        let query = self.q_proj().heads(hidden, self.heads)?;
        let (context, masses) = match memory.layer(layer) {
            LayerMemory::Kept(kept) => kept.attend_with_mass(&query, rows, self.scale, spans)?,
            LayerMemory::Folded { pooling, encoded } => {
                let segments = PoolingSegments { queries: rows, rows: memory.sources() };
                let query = (query.to_dtype(DType::F32)? * f64::from(self.scale))?;
                let (context, masses) = pooling.attend_with_mass(&query, encoded, segments, spans)?;
                (context.to_dtype(hidden.dtype())?, masses)
            }
        };
        Ok((self.out_proj.forward(&context.reshape(hidden.shape())?)?, masses))
    }

    /// A step's rows `[R, d]`, and the output of their attention to themselves and what the layer's cache holds of each row's past,
    /// `[R, d]`; the cache gets the step's keys and values.
    pub(crate) fn attend_past(
        &self,
        input: &StepInput<'_>,
        step: &DecodingStep,
        cache: &mut KeyValueRows,
    ) -> Result<[Tensor; 2]> {
        let (hidden, projected) = self.projections.step_heads(input, self.heads)?;
        let context = step.attend_past(cache, projected.each_ref(), self.scale)?;
        let output = self.out_proj.forward(&context.reshape(hidden.shape())?)?;
        Ok([hidden, output])
    }

    /// Queries `[T, H, D]`, keys and values `[S, H, D]`.
    fn project(&self, hidden: &Tensor, source: &Tensor) -> Result<[Tensor; 3]> {
        let heads = self.heads;
        let [query, key, value] = self.projections.parts();
        Ok([query.heads(hidden, heads)?, key.heads(source, heads)?, value.heads(source, heads)?])
    }

    fn attend(&self, [q, k, v]: &[Tensor; 3], scope: Scope<'_>) -> Result<Attended> {
        Ok(kernels::attention_forward(q, k, v, &self.spec(scope))?)
    }

    fn spec(&self, scope: Scope<'_>) -> Attention {
        Attention {
            queries: scope.queries.clone(),
            keys: scope.keys.clone(),
            visibility: scope.visibility.clone(),
            scale: self.scale,
            dropout: scope.dropout,
            precision: self.q_proj().precision(),
        }
    }
}
