//! `epitome evaluate`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use epitome_data::{Content, FieldNames, Location, Record, RecordReader};
use epitome_distributed::ProcessGroup;
use epitome_eval::{Options, Prediction, Reference, SentenceSplit};

use crate::decode::OutputRecord;
use crate::decoding::DecodingOptions;
use crate::failure::usage;
use crate::output::{Output, check_paths, print};
use crate::progress;
use crate::records::{BadRecord, Records};
use crate::shared;

/// What only a model uses: predictions that are there already need none of it. A struct with flattened parts has no group
/// of its own, so its options are named.
const DECODING: [&str; 6] =
    ["ModelOption", "DeviceOptions", "GenerationArguments", "batch_size", "max_document_tokens", "skip_bad_records"];

/// The files that a report is written to.
const REPORTS: [&str; 3] = ["report.json", "report.md", "report.html"];

/// Options of `epitome evaluate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// JSON Lines with `id` and `summary`, such as `epitome decode` writes
    #[arg(long, value_name = "FILE", requires = "references", conflicts_with = "data", conflicts_with_all = DECODING)]
    predictions: Option<PathBuf>,
    /// Records with `id` and `summary` or `references`
    #[arg(long, value_name = "FILE", requires = "predictions", conflicts_with = "data")]
    references: Option<PathBuf>,
    /// Records to decode with the model and to evaluate against
    #[arg(long, value_name = "RECORDS")]
    data: Option<PathBuf>,
    /// Directory for report.json, report.md and report.html (and predictions.jsonl with --data)
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Compare stems (NLTK's Porter stemmer) instead of words
    #[arg(long)]
    stemmer: bool,
    /// Where sentences end, for ROUGE-Lsum: newline or period
    #[arg(long, value_name = "WHERE", default_value = "newline")]
    sentence_split: SentenceSplit,
    /// Resamples for the confidence intervals; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1000)]
    bootstrap: usize,
    /// Seed of the resampling
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    decoding: DecodingOptions,
}

pub(crate) fn run(arguments: &Arguments, group: &ProcessGroup) -> Result<()> {
    if !group.is_root() && arguments.data.is_none() {
        return Ok(());
    }
    if !group.is_root() {
        return shared::serve(group, || arguments.decoding.load());
    }
    let (predictions, references) = match (&arguments.predictions, &arguments.references, &arguments.data) {
        (Some(predictions), Some(references), None) => {
            check_reports(arguments, &[predictions, references])?;
            (read_predictions(predictions)?, read_references(references, arguments.decoding.fields.names()?)?)
        }
        (None, None, Some(data)) => decode(arguments, group, data)?,
        _ => return usage("give --predictions with --references, or --data with --model"),
    };
    let report = epitome_eval::evaluate(&predictions, &references, &arguments.options())?;
    if let Some(directory) = &arguments.output {
        report.write(directory)?;
    }
    print(report.table().trim_end())
}

impl Arguments {
    fn options(&self) -> Options {
        Options {
            stemmer: self.stemmer,
            sentence_split: self.sentence_split,
            bootstrap: self.bootstrap,
            seed: self.seed,
            ..Options::default()
        }
    }
}

/// Decodes the records; with an output directory the predictions are written there as they are made.
fn decode(arguments: &Arguments, group: &ProcessGroup, data: &Path) -> Result<(Vec<Prediction>, Vec<Reference>)> {
    arguments.decoding.device.check()?;
    let mut records = evaluable(arguments, data)?;
    let inputs: Vec<PathBuf> = records.files().map(Path::to_owned).collect();
    check_reports(arguments, &inputs)?;
    let predicted = arguments.output.as_ref().map(|directory| directory.join("predictions.jsonl"));
    check_paths(predicted.as_deref(), records.files())?;
    // A record that cannot be evaluated should not be found after an hour of decoding.
    if inputs.iter().all(|input| input.is_file()) {
        let mut ahead = evaluable(arguments, data)?;
        while ahead.next(|_| Ok(())).transpose()?.is_some() {}
    }
    let summarizer = arguments.decoding.load()?;
    if let Some(directory) = &arguments.output {
        fs::create_dir_all(directory).with_context(|| format!("cannot write {}", directory.display()))?;
    }
    let mut output = predicted.map(|path| Output::create(Some(&path))).transpose()?;
    let (mut predictions, mut references) = (Vec::new(), Vec::new());
    let bar = progress::bar(progress::count_records(data, arguments.decoding.fields.names()?), "records");
    let decoding = arguments.decoding.decoding(&summarizer, group, bar);
    let outcome = decoding.run(&mut records, &mut |record, summary| {
        if let Some(output) = &mut output {
            output.record(&OutputRecord { id: &record.id, summary: &summary })?;
        }
        predictions.push(Prediction { id: record.id.clone(), summary: summary.best.summary });
        references.push(reference(record));
        Ok(())
    });
    records.list_skipped();
    outcome?;
    Ok((predictions, references))
}

/// Refuses to write a report over something that is read.
fn check_reports(arguments: &Arguments, inputs: &[impl AsRef<Path>]) -> Result<()> {
    let Some(directory) = &arguments.output else { return Ok(()) };
    REPORTS.iter().try_for_each(|name| check_paths(Some(&directory.join(name)), inputs.iter().map(AsRef::as_ref)))
}

/// The records of `--data`, of which each must have a reference and an id of its own.
fn evaluable(arguments: &Arguments, data: &Path) -> Result<Records> {
    let mut seen: HashMap<String, Location> = HashMap::new();
    let records = Records::open(data, arguments.decoding.fields.names()?, arguments.decoding.skip_bad_records)?;
    Ok(records.checked_by(move |record| {
        let Record { id, location, .. } = record;
        if record.targets().is_empty() {
            let message = format!("{location}: record `{id}` has no `summary` or `references` to evaluate against");
            return Err(BadRecord(message).into());
        }
        match seen.insert(id.clone(), location.clone()) {
            Some(first) => bail!("{location}: a second record has the id `{id}`; the first is at {first}"),
            None => Ok(()),
        }
    }))
}

fn reference(record: Record) -> Reference {
    let references = record.targets().to_vec();
    let document = match record.content {
        Content::Text { documents, .. } if !documents.is_empty() => Some(documents.join("\n")),
        _ => None,
    };
    Reference { id: record.id, references, document }
}

fn read_predictions(path: &Path) -> Result<Vec<Prediction>> {
    let convert = |record: Record| match record.summary {
        Some(summary) => Ok(Prediction { id: record.id, summary }),
        None => bail!("{}: no `summary`", record.location),
    };
    summaries(path)?.map(|record| convert(record?)).collect()
}

fn read_references(path: &Path, names: FieldNames) -> Result<Vec<Reference>> {
    summaries(path)?.with_field_names(names).map(|record| Ok(reference(record?))).collect()
}

/// Records of which not all need have a document.
fn summaries(path: &Path) -> Result<RecordReader> {
    Ok(RecordReader::open(path)?.with_documents_optional())
}
