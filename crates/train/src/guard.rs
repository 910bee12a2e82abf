//! What a run must not overwrite, and what a resumed run must not change.

use std::path::Path;

use epitome_sentences::counted;
use toml::{Table, Value};

use crate::checkpoint::TrainingData;
use crate::{Error, Result, RunConfig, checkpoint};

/// Tables and keys that decide what a step computes; a resumed run keeps them.
const FIXED: [(&str, &[&str]); 4] = [
    ("model", &[]),
    (
        "data",
        &[
            "train",
            "fields",
            "skip_bad_records",
            "max_source_length",
            "max_target_length",
            "max_train_records",
            "objectives",
            "denoise",
            "gap_sentences",
            "extract",
            "prompts",
            "shuffle",
        ],
    ),
    ("optim", &["optimizer", "adafactor_beta1", "groups", "ema_decay", "ema_warmup"]),
    ("run", &["batch_size", "batch_tokens", "gradient_accumulation_steps", "parallel_micro_batches", "seed"]),
];

/// Refuses to start over a directory that holds something, and to continue a run with another model, data or batches.
pub(crate) fn check(config: &RunConfig, output: &Path, resume: bool) -> Result<()> {
    config.check_paths()?;
    let refuse = |path: &Path, message: &str| Err(Error::Checkpoint { path: path.to_owned(), message: message.into() });
    if config.model.path.as_ref().is_some_and(|path| epitome_files::same_file(path, output)) {
        return refuse(output, "is model.path itself: choose another --output");
    }
    let checkpoint = if output.is_dir() { checkpoint::latest(output)? } else { None };
    let run = ["metrics.jsonl", "config.toml"].map(|name| output.join(name));
    let run = run.iter().find(|path| path.exists());
    let held = epitome_model::held_model(output);
    let held = held.as_ref().or(run);
    match (resume, checkpoint, held) {
        (false, Some(path), _) => refuse(
            &path,
            "the output directory already holds a run: continue it with --resume, or choose another --output",
        ),
        (false, None, Some(path)) if Some(path) == run => refuse(
            path,
            "the output directory already holds a run, which stopped before its first checkpoint: begin it again with \
             --resume, or choose another --output",
        ),
        (false, None, Some(path)) => {
            refuse(path, "the output directory already holds a model: choose another --output")
        }
        // A run without checkpoints that was killed while it wrote its model holds no model yet.
        (true, None, Some(path)) if Some(path) != run && (run.is_none() || output.join("config.json").exists()) => {
            refuse(path, "there is a model but no checkpoint to continue from: choose another --output")
        }
        (true, _, _) if output.join("config.toml").exists() => unchanged(config, &output.join("config.toml")),
        _ => Ok(()),
    }
}

/// Refuses more processes than an update has micro-batches.
pub(crate) fn check_shares(config: &RunConfig, processes: usize) -> Result<()> {
    let batches = config.run.gradient_accumulation_steps;
    if processes <= batches {
        return Ok(());
    }
    let message = format!("{processes} processes share the batches of an update, but it has {batches}");
    Err(Error::config("run.gradient_accumulation_steps", message))
}

fn unchanged(config: &RunConfig, path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let unreadable = |message: String| Error::Checkpoint { path: path.to_owned(), message };
    // Through the configuration, so that keys which came later count as their defaults.
    let before: RunConfig = toml::from_str(&text).map_err(|error| unreadable(error.message().into()))?;
    let table = |config: &RunConfig| Table::try_from(config).map_err(|error| unreadable(error.to_string()));
    let (before, now) = (table(&before)?, table(config)?);
    for (table, keys) in FIXED {
        let empty = Table::new();
        let section = |all: &Table| all.get(table).and_then(Value::as_table).unwrap_or(&empty).clone();
        let (before, now) = (section(&before), section(&now));
        let every = before.keys().chain(now.keys());
        let changed = every
            .filter(|key| keys.is_empty() || keys.contains(&key.as_str()))
            .find(|key| before.get(key.as_str()) != now.get(key.as_str()));
        if let Some(key) = changed {
            let message = format!("{table}.{key} has changed since the run began: restore it, or start another run");
            return Err(Error::Checkpoint { path: path.to_owned(), message });
        }
    }
    Ok(())
}

/// Refuses to continue a run with other examples than `before`, those that `state_file` names.
pub(crate) fn check_data(before: &TrainingData, now: &TrainingData, state_file: &Path) -> Result<()> {
    if before == now {
        return Ok(());
    }
    let message = format!(
        "data.train gives other examples than when the run began ({} then, {} now): restore its files and the \
         tokenizer, or start another run",
        counted(before.records, "record"),
        counted(now.records, "record")
    );
    Err(Error::Checkpoint { path: state_file.to_owned(), message })
}
