//! One forward and backward pass, layer by layer.

use candle_core::{Tensor, Var};
use epitome_kernels::{self as kernels, Loss};
use epitome_model::{Config, Dropouts, Led, Parameters};

use crate::{Batch, Gradients, Result};

const SHARED: &str = "led.shared.weight";
const ENCODER_POSITIONS: &str = "led.encoder.embed_positions.weight";
const DECODER_POSITIONS: &str = "led.decoder.embed_positions.weight";

/// A model twice over the same parameters: with a graph, and without one.
#[derive(Debug)]
pub struct Twins {
    parameters: Parameters,
    tracked: Led,
    frozen: Led,
}

impl Twins {
    /// Builds both.
    ///
    /// # Errors
    /// When a parameter is missing.
    pub fn new(config: &Config, parameters: Parameters) -> Result<Self> {
        Ok(Self {
            tracked: Led::load(config, &parameters.tracked())?,
            frozen: Led::load(config, &parameters.frozen())?,
            parameters,
        })
    }

    /// The parameters both share.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The model without a graph, for validation.
    pub fn frozen(&self) -> &Led {
        &self.frozen
    }
}

/// How to run one pass.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Dropout masks; none for a deterministic pass.
    pub dropouts: Option<Dropouts>,
    /// Label smoothing (semantics C5).
    pub label_smoothing: f64,
    /// Factor on the sum of the losses, usually one over the target tokens of the whole step (semantics C4).
    pub scale: f64,
    /// Keep only each layer's input and run the layer again in the backward pass.
    pub gradient_checkpointing: bool,
}

/// A layer that has run: its input as a fresh variable, and its output if the graph was kept.
struct Ran {
    input: Var,
    output: Option<Tensor>,
}

/// Adds the gradients of `scale * (summed loss of the batch)` to `gradients` and returns the loss.
///
/// The graph never spans more than one layer: each segment starts at a fresh variable holding its input, and the incoming
/// gradient is pulled back through it. With checkpointing the forward pass runs on the detached model and the segment's
/// graph is made in the backward pass; dropout masks are functions of their place, so both draw the same.
///
/// # Errors
/// When an operation fails.
pub fn accumulate_gradients(twins: &Twins, batch: &Batch, pass: Pass, gradients: &mut Gradients) -> Result<Loss> {
    let mut walk = Walk { twins, batch, pass, gradients, ran: Vec::new() };
    let encoded = Var::from_tensor(&walk.encode()?)?;
    let hidden = walk.decode(&encoded)?;
    let (loss, gradient) = walk.head(&hidden)?;
    drop(hidden);
    let encoded_gradient = walk.backward_decoder(gradient, &encoded)?;
    drop(encoded);
    walk.backward_encoder(encoded_gradient)?;
    Ok(loss)
}

struct Walk<'a> {
    twins: &'a Twins,
    batch: &'a Batch,
    pass: Pass,
    gradients: &'a mut Gradients,
    ran: Vec<Ran>,
}

impl Walk<'_> {
    /// Runs a segment forward: `run` on the detached model with checkpointing, else on the tracked one.
    fn forward(
        &mut self,
        input: &Tensor,
        run: impl Fn(&Led, &Tensor) -> epitome_model::Result<Tensor>,
    ) -> Result<Tensor> {
        let input = Var::from_tensor(input)?;
        if self.pass.gradient_checkpointing {
            let output = run(&self.twins.frozen, &input.as_detached_tensor())?;
            self.ran.push(Ran { input, output: None });
            return Ok(output);
        }
        let output = run(&self.twins.tracked, input.as_tensor())?;
        let value = output.detach();
        self.ran.push(Ran { input, output: Some(output) });
        Ok(value)
    }

    /// Pulls `gradient` back through the segment that ran last. Returns its input's gradient, and `other`'s if given.
    fn backward(
        &mut self,
        gradient: &Tensor,
        other: Option<&Var>,
        run: impl Fn(&Led, &Tensor) -> epitome_model::Result<Tensor>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let Ran { input, output } = self.ran.pop().expect("every segment is walked back once");
        let output = match output {
            Some(output) => output,
            None => run(&self.twins.tracked, input.as_tensor())?,
        };
        let mut store = kernels::pull_back(&output, gradient)?.backward()?;
        drop(output);
        self.gradients.collect(&mut store, self.twins.parameters.iter())?;
        let input_gradient = store.remove(&input).map_or_else(|| input.zeros_like(), Ok)?;
        Ok((input_gradient, other.and_then(|other| store.remove(other))))
    }

    fn encode(&mut self) -> Result<Tensor> {
        let Self { batch, pass, twins, .. } = *self;
        let encoder = twins.frozen.encoder();
        let sum = encoder.embedding_sum(&batch.documents)?;
        let mut hidden = self.forward(&sum, |led, x| led.encoder().normalise_embedding(x, pass.dropouts))?;
        for index in 0..encoder.layers().len() {
            hidden = self
                .forward(&hidden, |led, x| led.encoder().layers()[index].forward(x, &batch.documents, pass.dropouts))?;
        }
        Ok(hidden)
    }

    fn decode(&mut self, encoded: &Var) -> Result<Tensor> {
        let Self { batch, pass, twins, .. } = *self;
        let decoder = twins.frozen.decoder();
        let sum = decoder.embedding_sum(&batch.decoder_ids, &batch.targets)?;
        let mut hidden = self.forward(&sum, |led, x| led.decoder().normalise_embedding(x, pass.dropouts))?;
        for index in 0..decoder.layers().len() {
            hidden = self.forward(&hidden, decoder_layer(batch, pass, index, encoded))?;
        }
        Ok(hidden)
    }

    /// The loss, and the gradient of the decoder's output; the shared embedding's part is added in place.
    fn head(&mut self, hidden: &Tensor) -> Result<(Loss, Tensor)> {
        let led = &self.twins.frozen;
        let table_gradient = self.gradients.sum_like(SHARED, led.shared())?;
        Ok(kernels::cross_entropy_backward(
            hidden,
            led.shared(),
            Some(led.final_logits_bias()),
            &self.batch.labels,
            self.pass.label_smoothing,
            self.pass.scale,
            table_gradient,
        )?)
    }

    fn backward_decoder(&mut self, mut gradient: Tensor, encoded: &Var) -> Result<Tensor> {
        let Self { batch, pass, twins, .. } = *self;
        let encoded_gradient = encoded.zeros_like()?;
        for index in (0..twins.frozen.decoder().layers().len()).rev() {
            let run = decoder_layer(batch, pass, index, encoded);
            let (input, other) = self.backward(&gradient, Some(encoded), run)?;
            if let Some(other) = other {
                kernels::add_assign(&encoded_gradient, &other)?;
            }
            gradient = input;
        }
        let (sum, _) = self.backward(&gradient, None, |led, x| led.decoder().normalise_embedding(x, pass.dropouts))?;
        let positions = twins.frozen.decoder().position_ids(&batch.targets)?;
        self.embeddings(&sum, &batch.decoder_ids, DECODER_POSITIONS, &positions)?;
        Ok(encoded_gradient)
    }

    fn backward_encoder(&mut self, mut gradient: Tensor) -> Result<()> {
        let Self { batch, pass, twins, .. } = *self;
        let encoder = twins.frozen.encoder();
        for index in (0..encoder.layers().len()).rev() {
            gradient = self
                .backward(&gradient, None, |led, x| {
                    led.encoder().layers()[index].forward(x, &batch.documents, pass.dropouts)
                })?
                .0;
        }
        let (sum, _) = self.backward(&gradient, None, |led, x| led.encoder().normalise_embedding(x, pass.dropouts))?;
        let positions = encoder.position_ids(&batch.documents)?;
        self.embeddings(&sum, batch.documents.ids(), ENCODER_POSITIONS, &positions)
    }

    /// Adds the gradient of an embedding sum to the token and position tables, in place. The padding row of the token
    /// table receives nothing from look-ups, as `nn.Embedding(padding_idx)` has it.
    fn embeddings(&mut self, gradient: &Tensor, ids: &[u32], positions: &str, position_ids: &[u32]) -> Result<()> {
        let led = &self.twins.frozen;
        let padding = Some(led.config().pad_token_id);
        kernels::accumulate_rows(self.gradients.sum_like(SHARED, led.shared())?, ids, gradient, padding)?;
        let table = self
            .twins
            .parameters
            .iter()
            .find_map(|(name, variable)| (name == positions).then_some(variable))
            .expect("both stacks have a position table");
        let sum = self.gradients.sum_like(positions, table)?;
        Ok(kernels::accumulate_rows(sum, position_ids, gradient, None)?)
    }
}

/// Decoder layer `index` as a segment. The detached model must not record a graph through the encoded documents, so it is
/// given their detached tensor.
fn decoder_layer<'a>(
    batch: &'a Batch,
    pass: Pass,
    index: usize,
    encoded: &'a Var,
) -> impl Fn(&Led, &Tensor) -> epitome_model::Result<Tensor> + 'a {
    move |led, x| {
        let tracked = x.is_variable();
        let encoded = if tracked { encoded.as_tensor().clone() } else { encoded.as_detached_tensor() };
        let sources = batch.documents.segments();
        led.decoder().layers()[index].forward(x, &batch.targets, &encoded, sources, pass.dropouts)
    }
}
