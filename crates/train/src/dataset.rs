//! Tokenized records and the order in which training visits them.

use std::borrow::Cow;

use epitome_data::{BatchPlan, Example, Examples, Limits, Objectives, RecordReader, Targets, Tokenizer, read_examples};
use epitome_model::Config;

use crate::config::RunOptions;
use crate::{Batch, Error, Result, RunConfig};

/// Examples of one split, checked, with the plan of their batches.
pub(crate) struct Dataset {
    examples: Vec<Example>,
    notices: Vec<String>,
    objectives: Objectives,
    plan: BatchPlan,
    gradient_accumulation_steps: usize,
    /// The batches of the epoch asked for last.
    epoch: Option<(usize, Vec<Vec<usize>>)>,
}

/// Reads and tokenizes the training and validation splits.
pub(crate) fn load(config: &RunConfig, tokenizer: Option<&Tokenizer>, model: &Config) -> Result<(Dataset, Dataset)> {
    let data = &config.data;
    let seed = config.run.seed;
    let objectives = Objectives::new(data.objectives, (data.denoise, data.gap_sentences), tokenizer, seed)?;
    let read = |split, paths, most| read(split, paths, most, (config, tokenizer, model), &objectives);
    let training = read("training", &data.train, data.max_train_records)?;
    if training.examples.is_empty() {
        return Err(Error::Dataset(format!("{} hold no records", data.train.join(", "))));
    }
    let mut validation = read("validation", &data.validation, data.max_validation_records)?;
    if validation.examples.is_empty() && !data.validation.is_empty() {
        return Err(Error::Dataset(format!("{} hold no records", data.validation.join(", "))));
    }
    // Summaries are what counts; a run without them validates on what it would draw in its first epoch.
    if data.objectives.summarize == 0.0 {
        let drawn = (0..validation.examples.len()).map(|index| validation.draw(index, 0).into_owned()).collect();
        validation.examples = drawn;
    }
    Ok((training, validation))
}

fn read(
    split: &str,
    paths: &[String],
    most: Option<usize>,
    (config, tokenizer, model): (&RunConfig, Option<&Tokenizer>, &Config),
    objectives: &Objectives,
) -> Result<Dataset> {
    let limits =
        Limits { max_source_length: config.data.max_source_length, max_target_length: config.data.max_target_length };
    let summarizes = config.data.objectives.summarize > 0.0;
    let targets = match (summarizes, config.data.objectives.is_self_supervised()) {
        (false, _) => Targets::Ignored,
        // Plain text may stand among the training records, but summaries are what is validated.
        (true, true) if split == "training" => Targets::IfPresent,
        (true, _) => Targets::Required,
    };
    let read = if paths.is_empty() {
        Examples::default()
    } else {
        let records = RecordReader::open_all(paths)?.take(most.unwrap_or(usize::MAX));
        read_examples(records, tokenizer, limits, targets)?
    };
    let self_supervised = config.data.objectives.is_self_supervised();
    for example in &read.examples {
        if self_supervised && example.leading_tokens == 0 {
            let (place, id) = (&example.location, &example.id);
            return Err(Error::Dataset(format!(
                "{place}: record {id}: the objectives `denoise` and `gap_sentences` need text, not token ids"
            )));
        }
        Batch::check_source(example, model)?;
        if targets == Targets::Required || !example.labels.is_empty() {
            Batch::check_labels(example, model)?;
        }
    }
    Ok(Dataset {
        notices: notices(split, &read, objectives.longest_target(), model),
        examples: read.examples,
        objectives: objectives.clone(),
        plan: BatchPlan::new(config.run.batch_size, config.data.shuffle, config.run.seed),
        gradient_accumulation_steps: config.run.gradient_accumulation_steps,
        epoch: None,
    })
}

/// What the user should know of a split: nothing is cut or stretched without being said.
fn notices(split: &str, read: &Examples, longest_drawn: usize, model: &Config) -> Vec<String> {
    let mut notices = Vec::new();
    if read.truncated_tokens > 0 {
        notices.push(format!(
            "{split}: the length limits cut {} sources and {} targets of {} records, {} tokens in all",
            read.truncated_sources,
            read.truncated_targets,
            read.examples.len(),
            read.truncated_tokens
        ));
    }
    for (what, count) in [("documents", read.empty_sources), ("summaries", read.empty_targets)] {
        if count > 0 {
            notices.push(format!("{split}: {count} of {} records have empty {what}", read.examples.len()));
        }
    }
    for (what, table, longest) in [
        (
            "sources",
            model.max_encoder_position_embeddings,
            read.examples.iter().map(|example| example.input_ids.len()).max(),
        ),
        (
            "targets",
            model.max_decoder_position_embeddings,
            read.examples.iter().map(|example| example.labels.len()).chain([longest_drawn]).max(),
        ),
    ] {
        if longest.is_some_and(|longest| longest > table) {
            let longest = longest.unwrap_or_default();
            notices.push(format!("{split}: {what} of up to {longest} tokens tile a position table of {table} rows"));
        }
    }
    notices
}

impl Dataset {
    pub(crate) fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// How many tokens the sources and the targets of all examples have.
    pub(crate) fn lengths(&self) -> (Vec<usize>, Vec<usize>) {
        self.examples.iter().map(|example| (example.input_ids.len(), example.labels.len())).unzip()
    }

    pub(crate) fn notices(&self) -> impl Iterator<Item = &str> {
        self.notices.iter().map(String::as_str)
    }

    /// What the example at `index` teaches in `epoch`.
    pub(crate) fn draw(&self, index: usize, epoch: usize) -> Cow<'_, Example> {
        self.objectives.draw(&self.examples[index], index, epoch as u64)
    }

    /// Updates in one pass over the examples.
    pub(crate) fn steps_per_epoch(&self) -> usize {
        self.plan.steps_per_epoch(self.examples.len()).div_ceil(self.gradient_accumulation_steps)
    }

    /// Updates of the whole run.
    pub(crate) fn total_steps(&self, run: &RunOptions) -> usize {
        let passes = || (run.num_train_epochs * self.steps_per_epoch() as f64).ceil() as usize;
        run.max_steps.unwrap_or_else(passes)
    }

    /// The micro-batches of update `step`, counted from 0 over all epochs, as indices into the examples.
    pub(crate) fn step(&mut self, step: usize) -> Vec<Vec<usize>> {
        let (epoch, within) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        if self.epoch.as_ref().is_none_or(|(cached, _)| *cached != epoch) {
            let lengths: Vec<usize> = self.examples.iter().map(|example| example.input_ids.len()).collect();
            self.epoch = Some((epoch, self.plan.epoch(&lengths, epoch as u64)));
        }
        let (_, batches) = self.epoch.as_ref().expect("the epoch was just planned");
        let size = self.gradient_accumulation_steps;
        batches.chunks(size).nth(within).expect("the step lies in its epoch").to_vec()
    }
}
