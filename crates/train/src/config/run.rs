//! The table `run`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Metric;

/// With `batch_tokens` every epoch has a number of updates of its own, and all are counted before the first update.
const MOST_COUNTED_EPOCHS: f64 = 1e6;

/// Batches, length and bookkeeping of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunOptions {
    /// Records that run together.
    pub batch_size: usize,
    /// Instead of `batch_size`: as many records run together as have no more source and target tokens than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Batches per update.
    pub gradient_accumulation_steps: usize,
    /// Batches of an update that run side by side, each on its share of the threads: faster for small models, and takes the
    /// memory of so many batches. Rounding differs from that of batches one after the other.
    pub parallel_micro_batches: usize,
    /// Updates of the run; takes precedence over `num_train_epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    /// Passes over the training records; a part of one counts.
    pub num_train_epochs: f64,
    /// Seeds initialisation, shuffling and dropout.
    pub seed: u64,
    /// Updates between lines of `metrics.jsonl`.
    pub logging_steps: usize,
    /// Updates between validations; 0 means only at the end.
    pub eval_steps: usize,
    /// Updates between checkpoints; 0 means none before the end.
    pub save_steps: usize,
    /// How many checkpoints to keep, the best one among them; 0 means all.
    pub save_total_limit: usize,
    /// What decides which validation is the best: `loss`, or with `predict_with_generate` a score of summaries.
    pub metric_for_best_model: Metric,
    /// The run stops after so many validations in a row without a better one; unset means never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping_patience: Option<usize>,
    /// How much better a validation must be to count for `early_stopping_patience`.
    pub early_stopping_threshold: f64,
    /// The final model is that of the best validation instead of the last step.
    pub load_best_model_at_end: bool,
    /// Validations also write summaries and score them.
    pub predict_with_generate: bool,
    /// Longest summary of a validation in tokens; unset means as the model's generation settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_max_new_tokens: Option<usize>,
    /// Beams of these summaries; unset means as the model's generation settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_num_beams: Option<usize>,
    /// Only so many validation records are summarized, the first ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_generated_records: Option<usize>,
    /// Write TensorBoard's event files, in `tensorboard/`.
    pub tensorboard: bool,
    /// Compute layers again in the backward pass instead of keeping their insides, but for what fits in 256 MiB, on a
    /// GPU in a tenth of its memory.
    pub gradient_checkpointing: bool,
    /// A run whose largest update takes more memory than this, in GiB for each process, is refused; unset means
    /// what the system has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_gib: Option<f64>,
    /// Of hidden states and products: `f32`, on a GPU also `bf16`. Parameters and sums of gradients are in f32.
    pub precision: String,
    /// `cpu`, `cuda` or `cuda:N`; of several processes `cuda` gives each a GPU of its own.
    pub device: String,
    /// Where the run is written, unless `--output` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            batch_size: 1,
            batch_tokens: None,
            gradient_accumulation_steps: 1,
            parallel_micro_batches: 1,
            max_steps: None,
            num_train_epochs: 3.0,
            seed: 42,
            logging_steps: 10,
            eval_steps: 0,
            save_steps: 500,
            save_total_limit: 2,
            metric_for_best_model: Metric::Loss,
            early_stopping_patience: None,
            early_stopping_threshold: 0.0,
            load_best_model_at_end: false,
            predict_with_generate: false,
            generation_max_new_tokens: None,
            generation_num_beams: None,
            max_generated_records: None,
            tensorboard: true,
            gradient_checkpointing: true,
            memory_limit_gib: None,
            precision: "f32".into(),
            device: "cpu".into(),
            output: None,
        }
    }
}

impl RunOptions {
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        for (name, value) in [
            ("run.batch_size", self.batch_size),
            ("run.batch_tokens", self.batch_tokens.unwrap_or(1)),
            ("run.gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("run.parallel_micro_batches", self.parallel_micro_batches),
            ("run.max_steps", self.max_steps.unwrap_or(1)),
            ("run.logging_steps", self.logging_steps),
        ] {
            if value == 0 {
                return Err(format!("{name} is too small"));
            }
        }
        if !(f64::MIN_POSITIVE..f64::INFINITY).contains(&self.num_train_epochs) {
            return Err(format!("run.num_train_epochs is {}, not above 0", self.num_train_epochs));
        }
        if self.num_train_epochs > MOST_COUNTED_EPOCHS && self.batch_tokens.is_some() && self.max_steps.is_none() {
            return Err(format!(
                "run.num_train_epochs is {}, and with run.batch_tokens the updates of more than {MOST_COUNTED_EPOCHS} epochs are \
                 not counted: give run.max_steps instead",
                self.num_train_epochs
            ));
        }
        if !self.memory_limit_gib.is_none_or(|limit| limit > 0.0) {
            return Err("run.memory_limit_gib is not above 0".into());
        }
        if self.batch_tokens.is_some() && self.batch_size != RunOptions::default().batch_size {
            return Err("run.batch_size and run.batch_tokens exclude each other: leave one of them out".into());
        }
        if self.parallel_micro_batches > self.gradient_accumulation_steps {
            return Err(format!(
                "run.parallel_micro_batches is {}, more than the {} batches of run.gradient_accumulation_steps",
                self.parallel_micro_batches, self.gradient_accumulation_steps
            ));
        }
        self.validate_selection()
    }
}
