//! What a run must not overwrite, and what a resumed run must not change.

use std::collections::BTreeSet;
use std::path::Path;

use epitome_sentences::counted;
use toml::{Table, Value};

use crate::checkpoint::TrainingData;
use crate::{Error, Result, RunConfig, checkpoint};

/// Tables and keys that decide what a step computes; a resumed run keeps them.
const FIXED: &[&str] = &[
    "model",
    "data.train",
    "data.fields",
    "data.skip_bad_records",
    "data.max_source_length",
    "data.max_target_length",
    "data.max_train_records",
    "data.objectives",
    "data.denoise",
    "data.gap_sentences",
    "data.extract",
    "data.prompts",
    "data.shuffle",
    "optim.optimizer",
    "optim.adafactor_beta1",
    "optim.groups",
    "optim.ema_decay",
    "optim.ema_warmup",
    "run.batch_size",
    "run.batch_tokens",
    "run.gradient_accumulation_steps",
    "run.parallel_micro_batches",
    "run.seed",
];

/// Refuses to start over a directory that holds something, and to continue a run with another model, data or batches. Returns
/// what the user should know of a run that is continued with other settings.
pub(crate) fn check(config: &RunConfig, output: &Path, resume: bool) -> Result<Option<String>> {
    config.check_output()?;
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
        (true, _, _) if output.join("config.toml").exists() => changes(config, &output.join("config.toml")),
        _ => Ok(None),
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

/// Refuses settings that must be those of the file at `path`, which the run began with, and says which others are not.
fn changes(config: &RunConfig, path: &Path) -> Result<Option<String>> {
    let refuse = |message: String| Error::Checkpoint { path: path.to_owned(), message };
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    // Through the configuration, so that keys which came later count as their defaults.
    let before: RunConfig = toml::from_str(&text).map_err(|error| refuse(error.message().into()))?;
    let table = |config: &RunConfig| Table::try_from(config).map_err(|error| refuse(error.to_string()));
    let mut changes = Vec::new();
    compare("", &table(&before)?, &table(config)?, &mut changes);
    if let Some((key, change)) = changes.iter().find(|(key, _)| is_fixed(key)) {
        let message = format!("{key} has changed since the run began: it {change}; restore it, or start another run");
        return Err(refuse(message));
    }
    // The directory is the same, however it is spelled.
    let others = changes.iter().filter(|(key, _)| key != "run.output");
    let others: Vec<String> = others.map(|(key, change)| format!("{key} {change}")).collect();
    let told = || format!("the run goes on with other settings than in {}: {}", path.display(), others.join(", "));
    Ok((!others.is_empty()).then(told))
}

fn is_fixed(key: &str) -> bool {
    let within = |table: &str| key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    FIXED.iter().any(|table| within(table))
}

/// Appends each key whose value differs, such as `run.seed`, with how: `was 1 and is 2`. `prefix` leads the keys of inner tables.
fn compare(prefix: &str, before: &Table, now: &Table, changes: &mut Vec<(String, String)>) {
    let said = |value: Option<&Value>| value.map_or_else(|| "not set".into(), Value::to_string);
    for key in before.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
        let name = format!("{prefix}{key}");
        match (before.get(key), now.get(key)) {
            (Some(Value::Table(before)), Some(Value::Table(now))) => compare(&format!("{name}."), before, now, changes),
            (before, now) if before != now => {
                changes.push((name, format!("was {} and is {}", said(before), said(now))));
            }
            _ => (),
        }
    }
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
