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

    /// The file at `path`, kept as far as its lines are complete, and the ids of the records it holds.
    ///
    /// # Errors
    /// When the file cannot be opened, or holds a complete line that is not a record.
    pub(crate) fn resume(path: &Path) -> Result<(Self, Vec<String>)> {
        let name = path.display().to_string();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot write {name}"))?;
        let (ids, complete) = complete_records(&file).with_context(|| format!("cannot resume {name}"))?;
        // What follows the last complete line is what a stopped run left of its next record.
        if file.metadata().with_context(|| format!("cannot read {name}"))?.is_file() {
            file.set_len(complete).with_context(|| format!("cannot write {name}"))?;
            file.seek(SeekFrom::End(0)).with_context(|| format!("cannot write {name}"))?;
        }
        Ok((Self { name, target: Box::new(file) }, ids))
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
