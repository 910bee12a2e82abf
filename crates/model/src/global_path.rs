//! The rows of global tokens, which have projections and a softmax of their own (section 3.1 of the paper;
//! `LEDEncoderSelfAttention._compute_global_attn_output_from_hidden` in `transformers`).

use candle_core::Tensor;
use epitome_kernels::{self as kernels, GlobalRows, Pooled};

use crate::layers::{Linear, Projection, Site, at};
use crate::pooling::Pooling;
use crate::weights::Source;
use crate::{Config, Documents, Dropouts, GradientSums, Result};

/// The projections of global tokens, which attend to their whole documents.
#[derive(Clone, Debug)]
pub(crate) struct GlobalPath {
    query: Linear,
    pooling: Pooling,
}

/// What the backward pass is given of `G` global tokens: little beside what there is of all tokens.
#[derive(Debug)]
pub(crate) struct GlobalKept {
    /// Their rows of the hidden states, `[G, d]`.
    own: Tensor,
    /// `[G, d]`.
    queries: Tensor,
    /// `[G, H, d + 1]`.
    folded: Tensor,
    pooled: Pooled,
}

/// The hidden states `[T, d]` that global tokens attend to.
#[derive(Clone, Copy)]
pub(crate) struct GlobalInputs<'a> {
    pub(crate) hidden: &'a Tensor,
    pub(crate) documents: &'a Documents,
    pub(crate) dropouts: Option<Dropouts>,
}

impl GlobalPath {
    pub(crate) fn load(source: Source<'_>, prefix: &str, config: &Config) -> Result<Self> {
        let d = config.d_model;
        Ok(Self {
            query: Linear::load(source, &format!("{prefix}.query_global"), d, d)?,
            pooling: Pooling {
                key: Projection::load(source, &format!("{prefix}.key_global"), d, d)?,
                value: Projection::load(source, &format!("{prefix}.value_global"), d, d)?,
                heads: config.encoder_attention_heads,
                scale: ((d / config.encoder_attention_heads) as f32).powf(-0.5),
            },
        })
    }

    /// Writes the context of the global tokens over their rows of `context` `[T, d]`.
    pub(crate) fn forward(&self, inputs: GlobalInputs<'_>, context: &Tensor) -> Result<GlobalKept> {
        let rows = inputs.documents.global_rows();
        let own = kernels::gather_rows(inputs.hidden, rows)?;
        let queries = self.query.forward(&own)?;
        let folded = self.pooling.fold(&queries)?;
        let pooled = kernels::global_attention(inputs.hidden, &folded, inputs.global_rows())?;
        kernels::write_rows(context, rows, &self.pooling.context(&pooled.output, context.dtype())?)?;
        Ok(GlobalKept { own, queries, folded, pooled })
    }

    /// Adds the gradients of the parameters, and that of the hidden states to `hidden_gradient`, given the context's `[T, d]`.
    pub(crate) fn backward(
        &self,
        kept: &GlobalKept,
        gradient: &Tensor,
        inputs: GlobalInputs<'_>,
        hidden_gradient: &Tensor,
        sums: &mut dyn GradientSums,
    ) -> Result<()> {
        let GlobalKept { own, queries, folded, pooled } = kept;
        let rows = inputs.documents.global_rows();
        let gradient = kernels::gather_rows(gradient, rows)?;
        let gradient = self.pooling.context_backward(&pooled.output, &gradient, sums)?;
        let of = inputs.global_rows();
        let gradient =
            kernels::global_attention_backward(inputs.hidden, folded, of, pooled, &gradient, Some(hidden_gradient))?;
        let gradient = self.pooling.fold_backward(queries, &gradient, sums)?;
        self.query.backward(own, &gradient, sums)?;
        Ok(kernels::add_rows(hidden_gradient, rows, &self.query.input_gradient(&gradient)?)?)
    }
}

impl<'a> GlobalInputs<'a> {
    fn global_rows(&self) -> GlobalRows<'a> {
        let dropout = at(self.dropouts, Site::GlobalAttention);
        GlobalRows { rows: self.documents.global_segments(), documents: self.documents.segments(), dropout }
    }
}
