//! What the next line of the metrics sums up.

use epitome_kernels::{Loss, resident_memory_gib};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Sums since the last line of the metrics; part of a checkpoint, so that a resumed run logs the same numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Interval {
    loss: f64,
    nll: f64,
    target_tokens: usize,
    source_tokens: usize,
    seconds: f64,
}

impl Interval {
    pub(crate) fn add(&mut self, loss: Loss, target_tokens: usize, source_tokens: usize, seconds: f64) {
        self.loss += loss.loss;
        self.nll += loss.nll;
        self.target_tokens += target_tokens;
        self.source_tokens += source_tokens;
        self.seconds += seconds;
    }

    /// The means as a line of the metrics after `step`, with the last update's learning rate and norm of the gradients.
    pub(crate) fn line(self, step: usize, epoch: f64, (learning_rate, grad_norm): (f64, f64)) -> Value {
        let mut line = json!({
            "step": step,
            "epoch": epoch,
            "loss": self.loss / self.target_tokens as f64,
            "nll": self.nll / self.target_tokens as f64,
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            "source_tokens": self.source_tokens,
            "target_tokens": self.target_tokens,
            "seconds": self.seconds,
            "tokens_per_second": (self.source_tokens + self.target_tokens) as f64 / self.seconds,
        });
        if let Some(memory) = resident_memory_gib() {
            line["host_memory_gib"] = memory.into();
        }
        line
    }
}
