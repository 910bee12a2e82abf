//! JSON Lines out, one record at a time, each complete in the file before the next is computed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

/// A file or standard output.
pub(crate) struct Output {
    name: String,
    target: Box<dyn Write>,
}

impl Output {
    /// A new file at `path`, or standard output without one.
    pub(crate) fn create(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self { name: "standard output".into(), target: Box::new(io::stdout()) });
        };
        let name = path.display().to_string();
        let file = File::create(path).with_context(|| format!("cannot write {name}"))?;
        Ok(Self { name, target: Box::new(file) })
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
        Ok(Self { name, target: Box::new(file) })
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
        self.target
            .write_all(line.as_bytes())
            .and_then(|()| self.target.flush())
            .with_context(|| format!("cannot write {}", self.name))
    }
}

/// Prints text and a line end on standard output. Unlike `println!`, a reader that has gone away is an error, not a panic.
pub(crate) fn print(text: &str) -> Result<()> {
    Output::create(None)?.text(text)
}

/// Refuses an output that is one of the inputs, which would be emptied before it is read, and inputs that cannot be read:
/// nothing should be overwritten for them. Standard input (`-`) and devices are passed over.
pub(crate) fn check_paths<'p>(output: Option<&Path>, inputs: impl IntoIterator<Item = &'p Path>) -> Result<()> {
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
            bail!(
                "the output {} is also the input {name}, which would be lost; choose another --output",
                output.display()
            );
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
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok((ids, complete));
        }
        let record: Option<Value> = serde_json::from_slice(&line).ok();
        match record.as_ref().and_then(|record| record.get("id")).and_then(Value::as_str) {
            Some(id) => ids.push(id.to_owned()),
            None => bail!("line {} is not a record that this command wrote", ids.len() + 1),
        }
        complete += length as u64;
    }
}
