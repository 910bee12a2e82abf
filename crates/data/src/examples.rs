//! [`Example`]: tokenized training pairs, made in parallel from a stream of records.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Location, Result};
use crate::record::{Content, Record};
use crate::source::{Source, Target};
use crate::tokenizer::Tokenizer;

/// Records held as text at a time while a stream is tokenized.
const CHUNK_RECORDS: usize = 256;
/// A label that the loss ignores.
const IGNORED: i64 = -100;

/// One training pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The id of the record.
    pub id: String,
    /// Where the record came from, for messages about this example.
    pub location: Location,
    /// What the encoder reads.
    pub input_ids: Vec<u32>,
    /// Tokens before the documents, as in [`Source`]: 0 where the record gave ids.
    pub leading_tokens: usize,
    /// The positions that attend globally, ascending.
    pub global_positions: Vec<usize>,
    /// What the decoder should write; -100 marks positions that the loss ignores.
    pub labels: Vec<i64>,
    /// For each label the tokens that it is chosen from, ascending; nothing, or none for a label, is the whole vocabulary.
    pub choices: Vec<Vec<u32>>,
    /// How much the loss of each label counts; nothing is 1 for each.
    pub weights: Vec<f32>,
}

/// Limits in tokens, special tokens included; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// For sources.
    pub max_source_length: Option<usize>,
    /// For targets.
    pub max_target_length: Option<usize>,
}

/// Whether every record must have a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Targets {
    /// A record without one is an error.
    #[default]
    Required,
    /// A record without one gets no labels: it is there for its document alone.
    IfPresent,
    /// No record gets labels.
    Ignored,
}

/// What there is to know of examples as a whole: what the limits took, how many teach little, and the extremes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// How many there are.
    pub examples: usize,
    /// Examples whose source was cut.
    pub truncated_sources: usize,
    /// Examples whose target was cut.
    pub truncated_targets: usize,
    /// Tokens cut from all sources and targets together.
    pub truncated_tokens: usize,
    /// Examples with nothing to summarize: no document, or only white space in all of them.
    pub empty_sources: usize,
    /// Examples whose summary is empty or only white space, so that they teach the model to write nothing.
    pub empty_targets: usize,
    /// Examples whose record gave ids, not text.
    pub from_ids: usize,
    /// Examples without any labels.
    pub unlabelled: usize,
    /// Examples with labels, none of which counts.
    pub ignored: usize,
    /// Tokens of the longest source.
    pub longest_source: usize,
    /// Tokens of the longest target.
    pub longest_target: usize,
    /// The largest id of all sources.
    pub largest_id: u32,
    /// The largest label.
    pub largest_label: i64,
    /// Why bad records were left out, in order, where that was asked for.
    pub skipped: Vec<String>,
}

/// Examples in memory. Of a large set, an [`ExampleStore`](crate::ExampleStore) holds them in a file instead.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examples {
    /// In the order of the records.
    pub examples: Vec<Example>,
    /// All of them together.
    pub statistics: Statistics,
}

/// Tokenizes records in parallel, in order; only a few hundred are held as text at a time.
///
/// A tokenizer is needed only if some record is text.
///
/// # Errors
/// The first error of the stream, a record without a target, text without a tokenizer, or a limit below 2.
pub fn read_examples(
    records: impl IntoIterator<Item = Result<Record>>,
    tokenizer: Option<&Tokenizer>,
    limits: Limits,
    targets: Targets,
) -> Result<Examples> {
    let mut examples = Vec::new();
    let making = Making { tokenizer, limits, targets, skip_bad_records: false };
    let statistics = making.stream(records, |example| {
        examples.push(example);
        Ok(())
    })?;
    Ok(Examples { examples, statistics })
}

/// How records become examples.
pub(crate) struct Making<'a> {
    /// Needed where records are text.
    pub(crate) tokenizer: Option<&'a Tokenizer>,
    pub(crate) limits: Limits,
    pub(crate) targets: Targets,
    /// Whether bad records are left out and listed; otherwise the first is an error.
    pub(crate) skip_bad_records: bool,
}

impl Making<'_> {
    /// As [`read_examples`], handing out the examples one after the other.
    ///
    /// # Errors
    /// Also the first error of `emit`.
    pub(crate) fn stream(
        &self,
        records: impl IntoIterator<Item = Result<Record>>,
        mut emit: impl FnMut(Example) -> Result<()>,
    ) -> Result<Statistics> {
        let mut statistics = Statistics::default();
        let mut records = records.into_iter();
        loop {
            let chunk: Vec<Result<Record>> = records.by_ref().take(CHUNK_RECORDS).collect();
            if chunk.is_empty() {
                return Ok(statistics);
            }
            // Collected with their errors: rayon's collecting into one result gives any of them, not the first.
            let made: Vec<Result<(Record, Source, Target)>> =
                chunk.into_par_iter().map(|record| self.tokenize(record?)).collect();
            for made in made {
                let (record, source, target) = match made {
                    Err(error) if self.skip_bad_records && error.is_bad_record() => {
                        statistics.skipped.push(error.to_string());
                        continue;
                    }
                    made => made?,
                };
                statistics.add(&record, &source, &target);
                emit(Example::new(record, source, target))?;
            }
        }
    }

    fn tokenize(&self, record: Record) -> Result<(Record, Source, Target)> {
        let source = Source::new(&record, self.tokenizer, self.limits.max_source_length)?;
        let target = match self.targets {
            Targets::Ignored => Target::default(),
            _ => match Target::new(&record, self.tokenizer, self.limits.max_target_length) {
                Err(Error::NoTarget { .. }) if self.targets == Targets::IfPresent => Target::default(),
                target => target?,
            },
        };
        Ok((record, source, target))
    }
}

impl Example {
    /// What there is of a record before any objective.
    fn new(Record { id, location, .. }: Record, source: Source, target: Target) -> Self {
        let Source { input_ids, leading_tokens, global_positions, .. } = source;
        let (choices, weights) = (Vec::new(), Vec::new());
        Self { id, location, input_ids, leading_tokens, global_positions, labels: target.labels, choices, weights }
    }
}

impl Statistics {
    fn add(&mut self, record: &Record, source: &Source, target: &Target) {
        self.examples += 1;
        self.truncated_sources += usize::from(source.truncated_tokens > 0);
        self.truncated_targets += usize::from(target.truncated_tokens > 0);
        self.truncated_tokens += source.truncated_tokens + target.truncated_tokens;
        self.empty_sources += usize::from(record.is_empty());
        self.empty_targets += usize::from(has_blank_summary(record));
        self.from_ids += usize::from(record.is_tokenized());
        let counts = target.labels.iter().any(|&label| label != IGNORED);
        self.unlabelled += usize::from(target.labels.is_empty());
        self.ignored += usize::from(!counts && !target.labels.is_empty());
        self.longest_source = self.longest_source.max(source.input_ids.len());
        self.longest_target = self.longest_target.max(target.labels.len());
        self.largest_id = source.input_ids.iter().copied().fold(self.largest_id, u32::max);
        self.largest_label = target.labels.iter().copied().fold(self.largest_label, i64::max);
    }
}

/// Only text is judged: the summary that a tokenized record may carry is not its target.
fn has_blank_summary(record: &Record) -> bool {
    let is_text = matches!(record.content, Content::Text { .. });
    is_text && record.summary.as_ref().is_some_and(|summary| summary.trim().is_empty())
}
