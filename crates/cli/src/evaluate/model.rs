//! Predictions that a model makes now, reading whole documents or so much of each.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use epitome_data::{Location, Record};
use epitome_decode::Summarizer;
use epitome_distributed::ProcessGroup;
use epitome_eval::{AblationPoint, Prediction, Predictions};

use super::Arguments;
use super::references::{NO_DOCUMENT, References, files, reference};
use crate::decode::OutputRecord;
use crate::output::{Output, check_paths};
use crate::progress;
use crate::records::{BadRecord, Records};
use crate::shared;

/// How much of each document a model reads, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    AtMost(usize),
    Full,
}

impl Length {
    /// A number of tokens or `full`.
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        match (text, text.parse()) {
            ("full", _) => Ok(Self::Full),
            (_, Ok(tokens @ 2..)) => Ok(Self::AtMost(tokens)),
            _ => Err("needs numbers of tokens from 2 up, or full".into()),
        }
    }

    fn tokens(self) -> Option<usize> {
        match self {
            Self::AtMost(tokens) => Some(tokens),
            Self::Full => None,
        }
    }

    fn name(self) -> String {
        self.tokens().map_or_else(|| "full".into(), |tokens| tokens.to_string())
    }
}

/// What a model made of the records.
pub(crate) struct Decoded {
    pub(crate) references: References,
    systems: Vec<(String, Vec<Prediction>)>,
    /// How they were made.
    pub(crate) decoding: serde_json::Value,
    /// One for each system where several lengths were asked for.
    pub(crate) ablation: Vec<AblationPoint>,
}

impl Decoded {
    pub(crate) fn systems(&mut self) -> Vec<Predictions<'static>> {
        let systems = std::mem::take(&mut self.systems).into_iter();
        let systems =
            systems.map(|(name, predictions)| Predictions { name, stream: Box::new(predictions.into_iter().map(Ok)) });
        systems.collect()
    }
}

/// Decodes the records of `data`, once for each length that is asked for; with an output directory the predictions are
/// written there as they are made.
pub(crate) fn decode(arguments: &Arguments, group: &ProcessGroup, data: &Path) -> Result<Decoded> {
    arguments.decoding.device.check()?;
    let inputs = files(data)?;
    arguments.check_outputs(&inputs)?;
    let rereadable = inputs.iter().all(|input| input.is_file());
    if arguments.ablate_length.len() > 1 && !rereadable {
        bail!("{}: --ablate-length reads the records several times, so they must be a regular file", data.display());
    }
    // A record that cannot be evaluated should not be found after an hour of decoding.
    if rereadable {
        let mut ahead = evaluable(arguments, data)?;
        while ahead.next(|_| Ok(())).transpose()?.is_some() {}
    }
    let summarizer = arguments.decoding.load(group)?;
    if summarizer.tokenizer().is_none() {
        let model = arguments.decoding.model.name();
        bail!("{model}: the model has no tokenizer, so that its summaries have no text to score; add tokenizer.json");
    }
    if let Some(directory) = &arguments.output {
        fs::create_dir_all(directory).with_context(|| format!("cannot write {}", directory.display()))?;
    }
    let mut kept = if rereadable { None } else { Some(Vec::new()) };
    let passes = passes(arguments, group, data, &summarizer, kept.as_mut());
    shared::dismiss(group);
    let Passes { systems, mut ablation, locations } = passes?;
    if arguments.ablate_length.is_empty() {
        ablation.clear();
    }
    let references = match kept {
        Some(kept) => References::of(kept),
        None => {
            let references = References::open(inputs, arguments.decoding.fields.names()?)?;
            if arguments.decoding.skip_bad_records { references.only(locations) } else { references }
        }
    };
    let decoding = arguments.decoding.settings(&summarizer).into();
    Ok(Decoded { references, systems, decoding, ablation })
}

/// What was made of the records, reading so much of each in every pass.
#[derive(Default)]
struct Passes {
    systems: Vec<(String, Vec<Prediction>)>,
    ablation: Vec<AblationPoint>,
    /// The places of the records of the last pass, where bad ones are skipped.
    locations: HashSet<String>,
}

fn passes(
    arguments: &Arguments,
    group: &ProcessGroup,
    data: &Path,
    summarizer: &Summarizer,
    mut kept: Option<&mut Vec<epitome_eval::Reference>>,
) -> Result<Passes> {
    let mut passes = Passes::default();
    for (name, length) in arguments.runs() {
        let mut records = evaluable(arguments, data)?;
        let run = Run { arguments, summarizer, group, data, length };
        let (predictions, locations, point) = run.decode(&mut records, &name, kept.as_deref_mut())?;
        if passes.systems.is_empty() {
            records.list_skipped();
        }
        passes.systems.push((name, predictions));
        passes.ablation.push(point);
        passes.locations = locations;
    }
    Ok(passes)
}

/// Predictions on their way into a file, which has its name when all are there: until then what a run before left stays.
struct WholeOutput {
    lines: Output,
    /// What is to be replaced.
    path: Option<PathBuf>,
}

impl WholeOutput {
    /// # Errors
    /// When the file cannot be written, or is one of `inputs`.
    fn create<'p>(path: &Path, inputs: impl Iterator<Item = &'p Path> + Clone) -> Result<Self> {
        check_paths("--output", Some(path), inputs.clone())?;
        if path.exists() && !path.is_file() {
            // A device has nothing to keep, and a directory is an error.
            return Ok(Self { lines: Output::create(Some(path))?, path: None });
        }
        // A link stays one.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let unfinished = epitome_files::unfinished(&path);
        check_paths("--output", Some(&unfinished), inputs)?;
        Ok(Self { lines: Output::create(Some(&unfinished))?, path: Some(path) })
    }

    fn finish(mut self) -> Result<()> {
        self.lines.begin()?;
        let Some(path) = self.path else { return Ok(()) };
        epitome_files::finish_file(&path).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// One pass over the records.
struct Run<'a> {
    arguments: &'a Arguments,
    summarizer: &'a Summarizer,
    group: &'a ProcessGroup,
    data: &'a Path,
    length: Option<Length>,
}

impl Run<'_> {
    /// The predictions, the places of their records, and what they took; records that cannot be read again go to `kept`.
    fn decode(
        &self,
        records: &mut Records,
        name: &str,
        mut kept: Option<&mut Vec<epitome_eval::Reference>>,
    ) -> Result<(Vec<Prediction>, HashSet<String>, AblationPoint)> {
        let Self { arguments, group, .. } = self;
        let path = arguments.output.as_ref().map(|directory| directory.join(self.file_name()));
        let mut output = path.map(|path| WholeOutput::create(&path, records.files())).transpose()?;
        let bar = progress::bar(progress::count_records(self.data, arguments.decoding.fields.names()?), "records");
        let mut decoding = arguments.decoding.decoding(self.summarizer, group, bar);
        if let Some(length) = self.length {
            decoding = decoding.reading_at_most(length.tokens());
        }
        let (mut predictions, mut locations, mut document_tokens) = (Vec::new(), HashSet::new(), 0);
        let started = Instant::now();
        let outcome = decoding.pass(records, &mut |record, summary| {
            if let Some(output) = &mut output {
                output.lines.record(&OutputRecord { id: &record.id, summary: &summary })?;
            }
            document_tokens += summary.document_tokens;
            let is_shown = predictions.len() < arguments.shown_records;
            let attribution = summary.best.attribution.as_ref().filter(|_| is_shown);
            let attribution = attribution.map(serde_json::to_value).transpose()?;
            if arguments.decoding.skip_bad_records {
                locations.insert(record.location.to_string());
            }
            let is_cut = Some(!summary.best.ended);
            let summary = summary.best.summary;
            predictions.push(Prediction { id: record.id.clone(), summary, is_cut, attribution });
            if let Some(kept) = &mut kept {
                kept.push(reference(record));
            }
            Ok(())
        });
        outcome?;
        output.map(WholeOutput::finish).transpose()?;
        let count = predictions.len().max(1) as f64;
        let point = AblationPoint {
            system: name.to_owned(),
            max_document_tokens: self.length.and_then(Length::tokens),
            mean_document_tokens: document_tokens as f64 / count,
            seconds_per_document: started.elapsed().as_secs_f64() / count,
        };
        Ok((predictions, locations, point))
    }

    fn file_name(&self) -> String {
        match self.length {
            Some(length) => format!("predictions-{}.jsonl", length.name()),
            None => "predictions.jsonl".to_owned(),
        }
    }
}

impl Arguments {
    /// The systems: the model, or the model with every length.
    fn runs(&self) -> Vec<(String, Option<Length>)> {
        let model = self.decoding.model.name();
        if self.ablate_length.is_empty() {
            return vec![(model, None)];
        }
        self.ablate_length.iter().map(|&length| (format!("{model} {}", length.name()), Some(length))).collect()
    }

    /// What the systems are called.
    pub(super) fn system_names(&self) -> Vec<String> {
        self.runs().into_iter().map(|(name, _)| name).collect()
    }

    /// Refuses to write a report over something that is read.
    pub(super) fn check_outputs(&self, inputs: &[PathBuf]) -> Result<()> {
        check_paths("--append-results", self.append_results.as_deref(), inputs.iter().map(PathBuf::as_path))?;
        let Some(directory) = &self.output else { return Ok(()) };
        super::REPORTS.iter().try_for_each(|name| {
            check_paths("--output", Some(&directory.join(name)), inputs.iter().map(PathBuf::as_path))
        })
    }
}

/// The records of `--data`, of which each must have a reference and an id of its own.
fn evaluable(arguments: &Arguments, data: &Path) -> Result<Records> {
    let mut seen: HashMap<String, Location> = HashMap::new();
    let records = Records::open(data, arguments.decoding.fields.names()?, arguments.decoding.skip_bad_records)?;
    let needs_documents = arguments.needs_documents();
    Ok(records.checked_by(move |record| {
        let Record { id, location, .. } = record;
        let bad = |what: &str| Err(BadRecord(format!("{location}: record `{id}` {what}")).into());
        if needs_documents && !record.has_documents() {
            return bad(NO_DOCUMENT);
        }
        if record.targets().is_empty() {
            return bad("has no `summary` or `references` to evaluate against");
        }
        match seen.insert(id.clone(), location.clone()) {
            Some(first) => bail!("{location}: a second record has the id `{id}`; the first is at {first}"),
            None => Ok(()),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::Length;

    #[test]
    fn lengths() {
        assert_eq!(Length::parse("full"), Ok(Length::Full));
        assert_eq!(Length::parse("1024"), Ok(Length::AtMost(1024)));
        assert!(Length::parse("1").is_err() && Length::parse("all").is_err());
    }
}
