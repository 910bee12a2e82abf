//! `epitome evaluate`.

mod model;
mod predictions;
mod references;
mod tables;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use epitome_distributed::ProcessGroup;
use epitome_eval::{
    BaselineKind, Error, Options, RANDOMIZATIONS, Report, SentenceSplit, SeveralReferences, evaluate_streams,
};

use crate::decoding::DecodingOptions;
use crate::failure::{usage, warn};
use crate::output::{check_paths, print};
use crate::results::{self, Data};
use crate::shared;
use model::Length;
use predictions::Named;
use references::References;
pub(crate) use references::files;

/// What only a model uses: predictions that are there already need none of it. A struct with flattened parts has no group
/// of its own, so its options are named.
const DECODING: [&str; 9] = [
    "ModelOption",
    "DeviceOptions",
    "GenerationArguments",
    "PromptOption",
    "batch_size",
    "max_document_tokens",
    "attribute",
    "skip_bad_records",
    "ablate_length",
];

/// The files that a report is written to.
const REPORTS: [&str; 4] = ["report.json", "report.md", "report.tex", "report.html"];

/// Options of `epitome evaluate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Summaries of a system: JSON Lines with `id` and `summary` such as `epitome decode` writes, text with one summary a
    /// line (.txt), or a table with a column `prediction` or `summary` and perhaps `id` (.csv, .tsv); repeat it to compare
    /// systems
    #[arg(long, value_name = "[NAME=]FILE", value_parser = OsStringValueParser::new().try_map(|text| Named::parse(&text)))]
    #[arg(requires = "references", conflicts_with = "data", conflicts_with_all = DECODING)]
    predictions: Vec<Named>,
    /// Records with `id` and `summary` or `references`; without --predictions only the baselines are scored
    #[arg(long, value_name = "FILE", conflicts_with = "data", conflicts_with_all = DECODING)]
    references: Option<PathBuf>,
    /// Records to decode with the model and to evaluate against
    #[arg(long, value_name = "RECORDS")]
    data: Option<PathBuf>,
    /// Decode once for each of these lengths in tokens (numbers, or full) and compare
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = Length::parse, conflicts_with = "max_document_tokens")]
    ablate_length: Vec<Length>,
    /// Directory for report.json, report.md, report.tex and report.html (and predictions.jsonl with --data)
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Add a line a system to this file, which `epitome results` shows
    #[arg(long, value_name = "FILE")]
    append_results: Option<PathBuf>,
    /// Compare stems (NLTK's Porter stemmer) instead of words
    #[arg(long)]
    stemmer: bool,
    /// Where sentences end, for ROUGE-Lsum: newline or period
    #[arg(long, value_name = "WHERE", default_value = "newline")]
    sentence_split: SentenceSplit,
    /// Which score counts where a record has several references: max or mean
    #[arg(long, value_name = "WHICH", default_value = "max")]
    several_references: SeveralReferences,
    /// Summaries from the documents' own sentences to score too: lead, tail, lead-N, tail-N, random, lexrank, oracle, or none
    /// [default: lead,tail,random,lexrank,oracle, where every record has its document]
    #[arg(long, value_name = "NAME,...")]
    baselines: Option<String>,
    /// Resamples for the confidence intervals; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    bootstrap: u32,
    /// Random assignments of signs for the p-values of differences
    #[arg(long, value_name = "N", default_value_t = RANDOMIZATIONS as u32, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    randomizations: u32,
    /// Seed of the resampling, of the p-values and of the random baseline
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Records that report.html shows with their texts, the first ones
    #[arg(long, value_name = "N", default_value_t = 1000)]
    shown_records: usize,
    #[command(flatten)]
    decoding: DecodingOptions,
}

pub(crate) fn run(arguments: &Arguments, group: &ProcessGroup) -> Result<()> {
    if !group.is_root() {
        return match arguments.data {
            Some(_) => shared::serve(group, || arguments.decoding.load(group)),
            None => Ok(()),
        };
    }
    let options = arguments.options()?;
    if let Some(path) = &arguments.append_results {
        check_paths("--append-results", Some(path), [])?;
        results::check(path)?;
    }
    let report = match (&arguments.references, &arguments.data) {
        (Some(path), None) => {
            let inputs = files(path)?;
            let predicted = arguments.predictions.iter().map(|named| named.file.clone());
            arguments.check_outputs(&inputs.iter().cloned().chain(predicted).collect::<Vec<_>>())?;
            let references = References::open(inputs, arguments.decoding.fields.names()?)?;
            if arguments.needs_documents() {
                references.check_documents(path)?;
            }
            let systems = arguments.predictions.iter().map(|named| named.open(&references));
            let report = evaluate_streams(systems.collect::<Result<_>>()?, &|| references.stream(), &options);
            report.map_err(|error| of_records(error, path))?
        }
        (None, Some(data)) => {
            options.check_names(&arguments.system_names())?;
            let mut decoded = model::decode(arguments, group, data)?;
            let systems = decoded.systems();
            let report = evaluate_streams(systems, &|| decoded.references.stream(), &options);
            let mut report = report.map_err(|error| of_records(error, data))?;
            report.ablation = decoded.ablation;
            report.decoding = Some(decoded.decoding);
            report
        }
        _ => {
            return usage(
                "give --references, with --predictions to score them, or --data to summarize and score records",
            );
        }
    };
    if report.baselines.is_empty() && !report.options.baselines.is_empty() {
        warn("no baselines are scored: not every record has its `document` or `documents`");
    }
    arguments.write(&report)
}

/// The error, with the file that is at fault where the report does not know it.
fn of_records(error: Error, path: &Path) -> anyhow::Error {
    match error {
        Error::NoRecords | Error::NothingToScore => anyhow::Error::new(error).context(path.display().to_string()),
        _ => error.into(),
    }
}

impl Arguments {
    fn options(&self) -> Result<Options> {
        let baselines = match self.baselines.as_deref() {
            None => BaselineKind::STANDARD.to_vec(),
            Some("none") => Vec::new(),
            Some(names) => {
                match names.split(',').map(str::parse).collect::<std::result::Result<Vec<BaselineKind>, _>>() {
                    Ok(kinds) => kinds,
                    Err(error) => return usage(format!("--baselines: {error}")),
                }
            }
        };
        Ok(Options {
            stemmer: self.stemmer,
            sentence_split: self.sentence_split,
            several_references: self.several_references,
            bootstrap: self.bootstrap as usize,
            randomizations: self.randomizations as usize,
            seed: self.seed,
            shown_records: self.shown_records,
            baselines,
        })
    }

    /// Whether baselines are asked for, and not merely scored where they can be.
    fn needs_documents(&self) -> bool {
        self.baselines.as_deref().is_some_and(|names| names != "none")
    }

    fn write(&self, report: &Report) -> Result<()> {
        let written = self.write_files(report);
        // In any case, so that a failure to write takes nothing away; afterwards, since who reads it may have gone away.
        let printed = print(report.table().trim_end());
        written.and(printed)
    }

    fn write_files(&self, report: &Report) -> Result<()> {
        if let Some(directory) = &self.output {
            report.write(directory)?;
        }
        if let (Some(path), Some(data)) = (&self.append_results, self.references.as_ref().or(self.data.as_ref())) {
            results::append(path, report, &Data::of(data)?)?;
        }
        Ok(())
    }
}
