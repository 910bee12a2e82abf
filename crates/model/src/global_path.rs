//! The rows of global tokens (semantics A7, A13).

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use epitome_kernels::{self as kernels, GlobalRows, Pooled, Segments};

use crate::layers::{Linear, Projection, Site, at};
use crate::pooling::{Pooling, PoolingSegments};
use crate::weights::Source;
use crate::{Config, Documents, Dropouts, GradientSums, Result};

/// The projections of global tokens, which attend to their whole documents.
#[derive(Clone, Debug)]
pub(crate) struct GlobalPath {
    query: Linear,
    pooling: Pooling,
}

/// A forward pass that can be walked back: what is small has graphs of its own, before and after attention to all tokens.
pub(crate) struct GlobalPass {
    /// The context of the global tokens, `[G, d]`.
    pub(crate) output: Tensor,
    /// Their rows of the hidden states, `[G, d]`.
    own: Var,
    /// What [`Pooling::fold`] made of them.
    folded: [Tensor; 2],
    pooled: Pooled,
    /// The output of attention, where the second graph begins.
    attended: Var,
    /// Names and copies of the parameters.
    parameters: Vec<(String, Var)>,
}

/// The hidden states `[T, d]` that global tokens attend to, and where the tokens are.
#[derive(Clone, Copy)]
pub(crate) struct GlobalInputs<'a> {
    pub(crate) hidden: &'a Tensor,
    /// Rows of the global tokens.
    pub(crate) rows: &'a [usize],
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
            },
        })
    }

    /// The context of the `G` global tokens, `[G, d]`.
    pub(crate) fn context(&self, inputs: GlobalInputs<'_>) -> Result<Tensor> {
        let [a, c] = self.fold(&kernels::gather_rows(inputs.hidden, inputs.rows)?)?;
        let segments = inputs.documents.global_segments();
        self.pooling.context(&kernels::global_attention(inputs.hidden, &a, &c, inputs.global_rows(&segments))?.output)
    }

    /// The scaled queries of rows `[G, d]` with the key projection folded in.
    fn fold(&self, rows: &Tensor) -> Result<[Tensor; 2]> {
        let heads = self.pooling.heads;
        let scale = ((rows.dim(1)? / heads) as f64).powf(-0.5);
        let query = self.query.heads(rows, heads)?.to_dtype(DType::F32)?;
        self.pooling.fold(&(query * scale)?)
    }

    /// [`GlobalPath::context`] with graphs.
    pub(crate) fn pass(&self, inputs: GlobalInputs<'_>) -> Result<GlobalPass> {
        let mut parameters = Vec::new();
        let mut variable = |projection: &Projection| -> Result<Projection> {
            let mut copy = |part: &str, tensor: &Tensor| -> Result<Tensor> {
                let variable = Var::from_tensor(&tensor.detach())?;
                parameters.push((format!("{}.{part}", projection.name), variable.clone()));
                Ok(variable.as_tensor().clone())
            };
            Ok(Projection {
                weight: copy("weight", &projection.weight)?,
                bias: copy("bias", &projection.bias)?,
                name: projection.name.clone(),
            })
        };
        let tracked = Self {
            query: Linear::Plain(variable(self.query.plain()?)?),
            pooling: Pooling {
                key: variable(&self.pooling.key)?,
                value: variable(&self.pooling.value)?,
                heads: self.pooling.heads,
            },
        };
        let own = Var::from_tensor(&kernels::gather_rows(&inputs.hidden.detach(), inputs.rows)?)?;
        let folded = tracked.fold(&own)?;
        let [a, c] = folded.each_ref().map(Tensor::detach);
        let segments = inputs.documents.global_segments();
        let pooled = kernels::global_attention(inputs.hidden, &a, &c, inputs.global_rows(&segments))?;
        let attended = Var::from_tensor(&pooled.output)?;
        let output = tracked.pooling.context(&attended)?;
        Ok(GlobalPass { output, own, folded, pooled, attended, parameters })
    }

    /// Adds the gradients of the parameters, and that of the hidden states to `hidden_gradient`, given the context's `[G, d]`.
    pub(crate) fn backward(
        pass: GlobalPass,
        gradient: &Tensor,
        inputs: GlobalInputs<'_>,
        hidden_gradient: &Tensor,
        sums: &mut dyn GradientSums,
    ) -> Result<()> {
        let GlobalPass { output, own, folded, pooled, attended, parameters } = pass;
        let mut add = |store: &mut GradStore| -> Result<()> {
            for (name, variable) in &parameters {
                if let Some(gradient) = store.remove(variable)
                    && let Some(sum) = sums.sum(name, variable)?
                {
                    kernels::add_assign(&sum, &gradient)?;
                }
            }
            Ok(())
        };
        let mut after = kernels::pull_back(&output, gradient)?.backward()?;
        add(&mut after)?;
        let Some(gradient) = after.remove(&attended) else { return Ok(()) };
        let [a, c] = folded.each_ref().map(Tensor::detach);
        let segments = inputs.documents.global_segments();
        let of = inputs.global_rows(&segments);
        let [da, dc] =
            kernels::global_attention_backward([inputs.hidden, &a, &c], of, &pooled, &gradient, Some(hidden_gradient))?;
        let [a, c] = &folded;
        let mut before = kernels::pull_back(a, &da)?.add(&kernels::pull_back(c, &dc)?)?.backward()?;
        add(&mut before)?;
        if let Some(gradient) = before.remove(&own) {
            kernels::add_rows(hidden_gradient, inputs.rows, &gradient)?;
        }
        Ok(())
    }
}

impl<'a> GlobalInputs<'a> {
    fn global_rows(&self, rows: &'a Segments) -> GlobalRows<'a> {
        let dropout = at(self.dropouts, Site::GlobalAttention);
        PoolingSegments { queries: rows, rows: self.documents.segments() }.with(dropout)
    }
}
