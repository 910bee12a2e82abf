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
//! - `metrics.jsonl`, TensorBoard's event files and `curves.svg` show a run
//! - [`Batch`], [`Trainable`], [`accumulate_gradients`]: one forward and backward pass
//! - [`Optimizer`], [`learning_rate`]: AdamW and Adafactor, settings of groups of parameters, and the schedules
//! - [`find_learning_rate`]: a sweep over rates before the run
//! - checkpoints are model directories plus `optimizer.safetensors`, `state.json` and perhaps averaged weights
#![forbid(unsafe_code)]

mod average;
mod backward;
mod batch;
mod best;
mod checkpoint;
mod checksums;
mod config;
mod dataset;
mod demands;
mod error;
mod finder;
mod frozen;
mod gradients;
mod guard;
mod interface;
mod keeping;
mod lock;
pub mod memory;
mod monitor;
mod optimizer;
mod place;
mod replicas;
mod schedule;
mod setup;
mod steps;
mod tensors;
mod trainer;
mod update;
mod validation;
mod workers;

pub use backward::{Pass, Trainable, accumulate_gradients, kept_bytes};
pub use batch::Batch;
pub use best::{Best, Metric};
pub use config::{DataConfig, ModelConfig, RunConfig, RunOptions, split_setting};
pub use demands::check_validation_record;
pub use error::{Error, Result};
pub use finder::{Suggestion, Sweep, SweepPoint, find_learning_rate};
pub use gradients::Gradients;
pub use interface::{Context, Event, Outcome};
pub use optimizer::{GroupConfig, OptimConfig, Optimizer, OptimizerName};
pub use schedule::{Schedule, SchedulerOptions, learning_rate};
pub use trainer::train;
pub use validation::ScoreSummaries;
