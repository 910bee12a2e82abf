//! The pieces that encoder and decoder layers share.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use epitome_kernels::{
    self as kernels, AffineSums, DecodingStep, Dropout, DropoutKey, Norm, PackedLinear, Precision, ResidualSum,
};

use crate::gradients::affine_sums;
use crate::weights::{Packing, Source};
use crate::{Config, Error, GradientSums, Result};

/// Epsilon of every layer norm: `torch.nn.LayerNorm`'s, which `transformers` leaves as it is.
const LAYER_NORM_EPSILON: f64 = 1e-5;

/// The dropout of one training forward: the probabilities and a key from which every layer and site derives its own, so
/// that running a layer again draws the same masks.
#[derive(Clone, Copy, Debug)]
pub struct Dropouts {
    key: DropoutKey,
    hidden: f32,
    attention: f32,
    activation: f32,
}

/// Where in a layer a mask is drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Site {
    Embedding,
    SelfAttention,
    GlobalAttention,
    SelfAttentionOutput,
    CrossAttention,
    CrossAttentionOutput,
    Activation,
    FeedForwardOutput,
}

impl Dropouts {
    /// The probabilities of `config` with the key of one forward pass.
    pub fn new(config: &Config, key: DropoutKey) -> Self {
        Self { key, hidden: config.dropout, attention: config.attention_dropout, activation: config.activation_dropout }
    }

    /// The dropouts of one part of the network (a stack or a layer).
    pub(crate) fn part(self, index: usize) -> Self {
        Self { key: self.key.fold(index as u64), ..self }
    }

    pub(crate) fn site(self, site: Site) -> Dropout {
        let probability = match site {
            Site::SelfAttention | Site::GlobalAttention | Site::CrossAttention => self.attention,
            Site::Activation => self.activation,
            _ => self.hidden,
        };
        Dropout { probability, key: self.key.fold(site as u64) }
    }
}

/// The dropout of `site`, if any.
pub(crate) fn at(dropouts: Option<Dropouts>, site: Site) -> Option<Dropout> {
    dropouts.map(|dropouts| dropouts.site(site))
}

/// Weight `[output, input]` and bias `[output]` of a linear layer.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    /// Its parameters' common prefix.
    pub(crate) name: String,
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
}

impl Projection {
    pub(crate) fn load(source: Source<'_>, prefix: &str, output: usize, input: usize) -> Result<Self> {
        Ok(Self {
            weight: source.get(&format!("{prefix}.weight"), &[output, input])?,
            bias: source.get(&format!("{prefix}.bias"), &[output])?,
            name: prefix.to_owned(),
        })
    }

    /// Head `head` of `size` numbers of the projection of `x` `[T, d]`, `[T, 1, size]`.
    pub(crate) fn head(&self, x: &Tensor, head: usize, size: usize) -> Result<Tensor> {
        let part = |parameter: &Tensor| parameter.narrow(0, head * size, size);
        Ok(kernels::linear(x, &part(&self.weight)?, Some(&part(&self.bias)?))?.unsqueeze(1)?)
    }

    /// The running sums of the parameters' gradients.
    pub(crate) fn sums(&self, sums: &mut dyn GradientSums) -> Result<AffineSums> {
        affine_sums(sums, &self.name, &self.weight, &self.bias)
    }
}

/// `x W^T + b`, over tensors that can be trained, or packed for inference with the same results.
#[derive(Clone, Debug)]
pub(crate) enum Linear {
    Plain(TrainableLinear),
    Packed(Arc<PackedLinear>),
}

/// A layer's parameters, and what its products read: the same in the type of hidden states.
#[derive(Clone, Debug)]
pub(crate) struct TrainableLinear {
    parameters: Projection,
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub(crate) fn load(source: Source<'_>, prefix: &str, output: usize, input: usize) -> Result<Self> {
        let plain = Projection::load(source, prefix, output, input)?;
        Ok(match source.packed {
            None => {
                let (weight, bias) = (
                    source.in_activations(&plain.weight, &format!("{prefix}.weight"))?,
                    source.in_activations(&plain.bias, &format!("{prefix}.bias"))?,
                );
                Self::Plain(TrainableLinear { parameters: plain, weight, bias })
            }
            Some(Packing { precision, .. }) => {
                Self::Packed(Arc::new(PackedLinear::new(&plain.weight, Some(&plain.bias), precision)?))
            }
        })
    }

    /// Of the products.
    pub(crate) fn precision(&self) -> Precision {
        match self {
            Self::Plain(_) => Precision::F32,
            Self::Packed(packed) => packed.precision(),
        }
    }

    /// `[.., input]` to `[.., output]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Plain(TrainableLinear { weight, bias, .. }) => kernels::linear(x, weight, Some(bias))?,
            Self::Packed(packed) => packed.forward(x)?,
        })
    }

    /// `[T, input]` to `[T, heads, output / heads]`.
    pub(crate) fn heads(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let projected = self.forward(x)?;
        let (rows, width) = projected.dims2()?;
        Ok(projected.reshape((rows, heads, width / heads))?)
    }

    /// The weight and bias as numbers, whatever they are kept in.
    pub(crate) fn unpacked(&self) -> Result<Projection> {
        match self {
            Self::Plain(trained) => Ok(trained.parameters.clone()),
            Self::Packed(packed) => {
                let weight = packed.weight()?;
                let bias = packed
                    .bias()?
                    .map_or_else(|| Tensor::zeros(weight.dim(0)?, weight.dtype(), weight.device()), Ok)?;
                Ok(Projection { name: String::new(), weight, bias })
            }
        }
    }

    fn trained(&self) -> Result<&TrainableLinear> {
        match self {
            Self::Plain(trained) => Ok(trained),
            Self::Packed(_) => Err(Error::Input("a model packed for inference has no backward pass".into())),
        }
    }

    /// Adds the parameters' gradients, given input `[T, input]` and the output's gradient `[T, output]`.
    pub(crate) fn backward(&self, x: &Tensor, gradient: &Tensor, sums: &mut dyn GradientSums) -> Result<()> {
        Ok(kernels::linear_backward(x, gradient, &self.trained()?.parameters.sums(sums)?)?)
    }

    /// The same of the weight alone, where [`Linear::bias_sum`] is added to elsewhere.
    pub(crate) fn weight_backward(&self, x: &Tensor, gradient: &Tensor, sums: &mut dyn GradientSums) -> Result<()> {
        let weight = self.trained()?.parameters.sums(sums)?.weight;
        Ok(kernels::linear_backward(x, gradient, &AffineSums { weight, bias: None })?)
    }

    /// The running sum of the bias's gradient, which is the sum of the rows of the output's gradient.
    pub(crate) fn bias_sum(&self, sums: &mut dyn GradientSums) -> Result<Option<Tensor>> {
        Ok(self.trained()?.parameters.sums(sums)?.bias)
    }

    /// The input's gradient, `[T, input]`.
    pub(crate) fn input_gradient(&self, gradient: &Tensor) -> Result<Tensor> {
        Ok(kernels::linear_input_gradient(gradient, &self.trained()?.weight)?)
    }

    /// Adds the input's gradient to `sum`.
    pub(crate) fn add_input_gradient(&self, sum: &Tensor, gradient: &Tensor) -> Result<()> {
        Ok(kernels::add_linear_input_gradient(sum, gradient, &self.trained()?.weight)?)
    }
}

/// Layer normalisation over the last dimension.
#[derive(Clone, Debug)]
pub(crate) struct LayerNorm {
    name: String,
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub(crate) fn load(source: Source<'_>, prefix: &str, d: usize) -> Result<Self> {
        Ok(Self {
            weight: source.get(&format!("{prefix}.weight"), &[d])?,
            bias: source.get(&format!("{prefix}.bias"), &[d])?,
            name: prefix.to_owned(),
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(kernels::layer_norm(x, &self.weight, &self.bias, LAYER_NORM_EPSILON)?)
    }

    /// `LN(residual + dropout(x))`, the end of every sublayer (`LEDEncoderLayer.forward` of `transformers`).
    pub(crate) fn add(&self, sum: ResidualSum<'_>) -> Result<Tensor> {
        Ok(kernels::add_layer_norm(sum, &self.weight, &self.bias, LAYER_NORM_EPSILON)?)
    }

    pub(crate) fn parameters(&self) -> Norm<'_> {
        Norm { weight: &self.weight, bias: &self.bias, eps: LAYER_NORM_EPSILON }
    }

    /// The gradient of the input of [`LayerNorm::forward`]; adds those of the parameters.
    pub(crate) fn backward(&self, x: &Tensor, gradient: &Tensor, sums: &mut dyn GradientSums) -> Result<Tensor> {
        let sums = affine_sums(sums, &self.name, &self.weight, &self.bias)?;
        Ok(kernels::layer_norm_backward(x, &self.weight, gradient, LAYER_NORM_EPSILON, &sums)?)
    }

    /// The gradients of the residual and of x, which may be one tensor, given that of [`LayerNorm::add`]'s result; adds those of the
    /// parameters and of the bias of `layer`, whose output x is.
    pub(crate) fn add_backward(
        &self,
        sum: ResidualSum<'_>,
        layer: &Linear,
        gradient: &Tensor,
        sums: &mut dyn GradientSums,
    ) -> Result<[Tensor; 2]> {
        let x_sum = layer.bias_sum(sums)?;
        let sums = affine_sums(sums, &self.name, &self.weight, &self.bias)?;
        let x_sum = x_sum.as_ref();
        Ok(kernels::add_layer_norm_backward(sum, &self.weight, gradient, LAYER_NORM_EPSILON, &sums, x_sum)?)
    }
}

/// The sum at the end of a sublayer with output x and input `residual`, and the dropout of x.
pub(crate) fn residual_sum<'a>(x: &'a Tensor, residual: &'a Tensor, dropout: Option<Dropout>) -> ResidualSum<'a> {
    ResidualSum { x, residual, dropout, first: 0 }
}

/// The sum of token and position embeddings before normalisation (`LEDEncoder.forward` of `transformers`): positions start at 0,
/// and tile the table when they pass its end.
#[derive(Clone, Debug)]
pub(crate) struct Embedding {
    pub(crate) shared: Tensor,
    pub(crate) positions: Tensor,
    layernorm_embedding: LayerNorm,
    /// The type of the sum.
    activations: DType,
}

impl Embedding {
    pub(crate) fn load(
        source: Source<'_>,
        prefix: &str,
        (table, rows): (&str, usize),
        shared: &Tensor,
    ) -> Result<Self> {
        let d = shared.dim(1)?;
        Ok(Self {
            shared: shared.clone(),
            positions: source.table(table, &[rows, d])?,
            layernorm_embedding: LayerNorm::load(source, &format!("{prefix}.layernorm_embedding"), d)?,
            activations: source.activations,
        })
    }

    /// The rows of the position table that positions `0..` of each segment read.
    pub(crate) fn position_ids(&self, segments: &kernels::Segments) -> Vec<u32> {
        let rows = self.positions.dims()[0];
        segments.ranges().flat_map(|range| (0..range.len()).map(move |position| (position % rows) as u32)).collect()
    }

    /// Token and position rows summed, `[T, d]`.
    pub(crate) fn sum(&self, ids: &[u32], position_ids: &[u32]) -> Result<Tensor> {
        Ok(kernels::embed(&[(&self.shared, ids), (&self.positions, position_ids)], self.activations)?)
    }

    /// [`Embedding::sum`] of a step's tokens, `[R, d]`.
    pub(crate) fn step(&self, step: &DecodingStep) -> Result<Tensor> {
        Ok(step.embed(&self.shared, &self.positions, self.activations)?)
    }

    pub(crate) fn normalise(&self, sum: &Tensor, dropouts: Option<Dropouts>) -> Result<Tensor> {
        let normalised = self.layernorm_embedding.forward(sum)?;
        Ok(kernels::dropout(&normalised, at(dropouts, Site::Embedding))?)
    }

    /// The gradient of the sum, given that of [`Embedding::normalise`]'s result; adds those of the layer norm.
    pub(crate) fn backward(
        &self,
        sum: &Tensor,
        gradient: &Tensor,
        dropouts: Option<Dropouts>,
        sums: &mut dyn GradientSums,
    ) -> Result<Tensor> {
        let gradient = kernels::dropout(gradient, at(dropouts, Site::Embedding))?;
        self.layernorm_embedding.backward(sum, &gradient, sums)
    }
}
