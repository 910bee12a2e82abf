//! What is asked of the examples of a split: it follows from the objectives and the model.

use epitome_data::{Example, ExampleStore, Record, Statistics, Targets, Tokenizer, read_examples};
use epitome_model::Config;

use crate::{Batch, DataConfig, Error, Result, RunConfig};

/// What records are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    Training,
    Validation,
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Training => "training",
            Self::Validation => "validation",
        })
    }
}

/// What is asked of the examples of a split.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demands {
    pub(crate) targets: Targets,
    /// Whether the objectives decide what an example teaches; otherwise it is the summary.
    pub(crate) draws: bool,
    need_text: bool,
}

impl Demands {
    pub(crate) fn of(split: Split, data: &DataConfig) -> Self {
        let objectives = &data.objectives;
        let targets = match (objectives.is_supervised(), objectives.is_self_supervised()) {
            (false, _) => Targets::Ignored,
            // Plain text may stand among the training records, but summaries are what is validated.
            (true, true) if split == Split::Training => Targets::IfPresent,
            (true, _) => Targets::Required,
        };
        // Summaries are what counts; a run without them validates on what it would draw in its first epoch.
        let draws = split == Split::Training || objectives.summarize == 0.0;
        Self { targets, draws, need_text: draws && data.objective_options().need_text() }
    }

    fn verify(self, example: &Example, model: &Config) -> Result<()> {
        if self.need_text && example.leading_tokens == 0 {
            let (place, id) = (&example.location, &example.id);
            return Err(Error::Dataset(format!(
                "{place}: record {id}: the objectives `extract`, `denoise` and `gap_sentences`, and prompts, need text, not \
                 token ids"
            )));
        }
        Batch::check_source(example, model)?;
        if self.targets == Targets::Required || !example.labels.is_empty() {
            Batch::check_labels(example, model)?;
        }
        Ok(())
    }
}

/// Refuses a record that the validation of a run of `model` refuses, so that whatever else is measured is of the same records.
///
/// # Errors
/// As the run.
pub fn check_validation_record(
    record: &Record,
    config: &RunConfig,
    (tokenizer, model): (Option<&Tokenizer>, &Config),
) -> Result<()> {
    let demands = Demands::of(Split::Validation, &config.data);
    let made = read_examples([Ok(record.clone())], tokenizer, config.data.limits(), demands.targets)?;
    made.examples.iter().try_for_each(|example| demands.verify(example, model))
}

/// Checks every example against the model and the objectives: by what is known of all of them, and one by one only to find
/// those that are wrong. The first of them is an error, unless they are skipped. Says why each record is skipped, also those
/// that became no example.
pub(crate) fn check(
    examples: &mut ExampleStore,
    model: &Config,
    demands: Demands,
    skip_bad_records: bool,
) -> Result<Vec<String>> {
    let Statistics { from_ids, unlabelled, ignored, largest_id, largest_label, .. } = *examples.statistics();
    let mut skipped = examples.statistics().skipped.clone();
    let vocabulary = model.vocab_size;
    let fits = (largest_id as usize) < vocabulary && largest_label < vocabulary as i64;
    let labelled = ignored == 0 && (unlabelled == 0 || demands.targets != Targets::Required);
    if fits && labelled && !(demands.need_text && from_ids > 0) {
        return Ok(skipped);
    }
    if !skip_bad_records {
        examples.iter().try_for_each(|example| demands.verify(&example?, model))?;
        return Ok(skipped);
    }
    examples.retain(|example| {
        let problem = demands.verify(example, model).err();
        skipped.extend(problem.iter().map(Error::to_string));
        problem.is_none()
    })?;
    Ok(skipped)
}
