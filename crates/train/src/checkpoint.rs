//! Checkpoints: a model directory plus `optimizer.safetensors`, `ema.safetensors` if weights are averaged, `state.json` and
//! the checksums of all its files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use epitome_model::{Config, Parameters, SavedDtype, Weights};
use serde::{Deserialize, Serialize};

use crate::average::Average;
use crate::best::BestSoFar;
use crate::checksums;
use crate::monitor::Interval;
use crate::tensors::load_tensors;
use crate::{Error, Optimizer, Result};

const PREFIX: &str = "checkpoint-";
/// What the name of a checkpoint ends with until it is whole.
const UNFINISHED: &str = ".partial";
/// File of the [`TrainState`].
pub(crate) const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
/// Files without which no run goes on.
pub(crate) const NEEDED: [&str; 4] = ["config.json", "model.safetensors", OPTIMIZER, STATE];
/// File of the averaged weights.
pub(crate) const AVERAGE: &str = "ema.safetensors";

/// Everything a resumed run needs beyond weights and moments: the order of batches and the dropout masks are functions of
/// the seed and the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TrainState {
    /// Updates made.
    pub(crate) step: usize,
    /// Updates made per parameter.
    pub(crate) parameter_updates: BTreeMap<String, usize>,
    /// What the next line of the metrics sums up.
    pub(crate) interval: Interval,
    /// The last validation.
    pub(crate) validation: Option<Validation>,
    /// What all validations have shown.
    pub(crate) best_so_far: BestSoFar,
    /// What the run is trained on; older versions did not say.
    pub(crate) training_data: Option<TrainingData>,
}

/// By what training examples are known again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrainingData {
    pub(crate) records: usize,
    pub(crate) fingerprint: String,
}

/// A validation loss, in nats per target token, and the updates made before it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Validation {
    pub(crate) step: usize,
    pub(crate) loss: f64,
}

/// What makes a directory usable without this run.
#[derive(Clone, Debug)]
pub(crate) struct Companions {
    pub(crate) config: Config,
    /// Tokenizer and generation files.
    pub(crate) files: Vec<Companion>,
}

/// The name and the content of a file, as it was when the run began: what becomes of it meanwhile must not stop the run, or get
/// into a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Companion {
    name: OsString,
    content: Vec<u8>,
}

impl Companion {
    pub(crate) fn read(path: PathBuf) -> Result<Self> {
        let content = fs::read(&path).map_err(Error::io(&path))?;
        Ok(Self { name: path.file_name().expect("companions are files").to_owned(), content })
    }

    fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(&self.name);
        epitome_files::replace_content(&path, &self.content).map_err(Error::io(&path))
    }
}

/// Writes the model directory: weights, tokenizer files and, last, the configuration that makes it complete.
pub(crate) fn save_model(directory: &Path, parameters: &Parameters, companions: &Companions) -> Result<()> {
    fs::create_dir_all(directory).map_err(Error::io(directory))?;
    parameters.save(directory, SavedDtype::F32)?;
    companions.files.iter().try_for_each(|file| file.write(directory))?;
    Ok(companions.config.save(directory)?)
}

/// What a checkpoint holds.
#[derive(Clone, Copy)]
pub(crate) struct Contents<'a> {
    pub(crate) state: &'a TrainState,
    pub(crate) parameters: &'a Parameters,
    pub(crate) optimizer: &'a Optimizer,
    pub(crate) average: Option<&'a Average>,
    pub(crate) companions: &'a Companions,
}

/// Writes `checkpoint-N` under `run` whole or not at all, then deletes the oldest ones beyond `limit` (0 keeps all). The
/// best one stays, and this one; more than `limit` are left only where it is 1 and these are two.
pub(crate) fn save(run: &Path, contents: Contents<'_>, limit: usize) -> Result<PathBuf> {
    let step = contents.state.step;
    let directory = run.join(format!("{PREFIX}{step}"));
    let temporary = run.join(format!("{PREFIX}{step}{UNFINISHED}"));
    remove(&temporary)?;
    if let Err(error) = fill(&temporary, contents) {
        // On a full disk the half-written checkpoint would keep its space; the first error is the one to report.
        let _ = remove(&temporary);
        return Err(error);
    }
    remove(&directory)?;
    fs::rename(&temporary, &directory).map_err(Error::io(&directory))?;
    epitome_files::sync_directory(run).map_err(Error::io(run))?;
    if limit > 0 {
        let best = contents.state.best_so_far.best.map(|best| best.step);
        for old in superfluous(&list(run)?, limit, [Some(step), best]) {
            remove(&run.join(format!("{PREFIX}{old}")))?;
        }
    }
    Ok(directory)
}

/// Which of the checkpoints after `steps` to delete so that `limit` are left, but none of `needed`, the one just written and the
/// best: first those after the one just written, which the run passed over because they were damaged, then the oldest.
fn superfluous(steps: &[usize], limit: usize, needed: [Option<usize>; 2]) -> Vec<usize> {
    let excess = steps.len().saturating_sub(limit);
    let (older, newer): (Vec<usize>, Vec<usize>) = steps.iter().partition(|step| Some(**step) <= needed[0]);
    newer.into_iter().chain(older).filter(|step| !needed.contains(&Some(*step))).take(excess).collect()
}

fn fill(directory: &Path, contents: Contents<'_>) -> Result<()> {
    let Contents { state, parameters, optimizer, average, companions } = contents;
    save_model(directory, parameters, companions)?;
    optimizer.save(&directory.join(OPTIMIZER), parameters)?;
    if let Some(average) = average {
        average.save(&directory.join(AVERAGE))?;
    }
    let state = TrainState { parameter_updates: optimizer.updates().clone(), ..state.clone() };
    write_json(&directory.join(STATE), &state)?;
    checksums::write(directory)
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("only string keys");
    epitome_files::replace_content(path, text).map_err(Error::io(path))
}

/// The newest checkpoint of a run, if any, damaged or not.
pub(crate) fn latest(run: &Path) -> Result<Option<PathBuf>> {
    Ok(list(run)?.last().map(|step| run.join(format!("{PREFIX}{step}"))))
}

/// The newest checkpoint whose files are all as they were written, and what is wrong with newer ones.
///
/// # Errors
/// When there are checkpoints but none is intact.
pub(crate) fn newest_intact(run: &Path) -> Result<(Option<PathBuf>, Vec<String>)> {
    let mut damaged = Vec::new();
    for step in list(run)?.into_iter().rev() {
        let path = run.join(format!("{PREFIX}{step}"));
        match checksums::verify(&path) {
            Ok(()) => {
                let passed_over = |reason| format!("{reason}: {} is used", path.display());
                return Ok((Some(path.clone()), damaged.into_iter().map(passed_over).collect()));
            }
            Err(Error::Checkpoint { path, message }) => damaged.push(format!("{}: {message}", path.display())),
            Err(other) => return Err(other),
        }
    }
    if damaged.is_empty() {
        return Ok((None, damaged));
    }
    let message = format!("holds no intact checkpoint ({}): delete them to begin again", damaged.join("; "));
    Err(Error::Checkpoint { path: run.to_owned(), message })
}

/// Whether there is an intact checkpoint after `step`.
pub(crate) fn is_intact(run: &Path, step: usize) -> bool {
    checksums::verify(&run.join(format!("{PREFIX}{step}"))).is_ok()
}

/// Removes checkpoints that were not written to their end.
pub(crate) fn remove_unfinished(run: &Path) -> Result<()> {
    for entry in fs::read_dir(run).map_err(Error::io(run))? {
        let name = entry.map_err(Error::io(run))?.file_name();
        let is_unfinished = |name: &str| name.starts_with(PREFIX) && name.ends_with(UNFINISHED);
        if name.to_str().is_some_and(is_unfinished) {
            remove(&run.join(name))?;
        }
    }
    Ok(())
}

/// What was evaluated after `step`: the parameters of its checkpoint, whose files must be as they were written, with those
/// in place that were averaged.
pub(crate) fn evaluated(run: &Path, step: usize, model: &Config, is_averaged: bool) -> Result<Parameters> {
    let directory = run.join(format!("{PREFIX}{step}"));
    checksums::verify(&directory)?;
    let parameters = Parameters::new(Weights::load(&directory, model)?);
    if !is_averaged {
        return Ok(parameters);
    }
    Ok(parameters.with(&load_tensors(&directory.join(AVERAGE))?.into_iter().collect()))
}

/// The state of a checkpoint, with which `optimizer` continues.
pub(crate) fn load(directory: &Path, parameters: &Parameters, optimizer: &mut Optimizer) -> Result<TrainState> {
    let path = directory.join(STATE);
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let state: TrainState = serde_json::from_str(&text)
        .map_err(|error| Error::Checkpoint { path: path.clone(), message: error.to_string() })?;
    optimizer.restore(&directory.join(OPTIMIZER), state.parameter_updates.clone(), parameters)?;
    Ok(state)
}

/// Steps of the complete checkpoints of a run, ascending.
///
/// # Errors
/// Something other than a directory where a checkpoint belongs: the run would fail when it writes or removes that.
fn list(run: &Path) -> Result<Vec<usize>> {
    let mut steps = Vec::new();
    for entry in fs::read_dir(run).map_err(Error::io(run))? {
        let path = entry.map_err(Error::io(run))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(step) = name.and_then(|name| name.strip_prefix(PREFIX)?.parse().ok()) else { continue };
        if !path.is_dir() {
            let message = "has a checkpoint's name and is no directory: move it away".into();
            return Err(Error::Checkpoint { path, message });
        }
        steps.push(step);
    }
    steps.sort_unstable();
    Ok(steps)
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(directory)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::superfluous;

    #[test]
    fn the_newest_and_the_best_checkpoints_stay() {
        assert_eq!(superfluous(&[2, 4, 6], 2, [Some(6), None]), [2]);
        assert_eq!(superfluous(&[2, 4, 6], 2, [Some(6), Some(2)]), [4]);
        assert_eq!(superfluous(&[2, 4, 6], 1, [Some(6), Some(2)]), [4]);
        assert_eq!(superfluous(&[2, 4, 6], 1, [Some(6), Some(6)]), [2, 4]);
        assert_eq!(superfluous(&[2, 4, 6], 1, [Some(6), Some(3)]), [2, 4]);
        assert!(superfluous(&[2], 1, [Some(2), Some(2)]).is_empty());
        assert!(superfluous(&[2, 4], 3, [Some(4), None]).is_empty());
    }

    #[test]
    fn damaged_ones_that_the_run_passed_over_go_first() {
        assert_eq!(superfluous(&[20, 25, 40], 1, [Some(25), None]), [40, 20]);
        assert_eq!(superfluous(&[20, 25, 40], 2, [Some(25), Some(20)]), [40]);
    }
}
