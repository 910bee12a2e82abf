//! The rows of global tokens (semantics A7, A13).

use candle_core::{DType, Tensor, Var};
use epitome_kernels as kernels;

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

/// A forward pass with a graph of its own.
pub(crate) struct GlobalPass {
    /// The context of the global tokens, `[G, d]`.
    pub(crate) output: Tensor,
    hidden: Var,
    /// Names and copies of the parameters.
    parameters: Vec<(String, Var)>,
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

    /// The context of the `G` global tokens `rows` of `hidden` `[T, d]`, `[G, d]`.
    pub(crate) fn context(
        &self,
        hidden: &Tensor,
        rows: &[usize],
        documents: &Documents,
        dropouts: Option<Dropouts>,
    ) -> Result<Tensor> {
        let heads = self.pooling.heads;
        let scale = ((hidden.dim(1)? / heads) as f64).powf(-0.5);
        let query = self.query.heads(&kernels::gather_rows(hidden, rows)?, heads)?.to_dtype(DType::F32)?;
        let query = (query * scale)?;
        let segments = PoolingSegments { queries: &documents.global_segments(), rows: documents.segments() };
        self.pooling.attend(&query, hidden, segments, at(dropouts, Site::GlobalAttention))
    }

    /// [`GlobalPath::context`] with a graph: it is small but for `hidden`, so that candle's backward serves it well.
    pub(crate) fn pass(
        &self,
        hidden: &Tensor,
        rows: &[usize],
        documents: &Documents,
        dropouts: Option<Dropouts>,
    ) -> Result<GlobalPass> {
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
        let hidden = Var::from_tensor(&hidden.detach())?;
        Ok(GlobalPass { output: tracked.context(&hidden, rows, documents, dropouts)?, hidden, parameters })
    }

    /// Adds the gradients of the parameters, and that of `hidden` to `hidden_gradient`, given the context's `[G, d]`.
    pub(crate) fn backward(
        &self,
        pass: GlobalPass,
        gradient: &Tensor,
        hidden_gradient: &Tensor,
        sums: &mut dyn GradientSums,
    ) -> Result<()> {
        let GlobalPass { output, hidden, parameters } = pass;
        let mut store = kernels::pull_back(&output, gradient)?.backward()?;
        for (name, variable) in &parameters {
            if let (Some(gradient), Some(sum)) = (store.remove(variable), sums.sum(name, variable)?) {
                kernels::add_assign(&sum, &gradient)?;
            }
        }
        if let Some(gradient) = store.remove(&hidden) {
            kernels::add_assign(hidden_gradient, &gradient)?;
        }
        Ok(())
    }
}
