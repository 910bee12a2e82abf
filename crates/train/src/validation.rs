//! Validation loss.

use std::sync::atomic::{AtomicBool, Ordering};

use epitome_data::Example;
use epitome_kernels as kernels;
use epitome_model::Led;

use crate::{Batch, Error, Result};

/// Mean negative log-likelihood per target token over `examples`, in nats, without smoothing or dropout. `batch_size`
/// records run together.
///
/// # Errors
/// When an example is not valid, an operation fails, or `interrupted` becomes true.
pub fn validation_loss(led: &Led, examples: &[Example], batch_size: usize, interrupted: &AtomicBool) -> Result<f64> {
    let (mut total, mut tokens) = (0.0, 0);
    for group in examples.chunks(batch_size) {
        if interrupted.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let batch = Batch::new(group, led.config())?;
        let encoded = led.encode(&batch.documents)?;
        let sources = batch.documents.segments();
        let hidden = led.decoder().forward(&batch.decoder_ids, &batch.targets, &encoded, sources)?;
        let bias = Some(led.final_logits_bias());
        let loss = kernels::cross_entropy(&hidden, led.shared(), bias, &batch.labels, 0.0)?;
        total += loss.nll;
        tokens += loss.tokens;
    }
    Ok(total / tokens.max(1) as f64)
}
