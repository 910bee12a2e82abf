//! One forward and backward pass, layer by layer.

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Tensor};
use epitome_kernels::{self as kernels, Device, Loss, PendingLoss};
use epitome_model::{
    Config, DECODER_POSITIONS, DecoderInputs, DecoderLayerKept, Dropouts, ENCODER_POSITIONS, EncoderLayerKept,
    GradientSums, Keep, Led, Parameters, SHARED,
};

use crate::frozen::{Frozen, TrainedSums, reached_layers};
use crate::keeping::{self, Kept, Stack};
use crate::{Batch, Error, Gradients, Result};

/// What an update keeps of layers with `gradient_checkpointing`, in bytes, so that short documents are not computed twice.
pub(crate) const KEPT_BYTES: usize = 256 << 20;

/// [`Pass::kept_bytes`] of runs on a device. Of a GPU's memory it is a small part: the rest is for documents that are too long to keep
/// much of.
pub fn kept_bytes(device: &Device) -> usize {
    kernels::gpu_memory(device).map_or(KEPT_BYTES, |bytes| (bytes / 10).max(KEPT_BYTES))
}

/// A model in training: its parameters, and the network over the same storage, which sees every update in place.
#[derive(Debug)]
pub struct Trainable {
    parameters: Parameters,
    led: Led,
    frozen: Frozen,
    activations: DType,
}

impl Trainable {
    /// Builds the network, which computes where the parameters are.
    ///
    /// # Errors
    /// When a parameter is missing.
    pub fn new(config: &Config, parameters: Parameters) -> Result<Self> {
        Self::computing_in(config, parameters, DType::F32)
    }

    /// The same with hidden states of the type `activations`; the parameters and sums of gradients are in f32.
    ///
    /// # Errors
    /// As [`Trainable::new`].
    pub fn computing_in(config: &Config, parameters: Parameters, activations: DType) -> Result<Self> {
        let led = Led::load_for_training(config, &parameters, activations)?;
        Ok(Self { led, parameters, frozen: Frozen::default(), activations })
    }

    /// Where it computes.
    pub(crate) fn device(&self) -> &Device {
        self.led.shared().device()
    }

    /// The type of hidden states.
    pub(crate) fn activations(&self) -> DType {
        self.activations
    }

    /// Lets backward passes leave out the gradients of what is not trained, and all that only they need.
    #[must_use]
    pub fn train_only(self, is_trained: impl Fn(&str) -> bool) -> Self {
        let names: Vec<&str> = self.parameters.iter().map(|(name, _)| name).collect();
        let frozen = Frozen::new(&names, is_trained);
        Self { frozen, ..self }
    }

    /// The parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The network.
    pub fn led(&self) -> &Led {
        &self.led
    }
}

/// How to run one pass.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// Dropout masks; none for a deterministic pass.
    pub dropouts: Option<Dropouts>,
    /// Label smoothing, as `LabelSmoother` of `transformers` (`trainer_pt_utils.py`).
    pub label_smoothing: f64,
    /// Factor on the sum of the losses, usually one over the target tokens of the whole step.
    pub scale: f64,
    /// Keep each layer's input and, within [`Pass::kept_bytes`], its costly outputs and more, and compute the rest again in the
    /// backward pass.
    pub gradient_checkpointing: bool,
    /// Bytes that a pass with `gradient_checkpointing` keeps of layers.
    pub kept_bytes: usize,
    /// When this becomes true the pass ends before its next layer, with [`Error::Interrupted`]; a GPU still does what it was told.
    pub interrupted: Option<&'a AtomicBool>,
}

/// Adds the gradients of `scale * (summed loss of the batch)` to `gradients` and returns the loss.
///
/// There is no graph: each layer has a backward pass of its own, which gets what the forward pass kept and computes the
/// rest again. Dropout masks are functions of their place, so both times draw the same.
///
/// # Errors
/// When an operation fails or the pass is interrupted; `gradients` then hold a part of the sum.
pub fn accumulate_gradients(
    trainable: &Trainable,
    batch: &Batch,
    pass: Pass<'_>,
    gradients: &mut Gradients,
) -> Result<Loss> {
    let Trainable { led, frozen, parameters, .. } = trainable;
    let kept = kept(trainable, batch, pass);
    let mut walk = Walk { led, frozen, batch, pass, sums: TrainedSums { frozen, gradients }, kept };
    let (encoded, encoder) = walk.encode()?;
    let (hidden, decoder) = walk.decode(&encoded)?;
    walk.sums.gradients.reserve(parameters.iter().filter(|(name, _)| !frozen.is_frozen(name)))?;
    let (loss, gradient) = walk.head(&hidden)?;
    drop(hidden);
    let gradient = walk.backward_decoder(decoder, gradient, &encoded)?;
    drop(encoded);
    if let Some(gradient) = gradient {
        walk.backward_encoder(encoder, gradient)?;
    }
    // A GPU has been told all by now.
    Ok(loss.read()?)
}

/// What the layers of encoder and decoder are to keep.
fn kept(trainable: &Trainable, batch: &Batch, pass: Pass<'_>) -> [Kept; 2] {
    let Trainable { led, frozen, .. } = trainable;
    let config = led.config();
    let bytes = |rows: usize| rows * config.d_model * trainable.activations.size_in_bytes();
    let (encoded, hidden) = (bytes(batch.documents.ids().len()), bytes(batch.decoder_ids.len()));
    let global = batch.documents.global().iter().map(Vec::len).sum();
    let encoder =
        Stack::encoder(config, reached_layers(frozen.encoder_start, led.encoder().layers().len()), encoded, global);
    let decoder =
        Stack::decoder(config, reached_layers(frozen.decoder_start, led.decoder().layers().len()), hidden, encoded);
    keeping::plan(if pass.gradient_checkpointing { pass.kept_bytes } else { usize::MAX }, [encoder, decoder])
}

/// What the forward pass of a stack left for its backward pass: the sum of the embeddings, and its layers', of as many of the last as
/// the backward pass reaches.
struct StackKept<L> {
    embedding_sum: Option<Tensor>,
    layers: Vec<L>,
}

struct Walk<'a> {
    led: &'a Led,
    frozen: &'a Frozen,
    batch: &'a Batch,
    pass: Pass<'a>,
    sums: TrainedSums<'a>,
    /// What the layers of encoder and decoder are to keep.
    kept: [Kept; 2],
}

impl<'a> Walk<'a> {
    fn check_interrupted(&self) -> Result<()> {
        let interrupted = self.pass.interrupted.is_some_and(|interrupted| interrupted.load(Ordering::Relaxed));
        if interrupted { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn encode(&self) -> Result<(Tensor, StackKept<EncoderLayerKept>)> {
        let (encoder, documents, dropouts) = (self.led.encoder(), &self.batch.documents, self.pass.dropouts);
        let embedding_sum = encoder.embedding_sum(documents)?;
        let hidden = encoder.normalise_embedding(&embedding_sum, dropouts)?;
        let trained = (self.frozen.encoder_start, self.kept[0]);
        self.walk(encoder.layers(), trained, (embedding_sum, hidden), |layer, hidden, keep| {
            layer.forward(hidden, documents, dropouts, keep)
        })
    }

    fn decoder_inputs<'e>(&self, encoded: &'e Tensor) -> DecoderInputs<'e>
    where
        'a: 'e,
    {
        let Batch { targets, documents, .. } = self.batch;
        DecoderInputs { targets, encoded, sources: documents.segments(), dropouts: self.pass.dropouts }
    }

    fn decode(&self, encoded: &Tensor) -> Result<(Tensor, StackKept<DecoderLayerKept>)> {
        let (decoder, inputs) = (self.led.decoder(), self.decoder_inputs(encoded));
        let embedding_sum = decoder.embedding_sum(&self.batch.decoder_ids, &self.batch.targets)?;
        let hidden = decoder.normalise_embedding(&embedding_sum, self.pass.dropouts)?;
        let trained = (self.frozen.decoder_start, self.kept[1]);
        self.walk(decoder.layers(), trained, (embedding_sum, hidden), |layer, hidden, keep| {
            layer.forward(hidden, inputs, keep)
        })
    }

    /// The output of a stack whose embeddings are given, before and after their layer norm, with what its layers keep: `kept`, as
    /// far down as training reaches, `start` (see [`Frozen`]).
    fn walk<L, K>(
        &self,
        layers: &[L],
        (start, kept): (usize, Kept),
        (embedding_sum, mut hidden): (Tensor, Tensor),
        forward: impl Fn(&L, &Tensor, Keep) -> epitome_model::Result<(Tensor, K)>,
    ) -> Result<(Tensor, StackKept<K>)> {
        let mut kept_layers = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            self.check_interrupted()?;
            let is_reached = index + 1 >= start;
            let keep = if is_reached { kept.of(kept_layers.len()) } else { Keep::Input };
            let (output, kept) = forward(layer, &hidden, keep)?;
            hidden = output;
            if is_reached {
                kept_layers.push(kept);
            }
        }
        let embedding_sum = (start == 0).then_some(embedding_sum);
        Ok((hidden, StackKept { embedding_sum, layers: kept_layers }))
    }

    /// The loss, and the gradient of the decoder's output; the shared embedding's part is added in place.
    fn head(&mut self, hidden: &Tensor) -> Result<(PendingLoss, Tensor)> {
        let table_gradient = self.sums.sum(SHARED, self.led.shared())?;
        Ok(kernels::cross_entropy_backward(
            hidden,
            self.led.head(),
            Some(self.led.final_logits_bias()),
            self.batch.loss_targets(),
            self.pass.label_smoothing,
            self.pass.scale,
            table_gradient.as_ref(),
        )?)
    }

    /// The gradient of the encoded documents, if the encoder is trained.
    fn backward_decoder(
        &mut self,
        kept: StackKept<DecoderLayerKept>,
        mut gradient: Tensor,
        encoded: &Tensor,
    ) -> Result<Option<Tensor>> {
        let (decoder, inputs) = (self.led.decoder(), self.decoder_inputs(encoded));
        let encoded_gradient = self.frozen.trains_encoder().then(|| encoded.zeros_like()).transpose()?;
        for (layer, kept) in decoder.layers().iter().rev().zip(kept.layers.into_iter().rev()) {
            self.check_interrupted()?;
            gradient = layer.backward(kept, &gradient, inputs, encoded_gradient.as_ref(), &mut self.sums)?;
        }
        if let Some(sum) = kept.embedding_sum {
            let gradient = decoder.embedding_backward(&sum, &gradient, self.pass.dropouts, &mut self.sums)?;
            let positions = decoder.position_ids(&self.batch.targets);
            let table = (DECODER_POSITIONS, decoder.position_table());
            self.embeddings(&gradient, &self.batch.decoder_ids, table, &positions)?;
        }
        Ok(encoded_gradient)
    }

    fn backward_encoder(&mut self, kept: StackKept<EncoderLayerKept>, mut gradient: Tensor) -> Result<()> {
        let (encoder, documents, dropouts) = (self.led.encoder(), &self.batch.documents, self.pass.dropouts);
        for (layer, kept) in encoder.layers().iter().rev().zip(kept.layers.into_iter().rev()) {
            self.check_interrupted()?;
            gradient = layer.backward(kept, &gradient, documents, dropouts, &mut self.sums)?;
        }
        if let Some(sum) = kept.embedding_sum {
            let gradient = encoder.embedding_backward(&sum, &gradient, dropouts, &mut self.sums)?;
            let positions = encoder.position_ids(documents);
            self.embeddings(&gradient, documents.ids(), (ENCODER_POSITIONS, encoder.position_table()), &positions)?;
        }
        Ok(())
    }

    /// Adds the gradient of an embedding sum to the token and position tables, in place. The padding row of the token
    /// table receives nothing from look-ups, as `nn.Embedding(padding_idx)` has it.
    fn embeddings(
        &mut self,
        gradient: &Tensor,
        ids: &[u32],
        (name, table): (&str, &Tensor),
        position_ids: &[u32],
    ) -> Result<()> {
        let padding = Some(self.led.config().pad_token_id);
        if let Some(tokens) = self.sums.sum(SHARED, self.led.shared())? {
            kernels::accumulate_rows(&tokens, ids, gradient, padding)?;
        }
        if let Some(positions) = self.sums.sum(name, table)? {
            kernels::accumulate_rows(&positions, position_ids, gradient, None)?;
        }
        Ok(())
    }
}
