//! Tokenized records and the order in which training visits them.

use std::cmp::Reverse;
use std::ops::Range;

use epitome_data::{
    BatchPlan, BatchSize, Cached, Example, ExampleSource, ExampleStore, Objectives, RecordReader, TokenCache, Tokenizer,
};
use epitome_model::Config;
use epitome_sentences::counted;

use crate::checkpoint::TrainingData;
use crate::config::RunOptions;
use crate::demands::{Demands, Split, check};
use crate::steps::{Place, Steps};
use crate::{Error, Result, RunConfig};

/// How many updates are looked at for the largest one.
const MOST_UPDATES: usize = 1_000_000;

/// Examples of one split, checked, with the order of their batches.
pub(crate) struct Dataset {
    examples: ExampleStore,
    /// How many records there are, and where their tokens are from.
    origin: String,
    notices: Vec<String>,
    objectives: Objectives,
    /// As [`Demands::draws`].
    draws: bool,
    steps: Steps,
}

/// Reads and tokenizes the training and validation splits, or finds them tokenized; the latter only where there are any
/// files of it.
pub(crate) fn load(
    config: &RunConfig,
    tokenizer: Option<&Tokenizer>,
    model: &Config,
) -> Result<(Dataset, Option<Dataset>)> {
    let data = &config.data;
    let seed = config.run.seed;
    let files = RecordReader::open_all(&data.train)?;
    // What is wrong with a file is said before hours of tokenizing others.
    files.check()?;
    RecordReader::open_all(&data.validation)?.check()?;
    if let Some(key) = data.prompts.unused_file(files.files()) {
        return Err(Error::config("data.prompts.files", format!("`{key}` is part of no training file's path")));
    }
    let objectives = Objectives::new(data.objective_options(), tokenizer, seed)?;
    let read = |split, paths, most| read(split, (paths, most), (config, tokenizer, model), &objectives);
    let training = read(Split::Training, &data.train, data.max_train_records)?;
    if data.validation.is_empty() {
        return Ok((training, None));
    }
    Ok((training, Some(read(Split::Validation, &data.validation, data.max_validation_records)?)))
}

fn read(
    split: Split,
    (paths, max_records): (&[String], Option<usize>),
    (config, tokenizer, model): (&RunConfig, Option<&Tokenizer>, &Config),
    objectives: &Objectives,
) -> Result<Dataset> {
    let data = &config.data;
    let demands = Demands::of(split, data);
    let Demands { targets, draws, .. } = demands;
    let (fields, limits, skip_bad_records) = (&data.fields, data.limits(), data.skip_bad_records);
    let source = ExampleSource { paths, fields, max_records, tokenizer, limits, targets, skip_bad_records };
    let Cached { mut examples, origin, warnings } = TokenCache::new(data.cache_dir.as_deref()).examples(&source)?;
    let skipped = check(&mut examples, model, demands, skip_bad_records)?;
    let mut notices: Vec<String> = warnings.iter().map(|warning| format!("{split}: {warning}")).collect();
    notices.extend(list_skipped(split, &skipped));
    if examples.is_empty() {
        let bad = skipped
            .first()
            .map_or(String::new(), |first| format!(" but {}: {first}", counted(skipped.len(), "bad one")));
        return Err(Error::Dataset(format!("{} hold no records{bad}", paths.join(", "))));
    }
    notices.extend(what_to_know(split, &examples, objectives.longest_target(), model));
    let size = config.run.batch_tokens.map_or(BatchSize::Examples(config.run.batch_size), BatchSize::Tokens);
    let shuffle = data.shuffle && split == Split::Training;
    let plan = BatchPlan { size, shuffle, seed: config.run.seed };
    let batches_per_step = if split == Split::Training { config.run.gradient_accumulation_steps } else { 1 };
    let steps = Steps::new(plan, batches_per_step, examples.len(), tokens(&examples, objectives));
    let origin = format!("{split}: {}, {origin}", counted(examples.len(), "record"));
    Ok(Dataset { examples, origin, notices, objectives: objectives.clone(), draws, steps })
}

fn list_skipped(split: Split, skipped: &[String]) -> Option<String> {
    let lines = skipped.iter().map(|reason| format!("\n  {reason}"));
    (!skipped.is_empty())
        .then(|| format!("{split}: skipped {}{}", counted(skipped.len(), "bad record"), String::from_iter(lines)))
}

/// What the user should know of a split: nothing is cut or stretched without being said.
fn what_to_know(split: Split, examples: &ExampleStore, longest_drawn: usize, model: &Config) -> Vec<String> {
    let known = examples.statistics();
    let records = counted(known.examples, "record");
    let mut notices = Vec::new();
    if known.truncated_tokens > 0 {
        notices.push(format!(
            "{split}: the length limits cut {} and {} of {records}, {} in all",
            counted(known.truncated_sources, "source"),
            counted(known.truncated_targets, "target"),
            counted(known.truncated_tokens, "token")
        ));
    }
    for (what, count) in [("document", known.empty_sources), ("target", known.empty_targets)] {
        if count > 0 {
            notices.push(format!("{split}: {} of {records}", counted(count, &format!("empty {what}"))));
        }
    }
    for (what, table, longest) in [
        ("sources", model.max_encoder_position_embeddings, known.longest_source),
        ("targets", model.max_decoder_position_embeddings, known.longest_target.max(longest_drawn)),
    ] {
        if longest > table {
            notices.push(format!("{split}: {what} of up to {longest} tokens tile a position table of {table} rows"));
        }
    }
    notices
}

impl Dataset {
    /// How many examples there are.
    pub(crate) fn len(&self) -> usize {
        self.examples.len()
    }

    /// By what the examples are known again.
    pub(crate) fn identity(&self) -> TrainingData {
        TrainingData { records: self.len(), fingerprint: self.examples.fingerprint() }
    }

    /// How many tokens the sources and the targets of all examples have.
    pub(crate) fn lengths(&self) -> (Vec<usize>, Vec<usize>) {
        let lengths = |index| (self.examples.source_length(index), self.examples.target_length(index));
        (0..self.len()).map(lengths).unzip()
    }

    /// How many records there are, and where their tokens are from.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn notices(&self) -> impl Iterator<Item = &str> {
        self.notices.iter().map(String::as_str)
    }

    /// Updates of the whole run.
    pub(crate) fn total_steps(&self, run: &RunOptions) -> usize {
        let tokens = tokens(&self.examples, &self.objectives);
        run.max_steps.unwrap_or_else(|| self.steps.total(run.num_train_epochs, tokens))
    }

    /// The place of update `step`, counted from 0 over all epochs.
    pub(crate) fn place(&mut self, step: usize) -> Place {
        self.steps.seek(step, tokens(&self.examples, &self.objectives))
    }

    /// The micro-batches of update `step`, with what each example teaches in that epoch.
    pub(crate) fn micro_batches(&mut self, step: usize) -> Result<Vec<Vec<Example>>> {
        let Place { epoch, within, .. } = self.place(step);
        self.steps.batches(within).map(|batch| self.get(batch, epoch)).collect()
    }

    /// The most source and target tokens that any update of `steps` has in its `side_by_side` largest micro-batches, of all
    /// updates those than which none has more of both. After the first million hardly a larger one comes, and nobody waits longer.
    pub(crate) fn largest_updates(&mut self, steps: Range<usize>, side_by_side: usize) -> Vec<(usize, usize)> {
        let mut largest: Vec<(usize, usize)> = Vec::new();
        for step in steps.take(MOST_UPDATES) {
            let within = self.place(step).within;
            let mut batches: Vec<_> = self.steps.batches(within).map(|batch| self.most_tokens(batch)).collect();
            batches.sort_unstable_by_key(|(source, target)| Reverse(source + target));
            batches.truncate(side_by_side);
            let (source, target) = batches.iter().fold((0, 0), |sum, batch| (sum.0 + batch.0, sum.1 + batch.1));
            if !largest.iter().any(|other| other.0 >= source && other.1 >= target) {
                largest.retain(|other| other.0 > source || other.1 > target);
                largest.push((source, target));
            }
        }
        largest
    }

    /// No update has more source or more target tokens than this in `side_by_side` micro-batches of `batch_size` examples.
    pub(crate) fn bound(&self, batch_size: usize, side_by_side: usize) -> (usize, usize) {
        let (sources, targets) = (0..self.len()).map(|index| self.most_tokens_of(index)).unzip();
        let longest = |mut lengths: Vec<usize>| {
            lengths.sort_unstable_by_key(|&length| Reverse(length));
            lengths.into_iter().take(batch_size.saturating_mul(side_by_side)).sum()
        };
        (longest(sources), longest(targets))
    }

    /// The same where batches hold as many examples as have no more than `most` tokens, and one with more is a batch alone.
    pub(crate) fn bound_of_budget(&self, most: usize, side_by_side: usize) -> (usize, usize) {
        let longest = (0..self.len()).map(tokens(&self.examples, &self.objectives)).max().unwrap_or(0);
        let (all_sources, all_targets) = self.bound(self.len(), 1);
        let bound = most.max(longest).saturating_mul(side_by_side);
        (bound.min(all_sources), bound.min(all_targets))
    }

    /// The most source and target tokens that a batch may have.
    fn most_tokens(&self, batch: &[u32]) -> (usize, usize) {
        let lengths = batch.iter().map(|&index| self.most_tokens_of(index as usize));
        lengths.fold((0, 0), |sum, (source, target)| (sum.0 + source, sum.1 + target))
    }

    fn most_tokens_of(&self, index: usize) -> (usize, usize) {
        let (source, target) = (self.examples.source_length(index), self.examples.target_length(index));
        if !self.draws {
            return (source, target);
        }
        (self.objectives.most_source_tokens(source, target), self.objectives.most_target_tokens(source, target))
    }

    /// How many batches the epoch of the last update has; at first, the first epoch.
    pub(crate) fn batch_count(&self) -> usize {
        self.steps.epoch().len()
    }

    /// A batch of that epoch of a dataset that is not drawn anew in each.
    pub(crate) fn batch(&self, number: usize) -> Result<Vec<Example>> {
        self.get(self.steps.epoch().batch(number), 0)
    }

    fn get(&self, indices: &[u32], epoch: usize) -> Result<Vec<Example>> {
        let example = |&index: &u32| {
            let index = index as usize;
            let example = self.examples.get(index)?;
            Ok(if self.draws { self.objectives.draw(example, index, epoch as u64) } else { example })
        };
        indices.iter().map(example).collect()
    }
}

/// The most tokens that each example may have.
fn tokens(examples: &ExampleStore, objectives: &Objectives) -> impl Fn(usize) -> usize {
    move |index| objectives.most_tokens(examples.source_length(index), examples.target_length(index))
}
