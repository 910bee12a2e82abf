//! JSON Lines out, one record at a time, each complete in the file before the next is computed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use crate::failure::usage;

/// A file or standard output. What a file held before stays until there is something to write: a run that fails sooner takes nothing
/// away.
pub(crate) struct Output {
    name: String,
    file: Option<File>,
    /// Whether what the file holds belongs to the output.
    begun: bool,
}

impl Output {
    /// The file at `path`, to be begun anew, or standard output without one. (See [`named_file`].)
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn create(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self { name: "standard output".into(), file: None, begun: true });
        };
        let name = path.display().to_string();
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| format!("cannot write {name}"))?;
        Ok(Self { name, file: Some(file), begun: false })
    }

    /// The file at `path`, kept as far as its lines are complete. `check` is given the ids of the records it holds before
    /// anything in it is changed.
    ///
    /// # Errors
    /// When there is something other than a regular file, it cannot be opened, holds a complete line that is not a record,
    /// or does not pass the check.
    pub(crate) fn resume(path: &Path, check: impl FnOnce(&[String]) -> Result<()>) -> Result<Self> {
        let name = path.display().to_string();
        // A device may have no end, and nothing can be cut from it.
        if path.exists() && !path.is_file() {
            bail!("cannot resume {name}: it is not a regular file");
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot write {name}"))?;
        let (ids, complete) = complete_records(&file).with_context(|| format!("cannot resume {name}"))?;
        check(&ids)?;
        // What follows the last complete line is what a stopped run left of its next record.
        file.set_len(complete).with_context(|| format!("cannot write {name}"))?;
        file.seek(SeekFrom::End(0)).with_context(|| format!("cannot write {name}"))?;
        Ok(Self { name, file: Some(file), begun: true })
    }

    /// Takes away what a file held before, unless that has been done. Also what ends a run without a record.
    pub(crate) fn begin(&mut self) -> Result<()> {
        let before = self.file.as_ref().filter(|_| !self.begun);
        // Nothing can be taken from a device.
        if let Some(file) = before.filter(|file| file.metadata().is_ok_and(|found| found.is_file())) {
            file.set_len(0).with_context(|| format!("cannot write {}", self.name))?;
        }
        self.begun = true;
        Ok(())
    }

    /// Writes one line of JSON and flushes it.
    pub(crate) fn record(&mut self, record: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(record).context("cannot write a record as JSON")?;
        self.text(&line)
    }

    /// Writes text and a line end, and flushes it.
    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        // One write a record, so that a run that is stopped tears at most the last line.
        let line = format!("{text}\n");
        self.begin()?;
        let written = match &mut self.file {
            Some(file) => file.write_all(line.as_bytes()),
            None => io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush()),
        };
        written.with_context(|| format!("cannot write {}", self.name))
    }
}

/// Prints text and a line end on standard output. Unlike `println!`, a reader that has gone away is an error, not a panic.
pub(crate) fn print(text: &str) -> Result<()> {
    Output::create(None)?.text(text)
}

/// The file that an option names; `-` is standard output, as leaving the option out is.
pub(crate) fn named_file(option: &Option<PathBuf>) -> Option<&Path> {
    option.as_deref().filter(|path| *path != Path::new("-"))
}

/// Refuses an output, the value of `option`, that is one of the inputs, which would be emptied before it is read, and inputs that
/// cannot be read: nothing should be overwritten for them. Standard input (`-`) and devices are passed over. Also refuses the name of
/// a compressed output.
pub(crate) fn check_paths<'p>(
    option: &str,
    output: Option<&Path>,
    inputs: impl IntoIterator<Item = &'p Path>,
) -> Result<()> {
    let compressed = |path: &&Path| path.extension().is_some_and(|ending| ending == "gz" || ending == "zst");
    if let Some(output) = output.filter(compressed) {
        return usage(format!("{}: output is not compressed: give a name without .gz or .zst", output.display()));
    }
    for input in inputs {
        let name = input.display();
        if input.is_dir() {
            bail!("cannot read {name}: it is a directory");
        }
        if !input.is_file() {
            continue;
        }
        File::open(input).with_context(|| format!("cannot open {name}"))?;
        if let Some(output) = output
            && epitome_files::same_file(output, input)
        {
            let output = output.display();
            return usage(format!(
                "the output {output} is also the input {name}, which would be lost; choose another {option}"
            ));
        }
    }
    Ok(())
}

/// Ids of the records in complete lines, and where the last of these ends.
fn complete_records(file: &File) -> Result<(Vec<String>, u64)> {
    let mut reader = BufReader::new(file);
    let mut ids = Vec::new();
    let mut complete = 0;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        complete += length as u64;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let record: Option<Value> = serde_json::from_slice(&line).ok();
        match record.as_ref().and_then(|record| record.get("id")).and_then(Value::as_str) {
            Some(id) => ids.push(id.to_owned()),
            None => bail!("line {number} is not a record that this command wrote"),
        }
    }
    Ok((ids, complete))
}
