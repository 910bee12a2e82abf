//! Which model a command uses: a directory, or the one inside the binary.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
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

fn bundled(name: &str) -> Option<&'static [u8]> {
    BUNDLED.iter().find(|(file, _)| *file == name).map(|(_, bytes)| *bytes)
}
