//! The gradients of one update over its micro-batches, and whether the weights are numbers after it.

use std::sync::atomic::AtomicBool;

use epitome_data::Example;
use epitome_kernels::{self as kernels, Collective, DropoutKey, Loss};
use epitome_model::Dropouts;

use crate::setup::Setup;
use crate::workers::Workers;
use crate::{Batch, Error, Gradients, Pass, Result, RunConfig, kept_bytes, replicas};

/// What the batches of an update give.
pub(crate) struct Update {
    /// Gradients of the mean loss over the target tokens of all micro-batches, as `num_items_in_batch` of `transformers`' `Trainer` asks.
    pub(crate) gradients: Gradients,
    /// Their L2 norm.
    pub(crate) norm: f64,
    /// Summed over the target tokens.
    pub(crate) loss: Loss,
    pub(crate) source_tokens: usize,
    pub(crate) target_tokens: usize,
}

/// Runs the batches of the update after those that `setup.state` counts, shared by `processes`.
///
/// # Errors
/// When the loss or the norm is not a number, or the work is interrupted.
pub(crate) fn compute(
    setup: &mut Setup,
    config: &RunConfig,
    workers: &Workers,
    (processes, interrupted): (&Collective, Option<&AtomicBool>),
) -> Result<Update> {
    let step = setup.state.step;
    let micro_batches = setup.training.micro_batches(step)?;
    let batches = micro_batches.iter().map(|examples| Batch::new(examples, &setup.model));
    let batches = batches.collect::<epitome_model::Result<Vec<_>>>()?;
    let source_tokens = batches.iter().map(|batch| batch.documents.ids().len()).sum();
    let target_tokens: usize = batches.iter().map(Batch::target_tokens).sum();
    let pass = |index: usize| {
        let key = DropoutKey::new(config.run.seed).fold(step as u64).fold(index as u64);
        Pass {
            dropouts: Some(Dropouts::new(&setup.model, key)),
            label_smoothing: config.optim.label_smoothing_factor,
            scale: 1.0 / target_tokens as f64,
            gradient_checkpointing: config.run.gradient_checkpointing,
            kept_bytes: kept_bytes(setup.trainable.device()) / workers.count(),
            interrupted,
        }
    };
    let (gradients, loss) = replicas::gradients(processes, workers, &setup.trainable, &batches, &pass)?;
    let norm = gradients.norm()?;
    for (what, value) in [("loss", loss.loss / target_tokens as f64), ("norm of the gradients", norm)] {
        if !value.is_finite() {
            return Err(Error::NotFinite { step: step + 1, what, value, ids: ids(&micro_batches) });
        }
    }
    Ok(Update { gradients, norm, loss, source_tokens, target_tokens })
}

/// Refuses to save weights that the last update has made useless, so that one can go back to whatever is saved.
///
/// # Errors
/// When the sum of their squares is not a number in f32, in which the model computes.
pub(crate) fn check_weights(setup: &mut Setup) -> Result<()> {
    let weights: Vec<_> = setup.trainable.parameters().iter().map(|(_, parameter)| parameter).collect();
    let value = f64::from(kernels::sum_of_squares(&weights)? as f32);
    if value.is_finite() {
        return Ok(());
    }
    let step = setup.state.step;
    let ids = ids(&setup.training.micro_batches(step.saturating_sub(1))?);
    Err(Error::NotFinite { step, what: "sum of the squared weights", value, ids })
}

fn ids(micro_batches: &[Vec<Example>]) -> Vec<String> {
    micro_batches.iter().flatten().map(|example| example.id.clone()).collect()
}
