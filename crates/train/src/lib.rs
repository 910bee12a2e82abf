//! Training: a model directory and a dataset in, a better model directory out.
//!
//! A step runs layer by layer (see [`accumulate_gradients`]): the forward pass keeps each layer's input and, as far as memory is
//! allowed for it, the costly outputs; the backward pass of a layer computes the rest again, so that memory grows with one
//! layer and not with all.
//!
//! The crate knows nothing about beam search or ROUGE: who starts a run may give it a function ([`ScoreSummaries`]) that does.
//!
//! - [`RunConfig`]: the TOML file of a run
//! - [`train`]: the loop: evaluate, save, stop, step, log
//! - [`Metric`], [`Best`]: which checkpoint is the best, and when to stop without a better one
//! - `metrics.jsonl`, TensorBoard's event files and `curves.svg` show a run ([`draw_learning_rates`] other curves)
//! - [`Batch`], [`Trainable`], [`accumulate_gradients`]: one forward and backward pass
//! - [`Optimizer`], [`learning_rate`]: AdamW with groups and the schedules
//! - checkpoints are model directories plus `optimizer.safetensors` and `state.json`
#![forbid(unsafe_code)]

mod backward;
mod batch;
mod best;
mod checkpoint;
mod checksums;
mod config;
mod dataset;
mod error;
mod gradients;
mod guard;
mod interface;
pub mod memory;
mod monitor;
mod optimizer;
mod replicas;
mod schedule;
mod setup;
mod trainer;
mod validation;
mod workers;

pub use backward::{KEPT_BYTES, Pass, Trainable, accumulate_gradients};
pub use batch::Batch;
pub use best::{Best, Metric};
pub use config::{DataConfig, ModelConfig, OptimConfig, RunConfig, RunOptions};
pub use error::{Error, Result};
pub use gradients::Gradients;
pub use interface::{Context, Event, Outcome};
pub use monitor::draw_learning_rates;
pub use optimizer::Optimizer;
pub use schedule::{Schedule, learning_rate};
pub use trainer::train;
pub use validation::{ScoreSummaries, validation_loss};
