//! What the records of an unfinished output are made with, in a file beside it: a run that resumes it adds nothing that is made
//! otherwise.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::settings::Settings;

/// The file beside an output that says so until the output is complete.
pub(crate) struct Unfinished {
    output: PathBuf,
    path: PathBuf,
    settings: Settings,
}

impl Unfinished {
    /// For an output whose records are made with these settings; nothing is written yet.
    pub(crate) fn new(output: &Path, settings: Settings) -> Self {
        let path = [output.as_os_str(), ".decoding.json".as_ref()].into_iter().collect::<OsString>().into();
        Self { output: output.to_owned(), path, settings }
    }

    /// Refuses to go on with other settings than the output was begun with. Where none are known there is nothing to compare.
    ///
    /// # Errors
    /// Names every setting that differs with both values; or the file, if it cannot be read.
    pub(crate) fn check(&self) -> Result<()> {
        let name = self.path.display();
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            text => text.with_context(|| format!("cannot read {name}"))?,
        };
        let before: Settings = serde_json::from_str(&text)
            .with_context(|| format!("{name} is damaged: remove it to go on with the options that are given now"))?;
        let known: BTreeSet<&String> = before.keys().chain(self.settings.keys()).collect();
        let value = |settings: &Settings, name: &str| settings.get(name).cloned().unwrap_or_default();
        let changed = |name: &String| {
            let (before, now) = (value(&before, name), value(&self.settings, name));
            (before != now).then(|| format!("{name} was {before} and is {now}"))
        };
        let changes: Vec<String> = known.into_iter().filter_map(changed).collect();
        if !changes.is_empty() {
            let output = self.output.display();
            bail!("cannot resume {output}: {}; go on as it was begun, or choose another --output", changes.join(", "));
        }
        Ok(())
    }

    /// Says what the records are made with from now on.
    pub(crate) fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.settings).context("cannot write settings as JSON")? + "\n";
        epitome_files::replace_content(&self.path, text)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// The output is complete.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            // Of an output without records nothing was said.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("cannot remove {}", self.path.display())),
        }
    }
}
