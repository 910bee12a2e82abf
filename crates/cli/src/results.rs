//! `epitome results`: the evaluations of many runs as one table, from a file to which `epitome evaluate` adds lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use epitome_data::{content_hash, open_text};
use epitome_eval::{Report, Scores, Table};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::evaluate::files;
use crate::output::print;

/// Options of `epitome results`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Files that `epitome evaluate --append-results` wrote
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Only systems whose name contains this
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Only data whose name contains this
    #[arg(long, value_name = "TEXT")]
    data: Option<String>,
    /// How to write the table
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns for a terminal.
    Text,
    /// For repositories.
    Markdown,
}

/// What was scored against.
pub(crate) struct Data {
    name: String,
    /// BLAKE3 of the content of the files.
    hash: Option<String>,
}

impl Data {
    /// The records of a path; what can be read only once has no hash.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let hash = |file: &PathBuf| -> Result<Option<String>> {
            Ok(if file.is_file() { Some(content_hash(file)?.to_hex()[..16].to_owned()) } else { None })
        };
        let hashes: Option<Vec<String>> = files(path)?.iter().map(hash).collect::<Result<_>>()?;
        Ok(Self { name: path.display().to_string(), hash: hashes.map(|hashes| hashes.join("-")) })
    }
}

/// A line to write: one system of one evaluation.
#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    version: &'a str,
    system: &'a str,
    data: &'a str,
    data_hash: Option<&'a str>,
    records: usize,
    options: &'a epitome_eval::Options,
    decoding: Option<&'a serde_json::Value>,
    scores: &'a Scores,
}

/// Adds a line for each system of a report to a file.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn append(path: &Path, report: &Report, data: &Data) -> Result<()> {
    let mut text = String::new();
    for system in &report.systems {
        let line = Line {
            schema: report.schema,
            version: &report.version,
            system: &system.name,
            data: &data.name,
            data_hash: data.hash.as_deref(),
            records: report.records,
            options: &report.options,
            decoding: report.decoding.as_ref(),
            scores: &system.scores,
        };
        text += &(serde_json::to_string(&line)? + "\n");
    }
    let written = open(path).and_then(|mut file| {
        // What an interrupted run left of a line stays a line of its own.
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                text.insert(0, '\n');
            }
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).open(path)
}

/// Whether lines can be added to a file, asked before hours of work.
///
/// # Errors
/// When they cannot.
pub(crate) fn check(path: &Path) -> Result<()> {
    open(path).map(drop).with_context(|| format!("cannot write {}", path.display()))
}

/// What is read of a line.
#[derive(Deserialize)]
struct Found {
    system: String,
    data: String,
    data_hash: Option<String>,
    records: usize,
    options: FoundOptions,
    #[serde(default)]
    decoding: Value,
    scores: BTreeMap<String, FoundScore>,
}

#[derive(Deserialize)]
struct FoundOptions {
    stemmer: bool,
    sentence_split: String,
    several_references: Option<String>,
    bootstrap: Option<usize>,
}

#[derive(Deserialize)]
struct FoundScore {
    f1: FoundEstimate,
}

#[derive(Deserialize)]
struct FoundEstimate {
    mean: f64,
    low: f64,
    high: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut found = Vec::new();
    for path in &arguments.files {
        for (index, line) in open_text(path)?.lines().enumerate() {
            let line = line.with_context(|| path.display().to_string())?;
            if line.trim().is_empty() {
                continue;
            }
            let parsed = serde_json::from_str(&line);
            // The error's own line is always 1.
            found.push(parsed.map_err(|error| {
                let message = error.to_string();
                let (reason, _) = message.rsplit_once(" at line ").unwrap_or((&message, ""));
                anyhow!("{}, line {}: not a result: {reason}", path.display(), index + 1)
            })?);
        }
    }
    let contains = |name: &str, part: &Option<String>| part.as_deref().is_none_or(|part| name.contains(part));
    found.retain(|line: &Found| contains(&line.system, &arguments.system) && contains(&line.data, &arguments.data));
    if found.is_empty() {
        bail!("no result is left to show");
    }
    let table = table(&found);
    print(
        match arguments.format {
            Format::Text => table.text(),
            Format::Markdown => table.markdown(),
        }
        .trim_end(),
    )
}

/// Settings of the search that every row of a model shows.
const SHOWN: [&str; 5] = ["num_beams", "length_penalty", "no_repeat_ngram_size", "min_length", "max_length"];

/// What decided the summaries of a model, in short; `-` of summaries that were there already.
fn settings(decoding: &Value) -> String {
    let Some(model) = decoding["model"].as_str() else { return "-".to_owned() };
    let mut settings = vec![model.to_owned()];
    settings.extend(decoding["precision"].as_str().map(str::to_owned));
    let generation = &decoding["generation"];
    settings.extend(SHOWN.iter().filter_map(|&name| Some(format!("{name} {}", generation.get(name)?))));
    settings.extend(decoding["max_document_tokens"].as_u64().map(|tokens| format!("reads {tokens}")));
    settings.join(", ")
}

impl Found {
    /// Settings that are shown only where rows differ in them, by name.
    fn further_settings(&self) -> impl Iterator<Item = (&str, String)> {
        let generation = self.decoding["generation"].as_object().into_iter().flatten();
        let further = generation.filter(|(name, _)| !SHOWN.contains(&name.as_str()));
        let further =
            further.map(|(name, value)| (name.as_str(), value.as_str().map_or(value.to_string(), str::to_owned)));
        further.chain(self.options.several_references.iter().map(|name| ("several_references", name.clone())))
    }

    fn further_setting(&self, name: &str) -> String {
        self.further_settings().find(|(own, _)| *own == name).map_or("-".to_owned(), |(_, value)| value)
    }

    /// F1 in percent, with the interval if there is one.
    fn score(&self, metric: &str) -> String {
        let Some(FoundScore { f1: FoundEstimate { mean, low, high } }) = self.scores.get(metric) else {
            return "-".to_owned();
        };
        let interval = format!(" ({:.2} to {:.2})", 100.0 * low, 100.0 * high);
        let has_interval = self.options.bootstrap != Some(0);
        format!("{:.2}{}", 100.0 * mean, if has_interval { &interval } else { "" })
    }
}

/// The names of the settings in which lines that have them differ.
fn differing(found: &[Found]) -> Vec<&str> {
    let mut values: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, value) in found.iter().flat_map(Found::further_settings) {
        values.entry(name).or_default().insert(value);
    }
    values.into_iter().filter(|(_, values)| values.len() > 1).map(|(name, _)| name).collect()
}

/// A row a line: how it was made, as far as lines differ, and F1 by every metric that any line has.
fn table(found: &[Found]) -> Table {
    let metrics: BTreeSet<&str> = found.iter().flat_map(|line| line.scores.keys().map(String::as_str)).collect();
    let differing = differing(found);
    let row = |line: &Found| {
        let hash = line.data_hash.as_ref().map_or("-", |hash| hash.get(..8).unwrap_or(hash));
        let stemmed = if line.options.stemmer { "yes" } else { "no" };
        let facts = [
            &line.system,
            &settings(&line.decoding),
            &line.data,
            hash,
            &line.records.to_string(),
            &line.options.sentence_split,
            stemmed,
        ];
        let further = differing.iter().map(|name| line.further_setting(name));
        let scores = metrics.iter().map(|metric| line.score(metric));
        facts.map(str::to_owned).into_iter().chain(further).chain(scores).collect()
    };
    let header = ["system", "model and settings", "data", "hash", "records", "split", "stemmed"];
    let header = header.iter().chain(&differing).chain(&metrics).map(|&name| name.to_owned()).collect();
    Table { header, rows: found.iter().map(row).collect() }
}
