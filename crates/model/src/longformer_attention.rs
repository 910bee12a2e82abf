//! The encoder's self-attention: a sliding window plus global tokens (paper section 3.1, semantics A1 to A13).

use candle_core::Tensor;
use epitome_kernels::{self as kernels, Band};

use crate::layers::{Linear, Projection, Site, at};
use crate::weights::Source;
use crate::{Config, Documents, Dropouts, Result};

/// Local projections for the band and the global columns, global projections for the rows of global tokens, and the output
/// projection that both share.
#[derive(Clone, Debug)]
pub(crate) struct LongformerSelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    query_global: Linear,
    key_global: Projection,
    value_global: Projection,
    output: Linear,
    heads: usize,
    radius: usize,
}

impl LongformerSelfAttention {
    pub(crate) fn load(source: Source<'_>, prefix: &str, config: &Config, layer: usize) -> Result<Self> {
        let d = config.d_model;
        let name = |name: &str| format!("{prefix}.longformer_self_attn.{name}");
        let projection = |projection: &str| Linear::load(source, &name(projection), d, d);
        Ok(Self {
            query: projection("query")?,
            key: projection("key")?,
            value: projection("value")?,
            query_global: projection("query_global")?,
            key_global: Projection::load(source, &name("key_global"), d, d)?,
            value_global: Projection::load(source, &name("value_global"), d, d)?,
            output: Linear::load(source, &format!("{prefix}.output"), d, d)?,
            heads: config.encoder_attention_heads,
            radius: config.radius(layer),
        })
    }

    /// `[T, d]` to `[T, d]`.
    pub(crate) fn forward(&self, hidden: &Tensor, documents: &Documents, dropouts: Option<Dropouts>) -> Result<Tensor> {
        let band = Band {
            segments: documents.segments().clone(),
            radius: self.radius,
            global: documents.global().to_vec(),
            scale: self.scale(hidden)? as f32,
            dropout: at(dropouts, Site::SelfAttention),
            precision: self.query.precision(),
        };
        let local = kernels::banded_attention(
            &self.query.heads(hidden, self.heads)?,
            &self.key.heads(hidden, self.heads)?,
            &self.value.heads(hidden, self.heads)?,
            band,
        )?
        .reshape(hidden.shape())?;
        let rows = documents.global_rows();
        let context = if rows.is_empty() {
            local
        } else {
            let global = self.global_context(hidden, &rows, documents, dropouts)?;
            kernels::set_rows(&local, &rows, &global)?
        };
        self.output.forward(&context)
    }

    /// The context of the `G` global tokens, `[G, d]`: each attends to its whole document with the global projections. By
    /// re-association (semantics A13) neither `key_global(x)` nor `value_global(x)` is computed for all tokens:
    /// `q.(W_k x + b_k) = (W_k^T q).x + q.b_k` and `sum_j p_j (W_v x_j + b_v) = W_v (sum_j p_j x_j) + (sum_j p_j) b_v`.
    fn global_context(
        &self,
        hidden: &Tensor,
        rows: &[usize],
        documents: &Documents,
        dropouts: Option<Dropouts>,
    ) -> Result<Tensor> {
        let (_, d) = hidden.dims2()?;
        let (count, heads, size) = (rows.len(), self.heads, d / self.heads);
        let query = (self.query_global.heads(&kernels::gather_rows(hidden, rows)?, heads)? * self.scale(hidden)?)?;
        let weight = self.key_global.weight.reshape((heads, size, d))?;
        let a = kernels::head_linear(&query, &weight, false)?; // [G, H, d]
        let bias = self.key_global.bias.reshape((1, heads, size))?;
        let c = query.broadcast_mul(&bias)?.sum(2)?; // [G, H]
        let pooled = kernels::global_attention(
            hidden,
            &a,
            &c,
            documents.global_segments(),
            documents.segments().clone(),
            at(dropouts, Site::GlobalAttention),
        )?; // [G, H, d + 1]
        let sums = pooled.narrow(2, 0, d)?; // [G, H, d]
        let mass = pooled.narrow(2, d, 1)?; // [G, H, 1]
        let weight = self.value_global.weight.reshape((heads, size, d))?;
        let projected = kernels::head_linear(&sums, &weight, true)?; // [G, H, D]
        let bias = self.value_global.bias.reshape((1, heads, size))?;
        let context = (projected + mass.broadcast_mul(&bias)?)?;
        Ok(context.reshape((count, d))?)
    }

    /// `1 / sqrt(head_dim)`; the bias is inside the scaling (semantics A4).
    fn scale(&self, hidden: &Tensor) -> Result<f64> {
        Ok(((hidden.dim(1)? / self.heads) as f64).powf(-0.5))
    }
}
