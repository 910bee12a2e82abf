//! Validation: the loss, and who scores summaries.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use epitome_distributed::ProcessGroup;
use epitome_kernels::{self as kernels, Loss};
use epitome_model::Led;

use crate::dataset::Dataset;
use crate::replicas::all_reduce_loss;
use crate::{Batch, Error, Event, Result, Trainable};

/// Writes summaries with a model in training and scores them: returns metrics by name, such as `rouge1`, and tells how far it
/// is ([`Event::Summarizing`]). Only this knows of decoding and scores.
pub type ScoreSummaries<'a> = dyn FnMut(&Trainable, &mut dyn FnMut(Event)) -> Result<BTreeMap<String, f64>> + 'a;

/// Mean negative log-likelihood per target token over a dataset, in nats, without smoothing or dropout. Its batches are
/// shared between the processes of `group`, which all get the result.
///
/// # Errors
/// When an example cannot be read or is not valid, an operation fails, or `interrupted` becomes true.
pub(crate) fn validation_loss(
    led: &Led,
    dataset: &Dataset,
    group: &ProcessGroup,
    interrupted: Option<&AtomicBool>,
) -> Result<f64> {
    let mut total = Loss::default();
    for number in (group.rank()..dataset.batch_count()).step_by(group.world_size()) {
        if interrupted.is_some_and(|interrupted| interrupted.load(Ordering::Relaxed)) {
            return Err(Error::Interrupted);
        }
        let batch = Batch::new(&dataset.batch(number)?, led.config())?;
        let encoded = led.encode(&batch.documents)?;
        let sources = batch.documents.segments();
        let hidden = led.decoder().forward(&batch.decoder_ids, &batch.targets, &encoded, sources)?;
        let bias = Some(led.final_logits_bias());
        total += kernels::cross_entropy(&hidden, led.head(), bias, batch.loss_targets(), 0.0)?;
    }
    let total = all_reduce_loss(group, total);
    Ok(total.nll / total.tokens.max(1) as f64)
}
