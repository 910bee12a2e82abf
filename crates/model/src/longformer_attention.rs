//! The encoder's self-attention: a sliding window plus global tokens (section 3.1 of the paper; `LEDEncoderSelfAttention` in
//! `transformers`, whose padding it does without).

use candle_core::Tensor;
use epitome_kernels::{self as kernels, Attended, Attention, Visibility};

use crate::global_path::{GlobalInputs, GlobalKept, GlobalPath};
use crate::layers::{Linear, Site, at};
use crate::projections::SelfProjections;
use crate::weights::Source;
use crate::{Config, Documents, Dropouts, GradientSums, Keep, Result};

/// Local projections for the band and the global columns, the global path for the rows of global tokens, and the output
/// projection that both share.
#[derive(Clone, Debug)]
pub(crate) struct LongformerSelfAttention {
    projections: SelfProjections,
    global: GlobalPath,
    output: Linear,
    heads: usize,
    radius: usize,
}

/// What a forward pass keeps.
#[derive(Debug, Default)]
pub(crate) struct SelfAttentionKept {
    projected: Option<[Tensor; 3]>,
    /// With the rows of global tokens in their places, and what there is of these.
    attended: Option<(Attended, Option<GlobalKept>)>,
}

impl LongformerSelfAttention {
    pub(crate) fn load(source: Source<'_>, prefix: &str, config: &Config, layer: usize) -> Result<Self> {
        let d = config.d_model;
        let inner = format!("{prefix}.longformer_self_attn");
        let projection = |projection: &str| Linear::load(source, &format!("{inner}.{projection}"), d, d);
        Ok(Self {
            projections: SelfProjections::new([projection("query")?, projection("key")?, projection("value")?])?,
            global: GlobalPath::load(source, &inner, config)?,
            output: Linear::load(source, &format!("{prefix}.output"), d, d)?,
            heads: config.encoder_attention_heads,
            radius: config.radius(layer),
        })
    }

    /// `[T, d]` to `[T, d]`, and what the backward pass is given.
    pub(crate) fn forward(
        &self,
        hidden: &Tensor,
        documents: &Documents,
        dropouts: Option<Dropouts>,
        keep: Keep,
    ) -> Result<(Tensor, SelfAttentionKept)> {
        let inputs = GlobalInputs { hidden, documents, dropouts };
        let projected = self.projections.heads(hidden, self.heads)?;
        let attended = self.attend(inputs, &projected)?;
        // Of a long document each of these is large: what is not kept goes before the next is made.
        let projected = (keep == Keep::Everything).then_some(projected);
        let context = attended.0.output.reshape(hidden.shape())?;
        let attended = (keep >= Keep::Outputs).then_some(attended);
        Ok((self.output.forward(&context)?, SelfAttentionKept { projected, attended }))
    }

    /// The layer whose output is that of the attention; who has that one's gradient adds the bias's.
    pub(crate) fn output(&self) -> &Linear {
        &self.output
    }

    /// Adds the gradient of `hidden` to `hidden_gradient`, given that of the output. They may be one tensor: all of
    /// `gradient` is read before anything is added.
    pub(crate) fn backward(
        &self,
        hidden: &Tensor,
        kept: SelfAttentionKept,
        gradient: &Tensor,
        (documents, dropouts): (&Documents, Option<Dropouts>),
        hidden_gradient: &Tensor,
        sums: &mut dyn GradientSums,
    ) -> Result<()> {
        let inputs = GlobalInputs { hidden, documents, dropouts };
        let projected = kept.projected.map_or_else(|| self.projections.heads(hidden, self.heads), Ok)?;
        let (attended, global) = kept.attended.map_or_else(|| self.attend(inputs, &projected), Ok)?;
        let context_gradient = self.output.input_gradient(gradient)?;
        self.output.weight_backward(&attended.output.reshape(hidden.shape())?, gradient, sums)?;
        if let Some(kept) = global {
            self.global.backward(&kept, &context_gradient, inputs, hidden_gradient, sums)?;
        }
        // Rows of global tokens have no part in the band: whatever their gradient, they add nothing here.
        let [q, k, v] = &projected;
        let gradient = context_gradient.reshape(q.shape())?;
        let spec = self.band(inputs)?;
        let gradients = kernels::attention_backward(q, k, v, &spec, &attended, &gradient)?;
        self.projections.bias_backward(&gradients, sums)?;
        for (linear, gradient) in self.projections.parts().iter().zip(gradients) {
            let gradient = gradient.reshape(hidden.shape())?;
            linear.weight_backward(hidden, &gradient, sums)?;
            linear.add_input_gradient(hidden_gradient, &gradient)?;
        }
        Ok(())
    }

    /// All tokens' attention to their bands, and that of global tokens in its rows.
    fn attend(&self, inputs: GlobalInputs<'_>, [q, k, v]: &[Tensor; 3]) -> Result<(Attended, Option<GlobalKept>)> {
        let attended = kernels::attention_forward(q, k, v, &self.band(inputs)?)?;
        let context = attended.output.reshape(inputs.hidden.shape())?;
        let has_global = !inputs.documents.global_rows().is_empty();
        let global = has_global.then(|| self.global.forward(inputs, &context)).transpose()?;
        Ok((attended, global))
    }

    fn band(&self, GlobalInputs { hidden, documents, dropouts }: GlobalInputs<'_>) -> Result<Attention> {
        Ok(Attention {
            queries: documents.segments().clone(),
            keys: documents.segments().clone(),
            visibility: Visibility::Band { radius: self.radius, global: documents.global().to_vec() },
            // Of the projected queries, bias included, as in `LEDEncoderSelfAttention.forward`.
            scale: ((hidden.dim(1)? / self.heads) as f32).powf(-0.5),
            dropout: at(dropouts, Site::SelfAttention),
            precision: self.output.precision(),
        })
    }
}
