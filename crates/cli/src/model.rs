//! Which model a command uses: a directory, or the one inside the binary.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use epitome_data::{Tokenizer, content_hash};
use epitome_decode::{GenerationOptions, Summarizer};
use epitome_distributed::ProcessGroup;

use crate::device::DeviceOptions;
use crate::failure::warn;

/// Names and contents of the default model's files; empty when the binary was built without it.
const BUNDLED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/bundled_model.rs"));

/// Names a model directory to use when `--model` does not.
const VARIABLE: &str = "EPITOME_MODEL";

/// `--model`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ModelOption {
    /// Model directory [default: EPITOME_MODEL, else the model inside this program]
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
}

impl ModelOption {
    /// What reports call the model: the name of its directory, or `bundled model`.
    pub(crate) fn name(&self) -> String {
        let name = self.directory().map(|directory| {
            let full = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
            full.file_name().map_or_else(|| directory.display().to_string(), |name| name.to_string_lossy().into_owned())
        });
        name.unwrap_or_else(|| "bundled model".to_owned())
    }

    /// The files of the model directory, which no output may replace.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let entries = self.directory().and_then(|directory| directory.read_dir().ok());
        entries.into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect()
    }

    /// A hash of the files that decide what the model writes: weights, configuration and tokenizer.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn fingerprint(&self) -> Result<String> {
        let mut files: Vec<(String, blake3::Hash)> = Vec::new();
        if self.directory().is_none() {
            files.extend(BUNDLED.iter().map(|(name, bytes)| ((*name).to_owned(), blake3::hash(bytes))));
        }
        for path in self.files() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if decides(&name) {
                files.push((name, content_hash(&path)?));
            }
        }
        files.sort_by(|(one, _), (other, _)| one.cmp(other));
        let all: Vec<String> = files.into_iter().map(|(name, hash)| format!("{name} {hash}\n")).collect();
        Ok(blake3::hash(all.concat().as_bytes()).to_hex()[..16].to_owned())
    }

    /// The directory asked for; none for the bundled model.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        let named = || env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        self.model.clone().or_else(named)
    }

    /// Loads the model, in every process of `group` together; what the user should know about its settings goes to stderr.
    ///
    /// # Errors
    /// When there is no model, one of its files is wrong, or the generation options contradict each other.
    pub(crate) fn load(
        &self,
        options: &GenerationOptions,
        place: &DeviceOptions,
        group: &ProcessGroup,
    ) -> Result<Summarizer> {
        let (precision, device) = (place.precision(), &place.open(group)?);
        let summarizer = match self.directory() {
            Some(directory) => Summarizer::load(&directory, options, precision, device)?,
            None if BUNDLED.is_empty() => {
                bail!("this program was built without its default model: name a model directory with --model")
            }
            None => Summarizer::from_files(bundled, Path::new("the default model"), options, precision, device)?,
        };
        summarizer.warnings().iter().for_each(warn);
        Ok(summarizer)
    }
}

/// Whether a file of a model directory decides what the model writes. Settings of the search are looked at as they are resolved,
/// and checkpoints hold files that only training reads.
fn decides(name: &str) -> bool {
    let is_weights = name.starts_with("model") || name.starts_with("pytorch_model");
    is_weights || name == "config.json" || Tokenizer::FILES.contains(&name)
}

fn bundled(name: &str) -> Option<&'static [u8]> {
    BUNDLED.iter().find(|(file, _)| *file == name).map(|(_, bytes)| *bytes)
}
