//! One decoder layer: self-attention, cross-attention to the encoded documents, and the feed-forward layer.

use std::ops::Range;

use candle_core::Tensor;
use epitome_kernels::{DecodingStep, KeyValueRows, Segments, Visibility};

use crate::attention::{AttentionKept, MultiHeadAttention, Scope};
use crate::decoder::STACK;
use crate::feed_forward::{FeedForward, FeedForwardKept};
use crate::layers::{LayerNorm, Site, at, residual_sum};
use crate::step_input::StepInput;
use crate::weights::Source;
use crate::{Config, CrossMemory, Dropouts, Error, GradientSums, Keep, Result};

/// One decoder layer.
#[derive(Clone, Debug)]
pub struct DecoderLayer {
    index: usize,
    self_attn: MultiHeadAttention,
    self_attn_layer_norm: LayerNorm,
    pub(crate) encoder_attn: MultiHeadAttention,
    encoder_attn_layer_norm: LayerNorm,
    feed_forward: FeedForward,
}

/// What a forward pass keeps of a layer for its backward pass: its input and, as asked, more.
#[derive(Debug)]
pub struct DecoderLayerKept {
    hidden: Tensor,
    self_attn: AttentionKept,
    /// The output of self-attention, and that of its sublayer, which the layer norm ends.
    self_attended: Option<Tensor>,
    query: Option<Tensor>,
    encoder_attn: AttentionKept,
    /// Those of cross-attention.
    cross_attended: Option<Tensor>,
    middle: Option<Tensor>,
    feed_forward: FeedForwardKept,
}

/// What a decoder layer is run on besides its input: the documents of its rows, and the encoded documents `[S, d]`.
#[derive(Clone, Copy, Debug)]
pub struct DecoderInputs<'a> {
    /// Which document each row belongs to.
    pub targets: &'a Segments,
    /// The encoded documents, `[S, d]`.
    pub encoded: &'a Tensor,
    /// Which of its rows belong to which document.
    pub sources: &'a Segments,
    /// Those of the whole forward pass.
    pub dropouts: Option<Dropouts>,
}

impl DecoderLayer {
    pub(crate) fn load(config: &Config, source: Source<'_>, index: usize) -> Result<Self> {
        let prefix = format!("led.decoder.layers.{index}");
        let d = config.d_model;
        let norm = |name: &str| LayerNorm::load(source, &format!("{prefix}.{name}"), d);
        let attention = |name: &str| MultiHeadAttention::load(source, &format!("{prefix}.{name}"), config);
        Ok(Self {
            index,
            self_attn: attention("self_attn")?,
            self_attn_layer_norm: norm("self_attn_layer_norm")?,
            encoder_attn: attention("encoder_attn")?,
            encoder_attn_layer_norm: norm("encoder_attn_layer_norm")?,
            feed_forward: FeedForward::load(source, &prefix, d, config.decoder_ffn_dim)?,
        })
    }

    /// Teacher forcing: `[T, d]` to `[T, d]`, and what the backward pass is given.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn forward(
        &self,
        hidden: &Tensor,
        inputs: DecoderInputs<'_>,
        keep: Keep,
    ) -> Result<(Tensor, DecoderLayerKept)> {
        let dropouts = self.dropouts(inputs);
        let (self_attended, self_attn) = self.self_attn.forward(hidden, hidden, self_scope(inputs, dropouts), keep)?;
        let sum = residual_sum(&self_attended, hidden, at(dropouts, Site::SelfAttentionOutput));
        let query = self.self_attn_layer_norm.add(sum)?;
        let (cross_attended, encoder_attn) =
            self.encoder_attn.forward(&query, inputs.encoded, cross_scope(inputs, dropouts), keep)?;
        let sum = residual_sum(&cross_attended, &query, at(dropouts, Site::CrossAttentionOutput));
        let middle = self.encoder_attn_layer_norm.add(sum)?;
        let (output, feed_forward) = self.feed_forward.forward(&middle, dropouts, keep)?;
        let at_least = |least: Keep, tensor: Tensor| (keep >= least).then_some(tensor);
        let kept = DecoderLayerKept {
            hidden: hidden.clone(),
            self_attn,
            self_attended: at_least(Keep::Outputs, self_attended),
            query: at_least(Keep::Everything, query),
            encoder_attn,
            cross_attended: at_least(Keep::Outputs, cross_attended),
            middle: at_least(Keep::Everything, middle),
            feed_forward,
        };
        Ok((output, kept))
    }

    /// The gradient of the input `[T, d]`, given that of the output; adds that of the encoded documents to
    /// `encoded_gradient`, if anything asks for it, and those of the parameters.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn backward(
        &self,
        kept: DecoderLayerKept,
        gradient: &Tensor,
        inputs: DecoderInputs<'_>,
        encoded_gradient: Option<&Tensor>,
        sums: &mut dyn GradientSums,
    ) -> Result<Tensor> {
        let dropouts = self.dropouts(inputs);
        let kept = match kept {
            DecoderLayerKept { hidden, self_attended: None, .. } => self.forward(&hidden, inputs, Keep::Everything)?.1,
            kept => kept,
        };
        let DecoderLayerKept {
            hidden,
            self_attn,
            self_attended,
            query,
            encoder_attn,
            cross_attended,
            middle,
            feed_forward,
        } = kept;
        let (Some(self_attended), Some(cross_attended)) = (self_attended, cross_attended) else {
            return Err(Error::Input("a decoder layer kept one attention's output without the other's".into()));
        };
        let self_sum = residual_sum(&self_attended, &hidden, at(dropouts, Site::SelfAttentionOutput));
        let query = query.map_or_else(|| self.self_attn_layer_norm.add(self_sum), Ok)?;
        let cross_sum = residual_sum(&cross_attended, &query, at(dropouts, Site::CrossAttentionOutput));
        let middle = middle.map_or_else(|| self.encoder_attn_layer_norm.add(cross_sum), Ok)?;
        let gradient = self.feed_forward.backward(&middle, &feed_forward, gradient, dropouts, sums)?;
        drop(middle);

        let [sum, gradient] =
            self.encoder_attn_layer_norm.add_backward(cross_sum, self.encoder_attn.output(), &gradient, sums)?;
        let scope = cross_scope(inputs, dropouts);
        let targets = (&sum, encoded_gradient);
        self.encoder_attn.backward((&query, inputs.encoded), encoder_attn, &gradient, scope, targets, sums)?;

        let [sum, gradient] = self.self_attn_layer_norm.add_backward(self_sum, self.self_attn.output(), &sum, sums)?;
        let scope = self_scope(inputs, dropouts);
        self.self_attn.backward((&hidden, &hidden), self_attn, &gradient, scope, (&sum, Some(&sum)), sums)?;
        Ok(sum)
    }

    pub(crate) fn step(
        &self,
        input: &StepInput<'_>,
        step: &DecodingStep,
        memory: &CrossMemory,
        cache: &mut KeyValueRows,
    ) -> Result<StepInput<'_>> {
        let [residual, x] = self.self_attn.attend_past(input, step, cache)?;
        let query = StepInput::Sum { x, residual, norm: &self.self_attn_layer_norm };
        let [residual, x] = self.encoder_attn.attend_memory(&query, memory, self.index, step)?;
        self.feed_forward.step(&StepInput::Sum { x, residual, norm: &self.encoder_attn_layer_norm })
    }

    /// Teacher forcing over what decoding keeps of the documents: `[T, d]` to `[T, d]`, and each row's masses.
    pub(crate) fn read_with_mass(
        &self,
        hidden: &Tensor,
        targets: &Segments,
        memory: &CrossMemory,
        rows: &Segments,
        spans: &[Vec<Range<usize>>],
    ) -> Result<(Tensor, Vec<Vec<f32>>)> {
        let causal = &Visibility::Causal { past: 0 };
        let scope = Scope { queries: targets, keys: targets, visibility: causal, dropout: None };
        let attended = self.self_attn.forward(hidden, hidden, scope, Keep::Input)?.0;
        let query = self.self_attn_layer_norm.add(residual_sum(&attended, hidden, None))?;
        let (attended, masses) = self.encoder_attn.attend_memory_with_mass(&query, memory, self.index, rows, spans)?;
        let middle = self.encoder_attn_layer_norm.add(residual_sum(&attended, &query, None))?;
        Ok((self.feed_forward.forward(&middle, None, Keep::Input)?.0, masses))
    }

    fn dropouts(&self, inputs: DecoderInputs<'_>) -> Option<Dropouts> {
        inputs.dropouts.map(|all| all.part(STACK).part(self.index + 1))
    }
}

fn self_scope<'a>(inputs: DecoderInputs<'a>, dropouts: Option<Dropouts>) -> Scope<'a> {
    let targets = inputs.targets;
    let dropout = at(dropouts, Site::SelfAttention);
    Scope { queries: targets, keys: targets, visibility: &Visibility::Causal { past: 0 }, dropout }
}

fn cross_scope<'a>(inputs: DecoderInputs<'a>, dropouts: Option<Dropouts>) -> Scope<'a> {
    let dropout = at(dropouts, Site::CrossAttention);
    Scope { queries: inputs.targets, keys: inputs.sources, visibility: &Visibility::Full, dropout }
}
