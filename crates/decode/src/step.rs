//! One checked step of a stepper.

use crate::{Error, Result, Stepper};

/// Runs a step and checks that it returned `[last.len(), V]` logits.
pub(crate) fn step<S: Stepper + ?Sized>(stepper: &mut S, last: &[u32], logits: &mut Vec<f32>) -> Result<()> {
    stepper.step(last, logits)?;
    let (rows, vocab_size) = (last.len(), stepper.vocab_size());
    if logits.len() != rows * vocab_size {
        return Err(Error::LogitsShape { found: logits.len(), rows, vocab_size });
    }
    Ok(())
}
