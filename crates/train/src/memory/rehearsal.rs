//! Whether a run fits into a GPU's memory, tried before its first update.

use epitome_kernels::{Segments, is_gpu_full};
use epitome_model::Documents;

use crate::setup::Setup;
use crate::{Batch, Error, Gradients, OptimizerName, Pass, Result, RunConfig, accumulate_gradients, kept_bytes};

/// Runs a micro-batch that none of the run's exceeds forward and backward, with tokens that mean nothing, beside all that an update
/// keeps; where that does not fit, the largest ones of the updates up to `total_steps`. Nothing is left of them.
///
/// # Errors
/// [`Error::GpuMemory`] when there is no room, which says what to change.
pub(crate) fn rehearse(setup: &mut Setup, config: &RunConfig, total_steps: usize) -> Result<()> {
    let steps = setup.state.step..total_steps;
    if steps.is_empty() {
        return Ok(());
    }
    // Looking at every update takes a while where there are millions, and most runs are far from the limit.
    if config.run.batch_tokens.is_none() {
        let (source, target) = setup.training.bound(config.run.batch_size, 1);
        match run(setup, config, source, target) {
            Err(error) if is_gpu_full(&error) => (),
            outcome => return outcome,
        }
    }
    setup.training.largest_updates(steps, 1).into_iter().try_for_each(|(source, target)| {
        match run(setup, config, source, target) {
            Err(error) if is_gpu_full(&error) => {
                Err(Error::GpuMemory { source_tokens: source, target_tokens: target, changes: changes(config) })
            }
            outcome => outcome,
        }
    })
}

fn run(setup: &Setup, config: &RunConfig, source: usize, target: usize) -> Result<()> {
    let Setup { model, trainable, optimizer, .. } = setup;
    let _optimizer = optimizer.room(trainable.parameters())?;
    let start = model.decoder_start();
    let batch = Batch {
        documents: Documents::new([(vec![start; source].as_slice(), [0].as_slice())])?,
        decoder_ids: vec![start; target],
        targets: Segments::single(target),
        labels: vec![i64::from(start); target],
        choices: vec![Vec::new(); target],
        weights: vec![1.0; target],
    };
    let pass = Pass {
        dropouts: None,
        label_smoothing: config.optim.label_smoothing_factor,
        scale: 1.0,
        gradient_checkpointing: config.run.gradient_checkpointing,
        kept_bytes: kept_bytes(trainable.device()),
        interrupted: None,
    };
    accumulate_gradients(trainable, &batch, pass, &mut Gradients::default())?;
    Ok(())
}

/// Settings that take less.
fn changes(config: &RunConfig) -> String {
    let run = &config.run;
    let mut changes = Vec::new();
    if !run.gradient_checkpointing {
        changes.push("run.gradient_checkpointing = true");
    }
    if config.optim.optimizer == OptimizerName::AdamW {
        changes.push("optim.optimizer = \"adafactor\"");
    }
    match run.batch_tokens {
        Some(_) => changes.push("a lower run.batch_tokens"),
        None if run.batch_size > 1 => changes.push("a lower run.batch_size"),
        None => changes.push("data.max_source_length, which cuts longer documents"),
    }
    changes.join(", ")
}
