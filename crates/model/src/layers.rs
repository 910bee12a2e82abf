//! The pieces that encoder and decoder layers share.

use std::sync::Arc;

use candle_core::Tensor;
use epitome_kernels::{self as kernels, Dropout, DropoutKey, PackedLinear, Precision};

use crate::weights::Source;
use crate::{Config, Result};

/// Epsilon of every layer norm (semantics B1).
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
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
}

impl Projection {
    pub(crate) fn load(source: Source<'_>, prefix: &str, output: usize, input: usize) -> Result<Self> {
        Ok(Self {
            weight: source.get(&format!("{prefix}.weight"), &[output, input])?,
            bias: source.get(&format!("{prefix}.bias"), &[output])?,
        })
    }
}

/// `x W^T + b`, over tensors that can be trained, or packed for inference with the same results.
#[derive(Clone, Debug)]
pub(crate) enum Linear {
    Plain(Projection),
    Packed(Arc<PackedLinear>),
}

impl Linear {
    pub(crate) fn load(source: Source<'_>, prefix: &str, output: usize, input: usize) -> Result<Self> {
        let plain = Projection::load(source, prefix, output, input)?;
        Ok(match source.packed {
            None => Self::Plain(plain),
            Some(precision) => Self::Packed(Arc::new(PackedLinear::new(&plain.weight, Some(&plain.bias), precision)?)),
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
            Self::Plain(Projection { weight, bias }) => kernels::linear(x, weight, Some(bias))?,
            Self::Packed(packed) => packed.forward(x)?,
        })
    }

    /// `[T, input]` to `[T, heads, output / heads]`.
    pub(crate) fn heads(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let projected = self.forward(x)?;
        let (rows, width) = projected.dims2()?;
        Ok(projected.reshape((rows, heads, width / heads))?)
    }
}

/// Layer normalisation over the last dimension.
#[derive(Clone, Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub(crate) fn load(source: Source<'_>, prefix: &str, d: usize) -> Result<Self> {
        Ok(Self {
            weight: source.get(&format!("{prefix}.weight"), &[d])?,
            bias: source.get(&format!("{prefix}.bias"), &[d])?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(kernels::layer_norm(x, &self.weight, &self.bias, LAYER_NORM_EPSILON)?)
    }

    /// `LN(residual + dropout(x))`, the end of every post-LN sublayer (semantics B1).
    pub(crate) fn add(&self, x: &Tensor, residual: &Tensor, dropout: Option<Dropout>) -> Result<Tensor> {
        let dropped = kernels::dropout(x, dropout)?;
        Ok(kernels::add_layer_norm(&dropped, residual, &self.weight, &self.bias, LAYER_NORM_EPSILON)?)
    }
}

/// `LN(x + fc2(gelu(fc1(x))))`, with dropout after the activation and before the sum.
#[derive(Clone, Debug)]
pub(crate) struct FeedForward {
    fc1: Linear,
    fc2: Linear,
    final_layer_norm: LayerNorm,
}

impl FeedForward {
    pub(crate) fn load(source: Source<'_>, prefix: &str, d: usize, width: usize) -> Result<Self> {
        Ok(Self {
            fc1: Linear::load(source, &format!("{prefix}.fc1"), width, d)?,
            fc2: Linear::load(source, &format!("{prefix}.fc2"), d, width)?,
            final_layer_norm: LayerNorm::load(source, &format!("{prefix}.final_layer_norm"), d)?,
        })
    }

    pub(crate) fn forward(&self, hidden: &Tensor, dropouts: Option<Dropouts>) -> Result<Tensor> {
        if let (Linear::Packed(fc1), Linear::Packed(fc2), None) = (&self.fc1, &self.fc2, dropouts) {
            return self.final_layer_norm.add(&fc1.feed_forward(fc2, hidden)?, hidden, None);
        }
        let inner = kernels::gelu(&self.fc1.forward(hidden)?)?;
        let inner = kernels::dropout(&inner, at(dropouts, Site::Activation))?;
        self.final_layer_norm.add(&self.fc2.forward(&inner)?, hidden, at(dropouts, Site::FeedForwardOutput))
    }
}

/// The sum of token and position embeddings before normalisation (semantics B2, B3): positions start at 0 and tile the
/// table when they pass its end.
#[derive(Clone, Debug)]
pub(crate) struct Embedding {
    pub(crate) shared: Tensor,
    pub(crate) positions: Tensor,
    layernorm_embedding: LayerNorm,
}

impl Embedding {
    pub(crate) fn load(source: Source<'_>, prefix: &str, shared: &Tensor, rows: usize) -> Result<Self> {
        let d = shared.dim(1)?;
        Ok(Self {
            shared: shared.clone(),
            positions: source.get(&format!("{prefix}.embed_positions.weight"), &[rows, d])?,
            layernorm_embedding: LayerNorm::load(source, &format!("{prefix}.layernorm_embedding"), d)?,
        })
    }

    /// The rows of the position table that positions `0..` of each segment read.
    pub(crate) fn position_ids(&self, segments: &kernels::Segments) -> Result<Vec<u32>> {
        let rows = self.positions.dim(0)?;
        Ok(segments.ranges().flat_map(|range| (0..range.len()).map(move |position| (position % rows) as u32)).collect())
    }

    /// Token and position rows summed, `[T, d]`, outside the graph.
    pub(crate) fn sum(&self, ids: &[u32], position_ids: &[u32]) -> Result<Tensor> {
        Ok(kernels::embed(&[(&self.shared, ids), (&self.positions, position_ids)])?)
    }

    pub(crate) fn normalise(&self, sum: &Tensor, dropouts: Option<Dropouts>) -> Result<Tensor> {
        let normalised = self.layernorm_embedding.forward(sum)?;
        Ok(kernels::dropout(&normalised, at(dropouts, Site::Embedding))?)
    }
}
