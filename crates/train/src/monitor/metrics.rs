//! `metrics.jsonl`: one line per logged step.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Error, Result};

/// Marks the lines of validations.
pub(super) const VALIDATION_LOSS: &str = "validation_loss";

/// An append-only log, flushed line by line.
#[derive(Debug)]
pub(crate) struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Opens the log of a run that continues after `step`: later lines, of work that is done again, are dropped, and so is
    /// the validation after that step unless it is `validated`.
    pub(crate) fn open(directory: &Path, step: usize, validated: bool) -> Result<Self> {
        let path = directory.join("metrics.jsonl");
        let kept = match fs::read_to_string(&path) {
            Ok(text) => lines_up_to(&text, step, validated),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        epitome_files::replace_content(&path, kept).map_err(Error::io(&path))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::io(&path))?;
        Ok(Self { path, file })
    }

    pub(crate) fn append(&mut self, line: &Value) -> Result<()> {
        let mut text = line.to_string();
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(Error::io(&self.path))
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(&self.path))
    }

    /// The whole log.
    pub(crate) fn read(&self) -> Result<String> {
        fs::read_to_string(&self.path).map_err(Error::io(&self.path))
    }
}

fn lines_up_to(text: &str, step: usize, validated: bool) -> String {
    let holds = |line: &&str| {
        let Ok(line) = serde_json::from_str::<Value>(line) else { return false };
        let logged = line.get("step").and_then(Value::as_u64).and_then(|logged| usize::try_from(logged).ok());
        let is_undone = !validated && logged == Some(step) && line.get(VALIDATION_LOSS).is_some();
        logged.is_some_and(|logged| logged <= step) && !is_undone
    };
    text.lines().filter(holds).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::lines_up_to;

    #[test]
    fn later_and_torn_lines_are_dropped() {
        let text = "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st";
        assert_eq!(lines_up_to(text, 2, false), "{\"step\":1}\n{\"step\":2}\n");
    }

    #[test]
    fn a_validation_that_is_made_again_is_dropped() {
        let text = "{\"step\":1,\"validation_loss\":3.0}\n{\"step\":2}\n{\"step\":2,\"validation_loss\":2.0}\n";
        assert_eq!(lines_up_to(text, 2, true), text);
        assert_eq!(lines_up_to(text, 2, false), "{\"step\":1,\"validation_loss\":3.0}\n{\"step\":2}\n");
    }
}
