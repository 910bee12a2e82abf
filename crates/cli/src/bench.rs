//! `epitome bench`: one JSON line, of the same form and for the same token ids as the reference's benchmark.

use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use epitome_data::{Example, Source};
use epitome_decode::{GenerationOptions, Summarizer};
use epitome_distributed::ProcessGroup;
use epitome_model::{Documents, Parameters, Weights};
use epitome_train::{Batch, Gradients, OptimConfig, Optimizer, Pass, Trainable, accumulate_gradients, kept_bytes};
use serde::Serialize;

use crate::device::DeviceOptions;
use crate::failure::{COMMAND_LINE, usage};
use crate::model::ModelOption;
use crate::output::print;

/// Learning rate of the timed update; small enough that repeating it changes nothing that matters.
const LEARNING_RATE: f64 = 1e-5;

/// Options of `epitome bench`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// What to time
    #[arg(value_enum)]
    what: What,
    #[command(flatten)]
    model: ModelOption,
    /// Tokens of the document
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(2..))]
    tokens: u32,
    /// Documents side by side, all of so many tokens
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Tokens of the target, for train
    #[arg(long, value_name = "M", default_value_t = 256, value_parser = clap::value_parser!(u32).range(2..))]
    target_tokens: u32,
    /// Beams, for generate
    #[arg(long, value_name = "B", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    beams: u32,
    /// Tokens to write, for generate
    #[arg(long, value_name = "T", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    new_tokens: u32,
    /// How often; the best time counts
    #[arg(long, value_name = "R", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Keep what layers compute instead of running them again in the backward pass, for train
    #[arg(long)]
    no_checkpointing: bool,
    #[command(flatten)]
    device: DeviceOptions,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum What {
    /// The encoder.
    Encode,
    /// Encoder and beam search, a fixed number of tokens.
    Generate,
    /// Forward, backward and AdamW update.
    Train,
}

#[derive(Serialize)]
struct Measurement {
    what: What,
    tokens: u32,
    /// Where there are several documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_size: Option<u32>,
    dtype: &'static str,
    device: &'static str,
    threads: usize,
    seconds: f64,
    tokens_per_second: f64,
    peak_gib: Option<f64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    arguments.device.check()?;
    let (seconds, tokens) = match arguments.what {
        What::Encode => (encode(arguments)?, arguments.tokens),
        What::Generate => (generate(arguments)?, arguments.new_tokens),
        What::Train => (train(arguments)?, arguments.tokens),
    };
    let measurement = Measurement {
        what: arguments.what,
        tokens: arguments.tokens,
        batch_size: (arguments.batch_size > 1).then_some(arguments.batch_size),
        dtype: arguments.device.name(),
        device: arguments.device.device_name(),
        threads: rayon::current_num_threads(),
        seconds: rounded(seconds, 4),
        tokens_per_second: rounded(f64::from(arguments.batch_size) * f64::from(tokens) / seconds, 1),
        peak_gib: epitome_kernels::peak_memory_gib().map(|peak| rounded(peak, 2)),
    };
    print(&serde_json::to_string(&measurement)?)
}

fn encode(arguments: &Arguments) -> Result<f64> {
    let summarizer = arguments.model.load(&GenerationOptions::default(), &arguments.device, &ProcessGroup::single())?;
    let led = summarizer.led();
    let ids = ids(arguments.tokens, led.config().vocab_size)?;
    let documents = Documents::new((0..arguments.batch_size).map(|_| (ids.as_slice(), [0].as_slice())))?;
    best(arguments.repeat, || {
        // A GPU has only been told what to do.
        Ok(led.encode(&documents)?.device().synchronize()?)
    })
}

fn generate(arguments: &Arguments) -> Result<f64> {
    let new_tokens = arguments.new_tokens as usize;
    let options = GenerationOptions {
        origin: COMMAND_LINE.into(),
        num_beams: Some(arguments.beams as usize),
        num_return_sequences: Some(1),
        min_new_tokens: Some(new_tokens),
        max_new_tokens: Some(new_tokens),
        // The ids of the benchmark are no text that has passages.
        extractive: Some(false),
        ..GenerationOptions::default()
    };
    let summarizer = arguments.model.load(&options, &arguments.device, &ProcessGroup::single())?;
    let sources = vec![source(arguments.tokens, &summarizer)?; arguments.batch_size as usize];
    best(arguments.repeat, || {
        let summaries = summarizer.summarize(&sources, &mut |_| {})?;
        if let Some(other) = summaries.iter().map(|summary| summary.best.tokens.len()).find(|len| *len != new_tokens) {
            bail!("{other} tokens were written instead of {new_tokens}");
        }
        Ok(())
    })
}

fn source(tokens: u32, summarizer: &Summarizer) -> Result<Source> {
    let input_ids = ids(tokens, summarizer.led().config().vocab_size)?;
    Ok(Source { input_ids, leading_tokens: 0, global_positions: vec![0], truncated_tokens: 0, passages: None })
}

/// One update without dropout, which the models of the reference's benchmark do not have.
fn train(arguments: &Arguments) -> Result<f64> {
    let device = arguments.device.open(&ProcessGroup::single())?;
    if device.is_cpu() && arguments.device.name() != "f32" {
        return usage("bench train computes in f32 on the CPU");
    }
    let Some(directory) = arguments.model.directory() else {
        return usage("bench train needs a model directory: --model or EPITOME_MODEL");
    };
    let config = epitome_model::Config::load(&directory)?;
    let parameters = Parameters::new(Weights::load(&directory, &config)?.to_device(&device)?);
    let activations = arguments.device.precision().activations(&device)?;
    let trainable = Trainable::computing_in(&config, parameters, activations)?;
    let example = Example {
        id: "benchmark".into(),
        location: epitome_data::Location::line("benchmark", 1),
        input_ids: ids(arguments.tokens, config.vocab_size)?,
        leading_tokens: 0,
        global_positions: vec![0],
        labels: ids(arguments.target_tokens, config.vocab_size)?.into_iter().map(i64::from).collect(),
        choices: Vec::new(),
        weights: Vec::new(),
    };
    let batch = Batch::new(vec![&example; arguments.batch_size as usize], &config)?;
    let pass = Pass {
        dropouts: None,
        label_smoothing: 0.0,
        scale: 1.0 / (f64::from(arguments.batch_size) * f64::from(arguments.target_tokens)),
        gradient_checkpointing: !arguments.no_checkpointing,
        kept_bytes: kept_bytes(&device),
        interrupted: None,
    };
    let optim = OptimConfig { max_grad_norm: 0.0, weight_decay: 0.01, ..OptimConfig::default() };
    let mut optimizer = Optimizer::new(&optim, trainable.parameters())?;
    best(arguments.repeat, || {
        let mut gradients = Gradients::default();
        accumulate_gradients(&trainable, &batch, pass, &mut gradients)?;
        let norm = gradients.norm()?;
        optimizer.step(trainable.parameters(), &gradients, norm, LEARNING_RATE)?;
        // A GPU has only been told what to do.
        Ok(device.synchronize()?)
    })
}

/// `<s>`, a fixed linear congruential sequence, `</s>`; folded into the vocabulary where that is smaller than BART's.
fn ids(count: u32, vocab_size: usize) -> Result<Vec<u32>> {
    const FIRST: u64 = 5;
    let ordinary = (vocab_size as u64).saturating_sub(FIRST).min(50_000);
    if ordinary == 0 {
        bail!("a vocabulary of {vocab_size} entries has no ordinary tokens");
    }
    let mut ids: Vec<u32> =
        (0..u64::from(count)).map(|index| (FIRST + (index * 7919 + 13) % ordinary) as u32).collect();
    ids[0] = 0;
    ids[count as usize - 1] = 2;
    Ok(ids)
}

fn best(repeat: u32, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..repeat {
        let started = Instant::now();
        work()?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10f64.powi(digits);
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::{ids, rounded};

    #[test]
    fn the_sequence_is_the_references() {
        let ids = ids(9, 50_265).unwrap();
        assert_eq!(ids, [0, 7937, 15856, 23775, 31694, 39613, 47532, 5451, 2]);
    }

    #[test]
    fn a_small_vocabulary_is_not_left() {
        assert!(ids(1_000, 300).unwrap().iter().all(|&id| id < 300));
        assert!(ids(10, 5).is_err());
    }

    #[test]
    fn numbers_are_rounded_as_in_python() {
        assert_eq!(rounded(1.23456, 4), 1.2346);
        assert_eq!(rounded(1234.56, 1), 1234.6);
    }
}
