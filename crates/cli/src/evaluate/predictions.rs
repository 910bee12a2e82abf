//! Predictions that are there already, in the forms in which other programs write them.

use std::ffi::OsStr;
use std::io::{self, BufRead};
use std::mem;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use epitome_data::{RecordReader, open_text};
use epitome_eval::{Input, Prediction, Predictions, Stream, counted};

use super::references::References;
use super::tables;

/// Columns of a table that may hold the summaries, the first that is there: beside predictions a `summary` is a reference.
const SUMMARY_COLUMNS: [&str; 2] = ["prediction", "summary"];

/// Endings that say how a file is written.
const ENDINGS: [&str; 8] = ["gz", "zst", "json", "jsonl", "parquet", "txt", "csv", "tsv"];

/// `--predictions [NAME=]FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
}

impl Named {
    /// What stands before the first `=` is the name, unless the whole is a file; without one it is the file's name without
    /// its endings. So it is where the text is no Unicode, as names of files may be.
    pub(crate) fn parse(text: &OsStr) -> std::result::Result<Self, String> {
        match text.to_str().and_then(|text| text.split_once('=')) {
            Some((name, file)) if !Path::new(text).exists() => match (name.trim(), file) {
                ("", _) | (_, "") => Err("needs the form NAME=FILE or FILE".into()),
                (name, file) => Ok(Self { name: name.to_owned(), file: file.into() }),
            },
            _ => Ok(Self { name: stem(Path::new(text)), file: text.into() }),
        }
    }

    /// The predictions; those without ids of their own are for the records of `references` in their order.
    ///
    /// # Errors
    /// A file that cannot be opened, or a table without a column of summaries.
    pub(crate) fn open<'a>(&'a self, references: &'a References) -> Result<Predictions<'a>> {
        let stream: Stream<'a, Prediction> = match ending(&self.file).as_deref() {
            Some("txt") => Box::new(lines(&self.file, references)?),
            Some("csv") => table(&self.file, ',', references)?,
            Some("tsv") => table(&self.file, '\t', references)?,
            _ => Box::new(records(&self.file)?),
        };
        Ok(Predictions { name: self.name.clone(), stream })
    }
}

/// The name of a file without what says how it is written.
fn stem(file: &Path) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let mut stem: &str = &name;
    while let Some((before, _)) = stem.rsplit_once('.').filter(|(before, after)| {
        let after = after.to_ascii_lowercase();
        !before.is_empty() && ENDINGS.contains(&after.as_str())
    }) {
        stem = before;
    }
    stem.to_owned()
}

/// How the text of a file is written, whatever it is compressed with.
fn ending(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?.to_ascii_lowercase();
    name.trim_end_matches(".gz").trim_end_matches(".zst").rsplit_once('.').map(|(_, ending)| ending.to_owned())
}

/// JSON Lines or Parquet, such as `epitome decode` writes.
fn records(file: &Path) -> Result<impl Iterator<Item = Input<Prediction>> + Send> {
    let reader = RecordReader::open(file)?.with_documents_optional().keeping_other_fields();
    Ok(reader.map(|record| {
        let mut record = record?;
        let Some(summary) = record.summary else {
            return Err(anyhow!("{}: no `summary`", record.location).into());
        };
        let is_cut = record.other.get("ended").and_then(serde_json::Value::as_bool).map(|ended| !ended);
        Ok(Prediction { id: record.id, summary, is_cut, attribution: record.other.remove("attribution") })
    }))
}

/// One summary a line, such as the `generated_predictions.txt` of `transformers`' examples.
fn lines<'a>(
    file: &'a Path,
    references: &'a References,
) -> Result<impl Iterator<Item = Input<Prediction>> + Send + 'a> {
    let lines = open_text(file)?.split(b'\n').enumerate().map(|(index, line)| {
        let line = line.map_err(anyhow::Error::from)?;
        let text = String::from_utf8(line).map_err(|_| anyhow!("line {} is not UTF-8", index + 1))?;
        Ok(text.trim_end_matches('\r').to_owned())
    });
    in_order(file, "lines", lines, references)
}

/// A table with a header. Rows with an `id` are joined by it, others are in the order of the records.
fn table<'a>(file: &'a Path, separator: char, references: &'a References) -> Result<Stream<'a, Prediction>> {
    let name = || file.display().to_string();
    let text = io::read_to_string(open_text(file)?).with_context(name)?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text);
    let mut rows = tables::rows(text, separator).with_context(name)?.into_iter();
    let header = rows.next().map(|row| row.cells).unwrap_or_default();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let Some(summary) = SUMMARY_COLUMNS.iter().find_map(|name| column(name)) else {
        bail!("{}: no column `summary` or `prediction` in its header", file.display());
    };
    let id = column("id");
    let summaries = rows.map(move |mut row| {
        let own_id = id.map(|id| mem::take(&mut row.cells[id]));
        (own_id.unwrap_or_default(), mem::take(&mut row.cells[summary]))
    });
    if id.is_none() {
        return Ok(Box::new(in_order(file, "rows", summaries.map(|(_, summary)| Ok(summary)), references)?));
    }
    Ok(Box::new(summaries.map(|(id, summary)| Ok(Prediction { id, summary, ..Prediction::default() }))))
}

/// Summaries without ids: one for each record.
fn in_order<'a>(
    file: &'a Path,
    unit: &'static str,
    mut summaries: impl Iterator<Item = Result<String>> + Send + 'a,
    references: &'a References,
) -> Result<impl Iterator<Item = Input<Prediction>> + Send + 'a> {
    let mut records = references.stream().map_err(anyhow::Error::from_boxed)?;
    let mut count = 0;
    Ok(std::iter::from_fn(move || {
        let named = |message: String| Some(Err(anyhow!("{}: {message}", file.display()).into()));
        match (summaries.next(), records.next()) {
            (None, None) => None,
            (_, Some(Err(error))) => Some(Err(error)),
            (Some(Err(error)), _) => Some(Err(error.context(file.display().to_string()).into())),
            (Some(Ok(summary)), Some(Ok(record))) => {
                count += 1;
                Some(Ok(Prediction { id: record.id, summary, ..Prediction::default() }))
            }
            (None, Some(Ok(record))) => named(format!(
                "ends after {count} {unit}, before the record `{}`: without ids there must be one for each record",
                record.id
            )),
            (Some(Ok(_)), None) => {
                named(format!("more {unit} than the {}: a summary must be one of them", counted(count, "record")))
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_endings() {
        let named = |text: &str| Named::parse(text.as_ref()).unwrap();
        assert_eq!(named("ours=out/a.jsonl"), Named { name: "ours".into(), file: "out/a.jsonl".into() });
        assert_eq!(
            named("out/led.base.jsonl.zst"),
            Named { name: "led.base".into(), file: "out/led.base.jsonl.zst".into() }
        );
        assert!(["=x", "x="].iter().all(|text| Named::parse(text.as_ref()).is_err()));
        assert_eq!(stem(Path::new("out/p1.5.TXT")), "p1.5");
        assert_eq!(ending(Path::new("a/b.CSV.gz")).as_deref(), Some("csv"));
        assert_eq!(ending(Path::new("b")), None);
    }
}
