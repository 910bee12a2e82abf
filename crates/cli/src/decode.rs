//! `epitome decode`.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use epitome_data::{Record, read_document};
use epitome_decode::Summary;
use epitome_distributed::ProcessGroup;
use serde::Serialize;

use crate::decoding::{Decoding, DecodingOptions};
use crate::failure::{usage, warn};
use crate::output::{Output, check_paths, named_file};
use crate::progress;
use crate::records::Records;
use crate::shared;
use crate::unfinished::Unfinished;

/// Options of `epitome decode`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Text files, or - for standard input; gzip and zstd are unpacked
    #[arg(value_name = "FILE", conflicts_with = "input")]
    files: Vec<PathBuf>,
    /// Records to summarize: JSON Lines (plain, gzip or zstd) or Parquet, or - for standard input
    #[arg(long, value_name = "RECORDS")]
    input: Option<PathBuf>,
    /// File to write instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Keep the complete records that the output already holds and go on after them, as it was begun
    #[arg(long, requires = "input", requires = "output", conflicts_with = "files")]
    resume: bool,
    /// How to write summaries [default: text for files, json for records and with --attribute]
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    decoding: DecodingOptions,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The summary alone, under a header where there are several.
    Text,
    /// One JSON object a line.
    Json,
}

/// A line of the output.
#[derive(Serialize)]
pub(crate) struct OutputRecord<'a> {
    pub(crate) id: &'a str,
    #[serde(flatten)]
    pub(crate) summary: &'a Summary,
}

pub(crate) fn run(arguments: &Arguments, group: &ProcessGroup) -> Result<()> {
    arguments.decoding.device.check()?;
    if arguments.decoding.attribute && arguments.format == Some(Format::Text) {
        return usage("--attribute needs --format json: text has no place for passages");
    }
    match &arguments.input {
        _ if !group.is_root() => shared::serve(group, || arguments.decoding.load(group)),
        Some(input) => decode_records(arguments, group, input),
        None => decode_files(arguments, group),
    }
}

fn decode_files(arguments: &Arguments, group: &ProcessGroup) -> Result<()> {
    let mut files = arguments.files.clone();
    if files.is_empty() {
        if io::stdin().is_terminal() {
            return usage("nothing to summarize: name text files, - for standard input, or --input RECORDS");
        }
        files.push("-".into());
    }
    let model = arguments.decoding.model.files();
    let output = named_file(&arguments.output);
    check_paths("--output", output, files.iter().chain(&model).map(PathBuf::as_path))?;
    // All files are read first: a wrong name should not be found after an hour.
    let records = files
        .iter()
        .map(|file| Ok(Record::from_text(file.display().to_string(), read_document(file)?)))
        .collect::<Result<Vec<_>>>()?;
    let summarizer = arguments.decoding.load(group)?;
    if summarizer.tokenizer().is_none() {
        // The model in this program has one.
        return Err(epitome_data::Error::NoTokenizer(arguments.decoding.model.directory().unwrap_or_default()).into());
    }
    let output = Output::create(output)?;
    let format = arguments.format.unwrap_or(if arguments.decoding.attribute { Format::Json } else { Format::Text });
    let mut writer = Writer { output, format, headers: files.len() > 1, first: true, unfinished: None };
    let bar = progress::bar(Some(files.len() as u64), "documents");
    let decoding = arguments.decoding.decoding(&summarizer, group, bar);
    decoding.run(&mut Records::of(records), &mut |record, summary| writer.write(&record.id, &summary))?;
    writer.finish()
}

fn decode_records(arguments: &Arguments, group: &ProcessGroup, input: &Path) -> Result<()> {
    let format = arguments.format.unwrap_or(Format::Json);
    let path = named_file(&arguments.output);
    if arguments.resume && format == Format::Text {
        return usage("--resume needs --format json: text does not say which records it holds");
    }
    if arguments.resume && path.is_none() {
        return usage("--resume needs a file as --output: what went to standard output is gone");
    }
    let names = arguments.decoding.fields.names()?;
    let mut records = Records::open(input, names.clone(), arguments.decoding.skip_bad_records)?;
    let model = arguments.decoding.model.files();
    check_paths("--output", path, records.files().chain(model.iter().map(PathBuf::as_path)))?;
    let summarizer = arguments.decoding.load(group)?;
    let bar = progress::bar(progress::count_records(input, names), "records");
    let decoding = arguments.decoding.decoding(&summarizer, group, bar.clone());
    // Nothing else can be resumed.
    let is_kept = |path: &&Path| format == Format::Json && (path.is_file() || !path.exists());
    let unfinished = match path.filter(is_kept) {
        Some(path) => Some(Unfinished::new(path, arguments.decoding.settings_of_output(&summarizer)?)),
        None => None,
    };
    let output = match (path, arguments.resume) {
        (Some(path), true) => Output::resume(path, |done| {
            unfinished.iter().filter(|_| !done.is_empty()).try_for_each(Unfinished::check)?;
            bar.inc(done.len() as u64);
            pass_over(&mut records, done, &decoding, path)
        })?,
        (path, _) => Output::create(path)?,
    };
    let mut writer = Writer { output, format, headers: true, first: true, unfinished };
    let outcome = decoding.run(&mut records, &mut |record, summary| writer.write(&record.id, &summary));
    records.list_skipped();
    outcome?;
    writer.finish()
}

/// Takes the records that the output already holds from the input.
fn pass_over(records: &mut Records, done: &[String], decoding: &Decoding, output: &Path) -> Result<()> {
    let name = output.display();
    // Without --skip-bad-records the run that wrote the output met no bad record, and tokens need not be made again.
    let skips = records.skips();
    let check = |record: &Record| if skips { decoding.source(record).map(drop) } else { Ok(()) };
    for id in done {
        match records.next(check).transpose()? {
            Some((record, ())) if record.id == *id => {}
            Some((record, ())) => bail!(
                "cannot resume {name}: it holds the record {id} where the input has {}; choose another --output",
                record.id
            ),
            None => bail!("cannot resume {name}: it holds the record {id}, but the input has ended before it"),
        }
    }
    Ok(())
}

struct Writer {
    output: Output,
    format: Format,
    headers: bool,
    first: bool,
    /// What is said beside the output from its first record to its last.
    unfinished: Option<Unfinished>,
}

impl Writer {
    fn write(&mut self, id: &str, summary: &Summary) -> Result<()> {
        let first = std::mem::replace(&mut self.first, false);
        if first {
            // Where there is no room beside the output, only the comparison is lost.
            if let Some(Err(error)) = self.unfinished.as_ref().map(Unfinished::write) {
                warn(format_args!("{error:#}: --resume will not know what this output is made with"));
                self.unfinished = None;
            }
            self.output.begin()?;
        }
        match self.format {
            Format::Json => self.output.record(&OutputRecord { id, summary }),
            Format::Text if self.headers => {
                let gap = if first { "" } else { "\n" };
                self.output.text(&format!("{gap}==> {id} <==\n{}", text(summary)))
            }
            Format::Text => self.output.text(&text(summary)),
        }
    }

    /// All is written; that may be nothing.
    fn finish(&mut self) -> Result<()> {
        self.output.begin()?;
        self.unfinished.iter().try_for_each(Unfinished::remove)
    }
}

/// The summary, or all that were asked for with a blank line between.
fn text(summary: &Summary) -> String {
    if summary.sequences.is_empty() {
        return summary.best.summary.clone();
    }
    let all: Vec<&str> = summary.sequences.iter().map(|sequence| sequence.summary.as_str()).collect();
    all.join("\n\n")
}
