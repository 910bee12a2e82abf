//! Summaries of the validation records, written and scored while a model trains.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use epitome_data::{Content, Record, RecordReader, Source, Tokenizer};
use epitome_decode::{GenerationConfig, GenerationOptions, Summarizer};
use epitome_distributed::ProcessGroup;
use epitome_eval::{Options, Prediction, Reference};
use epitome_model::Config;
use epitome_train::{Event, RunConfig, Trainable, check_validation_record};

use crate::decoding::batches;
use crate::failure::warn;
use crate::prompt;
use crate::records::{BadRecord, is_bad_record, list_skipped};
use crate::shared;

/// What validations summarize, and how.
pub(crate) struct ValidationSummaries {
    /// Of the documents that are not empty.
    sources: Vec<Source>,
    /// In the order of the documents, with their numbers for ids.
    references: Vec<Reference>,
    /// Which documents are empty, and so are their summaries.
    empty: Vec<bool>,
    tokenizer: Tokenizer,
    model: Config,
    generation: GenerationConfig,
}

impl ValidationSummaries {
    /// Reads the validation records of a run; nothing for one that writes no summaries.
    ///
    /// # Errors
    /// Whatever would make scoring fail later: no tokenizer, a record without a text to score against, or generation settings
    /// that contradict each other.
    pub(crate) fn new(config: &RunConfig) -> Result<Option<Self>> {
        if !config.run.predict_with_generate {
            return Ok(None);
        }
        let Some(tokenizer) = config.model.load_tokenizer()? else {
            bail!(
                "run.predict_with_generate needs a tokenizer to turn tokens into text: name its directory in model.tokenizer"
            );
        };
        let generation = generation(config)?;
        let model = config.model.resolve()?;
        let (sources, references, empty) = (Vec::new(), Vec::new(), Vec::new());
        let mut summaries = Self { sources, references, empty, tokenizer, model, generation };
        let limits = [config.run.max_generated_records, config.data.max_validation_records];
        let most = limits.into_iter().flatten().min().unwrap_or(usize::MAX);
        let records = RecordReader::open_all(&config.data.validation)?.with_field_names(config.data.fields.clone());
        let mut skipped = Vec::new();
        for record in records.take(most) {
            let added = record.map_err(Into::into).and_then(|record| summaries.push(&record, config));
            match added {
                Err(error) if config.data.skip_bad_records && is_bad_record(&error) => skipped.push(error),
                added => added?,
            }
        }
        if summaries.references.is_empty() {
            let reason = skipped.first().map_or(String::new(), |first| format!(": {first}"));
            bail!("run.predict_with_generate has no validation record to summarize{reason}");
        }
        list_skipped(&skipped);
        Ok(Some(summaries))
    }

    fn push(&mut self, record: &Record, config: &RunConfig) -> Result<()> {
        let (id, references) = (self.references.len().to_string(), reference_texts(record, &self.tokenizer)?);
        self.check(record, config)?;
        if !record.is_empty() {
            let record = prompt::lead(record, &self.generation.prompt)?;
            self.sources.push(match self.generation.extractive {
                true => Source::with_passages(&record, Some(&self.tokenizer), config.data.max_source_length)?,
                false => Source::new(&record, Some(&self.tokenizer), config.data.max_source_length)?,
            });
        }
        self.references.push(Reference { id, references, documents: Vec::new() });
        self.empty.push(record.is_empty());
        Ok(())
    }

    /// Refuses what the data set of the run refuses, so that losses and scores are of the same records.
    fn check(&self, record: &Record, config: &RunConfig) -> Result<()> {
        match check_validation_record(record, config, (Some(&self.tokenizer), &self.model)) {
            Err(epitome_train::Error::Data(error)) => Err(error.into()),
            Err(refused) => Err(BadRecord(refused.to_string()).into()),
            Ok(()) => Ok(()),
        }
    }

    /// Means of the F1 of all records, by metric, with the model as it is now. Every process writes its part of the summaries
    /// and gets the scores of all.
    ///
    /// # Errors
    /// [`epitome_train::Error::Interrupted`], or when decoding fails.
    pub(crate) fn score(
        &self,
        trainable: &Trainable,
        (group, interrupted): (&ProcessGroup, &AtomicBool),
        on_event: &mut dyn FnMut(Event),
    ) -> epitome_train::Result<BTreeMap<String, f64>> {
        // The network of the summarizer shares the parameters' storage.
        let led = trainable.led().clone();
        let summarizer = Summarizer::new(led, Some(self.tokenizer.clone()), self.generation.clone());
        let own = shared::part(&self.sources, group, group.rank());
        let mut summaries = Vec::new();
        for batch in batches(own) {
            // Several processes must agree, and do so after the validation.
            if group.world_size() == 1 && interrupted.load(Ordering::Relaxed) {
                return Err(epitome_train::Error::Interrupted);
            }
            on_event(Event::Summarizing { done: summaries.len(), total: own.len() });
            let found = summarizer.summarize(batch, &mut |_| {}).map_err(|error| failed(error.into()))?;
            summaries.extend(found.into_iter().map(|summary| summary.best.summary));
        }
        shared::conclude(group, &summaries, |all| self.compare(all.into_iter().flatten())).map_err(failed)
    }

    /// The scores of the summaries of all documents that are not empty.
    fn compare(&self, mut summaries: impl Iterator<Item = String>) -> Result<BTreeMap<String, f64>> {
        let prediction = |(reference, &empty): (&Reference, &bool)| Prediction {
            id: reference.id.clone(),
            summary: if empty { String::new() } else { summaries.next().unwrap_or_default() },
            ..Prediction::default()
        };
        let predictions: Vec<Prediction> = self.references.iter().zip(&self.empty).map(prediction).collect();
        let options = Options { bootstrap: 0, baselines: Vec::new(), shown_records: 0, ..Options::default() };
        let report = epitome_eval::evaluate(&predictions, &self.references, &options)?;
        Ok(report.scores.0.iter().map(|(metric, scores)| (metric.to_string(), scores.f1.mean)).collect())
    }
}

fn failed(error: anyhow::Error) -> epitome_train::Error {
    epitome_train::Error::Summaries(error.into())
}

/// The references of a record, or its summary, or its labels as text.
fn reference_texts(record: &Record, tokenizer: &Tokenizer) -> Result<Vec<String>> {
    let targets = record.targets();
    if !targets.is_empty() {
        return Ok(targets.to_vec());
    }
    let Record { id, location, .. } = record;
    let Content::Tokens { labels: Some(labels), .. } = &record.content else {
        let message = format!(
            "{location}: record `{id}` has no `summary` or `references`, which run.predict_with_generate scores against"
        );
        return Err(BadRecord(message).into());
    };
    let tokens: Vec<u32> = labels.iter().filter_map(|&label| u32::try_from(label).ok()).collect();
    let text = tokenizer.decode(&tokens).with_context(|| format!("{location}: record `{id}`: its labels"))?;
    Ok(vec![text.trim().to_owned()])
}

/// Says where a fine-tuned model would search otherwise than it is trained to write.
///
/// # Errors
/// As [`GenerationOptions::read`].
pub(crate) fn warn_of_inherited_extracts(config: &RunConfig) -> Result<()> {
    let inherited = inherited(config)?.filter(|options| options.extractive == Some(true));
    if let Some(GenerationOptions { origin, .. }) = inherited.filter(|_| config.data.objectives.extract == 0.0) {
        warn(format_args!(
            "{origin} asks for extracts and is copied beside the trained model, which is not trained on `extract`: take \
             `extractive` out of the copy, and `prompt` and `min_new_tokens` if they are not wanted, or decode with \
             --extractive=false"
        ));
    }
    Ok(())
}

/// The generation settings of the model that is fine-tuned, which the trained one gets too.
fn inherited(config: &RunConfig) -> Result<Option<GenerationOptions>> {
    Ok(config.model.generation_config().map(|path| GenerationOptions::read(&path)).transpose()?)
}

/// The settings of the run, then those of the model that is fine-tuned.
fn generation(config: &RunConfig) -> Result<GenerationConfig> {
    let options = GenerationOptions {
        origin: "the generation_ keys of the [run] table".into(),
        num_beams: config.run.generation_num_beams,
        max_new_tokens: config.run.generation_max_new_tokens,
        num_return_sequences: Some(1),
        ..GenerationOptions::default()
    };
    let saved = inherited(config)?;
    let model = config.model.resolve()?;
    let (generation, warnings) =
        GenerationConfig::for_model(&options, saved.as_ref(), &model, Path::new("the [model] table"))?;
    warnings.iter().for_each(warn);
    Ok(generation)
}
