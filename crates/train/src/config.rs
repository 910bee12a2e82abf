//! The TOML file of a training run. Precedence: defaults, then the file, then `--set key=value`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use epitome_data::{Denoising, Extraction, FieldNames, GapSentences, Mixture, ObjectiveOptions, Prompts};
use epitome_model::{Config, PositionEmbeddings};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::{Error, Metric, OptimConfig, Result};

/// A whole run, one field per TOML table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// What to start from.
    pub model: ModelConfig,
    /// What to train on.
    pub data: DataConfig,
    /// The optimizer and its schedule.
    #[serde(default)]
    pub optim: OptimConfig,
    /// Batches, steps, output.
    #[serde(default)]
    pub run: RunOptions,
}

/// A model directory, or the fields of a fresh model. With `path`, fields given here override its `config.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// A model directory to fine-tune.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The directory of the tokenizer; by default `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// What the position tables of a fresh model hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_embeddings: Option<PositionEmbeddings>,
    /// `LEDConfig` fields.
    #[serde(flatten)]
    pub fields: BTreeMap<String, Value>,
}

/// The dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Files of training records; `*` and `?` are expanded.
    #[serde(deserialize_with = "one_or_many")]
    pub train: Vec<String>,
    /// Files of validation records.
    #[serde(default, deserialize_with = "one_or_many")]
    pub validation: Vec<String>,
    /// What the fields of a record are called in these files, such as `{ document = "article" }`.
    #[serde(default, skip_serializing_if = "FieldNames::is_empty")]
    pub fields: FieldNames,
    /// Count and list bad records instead of stopping at the first.
    #[serde(default)]
    pub skip_bad_records: bool,
    /// Where tokens are kept from run to run; by default `$EPITOME_CACHE`, else `epitome/tokens` under the user's caches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_dir: Option<PathBuf>,
    /// Longest source in tokens; unset means whole documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_source_length: Option<usize>,
    /// Longest target in tokens; unset means whole summaries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_target_length: Option<usize>,
    /// What the training examples teach: weights of `summarize`, `extract`, `denoise` and `gap_sentences`.
    #[serde(default = "Mixture::summaries")]
    pub objectives: Mixture,
    /// How `denoise` damages passages.
    #[serde(default)]
    pub denoise: Denoising,
    /// Which sentences `gap_sentences` asks for.
    #[serde(default)]
    pub gap_sentences: GapSentences,
    /// Which sentences `extract` asks for.
    #[serde(default)]
    pub extract: Extraction,
    /// What leads the sources of summaries and extracts.
    #[serde(default)]
    pub prompts: Prompts,
    /// A new order every epoch, from `run.seed`.
    #[serde(default = "yes")]
    pub shuffle: bool,
    /// Only this many training records, the first ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_train_records: Option<usize>,
    /// Only this many validation records, the first ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_validation_records: Option<usize>,
}

/// Batches, length and bookkeeping of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunOptions {
    /// Records that run together.
    pub batch_size: usize,
    /// Instead of `batch_size`: as many records run together as have no more source and target tokens than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Batches per update.
    pub gradient_accumulation_steps: usize,
    /// Batches of an update that run side by side, each on its share of the threads: faster for small models, and takes the
    /// memory of so many batches. Rounding differs from that of batches one after the other.
    pub parallel_micro_batches: usize,
    /// Updates of the run; takes precedence over `num_train_epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    /// Passes over the training records; a part of one counts.
    pub num_train_epochs: f64,
    /// Seeds initialisation, shuffling and dropout.
    pub seed: u64,
    /// Updates between lines of `metrics.jsonl`.
    pub logging_steps: usize,
    /// Updates between validations; 0 means only at the end.
    pub eval_steps: usize,
    /// Updates between checkpoints; 0 means none before the end.
    pub save_steps: usize,
    /// How many checkpoints to keep, the best one among them; 0 means all.
    pub save_total_limit: usize,
    /// What decides which validation is the best: `loss`, or with `predict_with_generate` a score of summaries.
    pub metric_for_best_model: Metric,
    /// The run stops after so many validations in a row without a better one; unset means never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping_patience: Option<usize>,
    /// How much better a validation must be to count for `early_stopping_patience`.
    pub early_stopping_threshold: f64,
    /// The final model is that of the best validation instead of the last step.
    pub load_best_model_at_end: bool,
    /// Validations also write summaries and score them.
    pub predict_with_generate: bool,
    /// Longest summary of a validation in tokens; unset means as the model's generation settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_max_new_tokens: Option<usize>,
    /// Beams of these summaries; unset means as the model's generation settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_num_beams: Option<usize>,
    /// Only so many validation records are summarized, the first ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_generated_records: Option<usize>,
    /// Write TensorBoard's event files, in `tensorboard/`.
    pub tensorboard: bool,
    /// Compute layers again in the backward pass instead of keeping their insides; costly outputs are kept up to 256 MiB.
    pub gradient_checkpointing: bool,
    /// A run whose largest update takes more memory than this, in GiB for each process, is refused; unset means
    /// what the system has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_gib: Option<f64>,
    /// Of hidden states and products: `f32`, on a GPU also `bf16`. Parameters and sums of gradients are in f32.
    pub precision: String,
    /// `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Where the run is written, unless `--output` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            batch_size: 1,
            batch_tokens: None,
            gradient_accumulation_steps: 1,
            parallel_micro_batches: 1,
            max_steps: None,
            num_train_epochs: 3.0,
            seed: 42,
            logging_steps: 10,
            eval_steps: 0,
            save_steps: 500,
            save_total_limit: 2,
            metric_for_best_model: Metric::Loss,
            early_stopping_patience: None,
            early_stopping_threshold: 0.0,
            load_best_model_at_end: false,
            predict_with_generate: false,
            generation_max_new_tokens: None,
            generation_num_beams: None,
            max_generated_records: None,
            tensorboard: true,
            gradient_checkpointing: true,
            memory_limit_gib: None,
            precision: "f32".into(),
            device: "cpu".into(),
            output: None,
        }
    }
}

impl RunConfig {
    /// Reads a TOML file and applies `overrides` of the form `table.key=value`.
    ///
    /// # Errors
    /// When the file cannot be read, a key is unknown, or a value has the wrong type or contradicts another.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let file = path.display().to_string();
        let wrong = |origin: &str| {
            let origin = origin.to_owned();
            move |error: toml::de::Error| Error::config(origin, error.to_string())
        };
        let (config, origin): (Self, String) = if overrides.is_empty() {
            // Read at once, an error knows its line.
            (toml::from_str(&text).map_err(wrong(&file))?, file)
        } else {
            let mut table: Table = toml::from_str(&text).map_err(wrong(&file))?;
            overrides.iter().try_for_each(|setting| set(&mut table, setting))?;
            let origin = format!("{file} with --set");
            (table.try_into().map_err(wrong(&origin))?, origin)
        };
        config.validate(&origin)?;
        Ok(config)
    }

    /// The file's text with every default written out.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a run config has only string keys")
    }

    fn validate(&self, origin: &str) -> Result<()> {
        let complain = |message: String| Err(Error::config(origin, message));
        self.model.validate(origin)?;
        for (name, value) in [
            ("run.batch_size", self.run.batch_size),
            ("run.batch_tokens", self.run.batch_tokens.unwrap_or(1)),
            ("run.gradient_accumulation_steps", self.run.gradient_accumulation_steps),
            ("run.parallel_micro_batches", self.run.parallel_micro_batches),
            ("run.max_steps", self.run.max_steps.unwrap_or(1)),
            ("run.logging_steps", self.run.logging_steps),
            ("data.max_source_length", self.data.max_source_length.unwrap_or(2) / 2),
            ("data.max_target_length", self.data.max_target_length.unwrap_or(2) / 2),
        ] {
            if value == 0 {
                return complain(format!("{name} is too small"));
            }
        }
        if !(f64::MIN_POSITIVE..f64::INFINITY).contains(&self.run.num_train_epochs) {
            return complain(format!("run.num_train_epochs is {}, not above 0", self.run.num_train_epochs));
        }
        if !self.run.memory_limit_gib.is_none_or(|limit| limit > 0.0) {
            return complain("run.memory_limit_gib is not above 0".into());
        }
        self.optim.validate().or_else(complain)?;
        self.data.validate().or_else(complain)?;
        if self.run.batch_tokens.is_some() && self.run.batch_size != RunOptions::default().batch_size {
            return complain("run.batch_size and run.batch_tokens exclude each other: leave one of them out".into());
        }
        if self.run.parallel_micro_batches > self.run.gradient_accumulation_steps {
            return complain(format!(
                "run.parallel_micro_batches is {}, more than the {} batches of run.gradient_accumulation_steps",
                self.run.parallel_micro_batches, self.run.gradient_accumulation_steps
            ));
        }
        if self.run.eval_steps > 0 && self.data.validation.is_empty() {
            return complain("run.eval_steps asks for validations, but data.validation names no file".into());
        }
        if self.run.predict_with_generate && self.data.validation.is_empty() {
            return complain(
                "run.predict_with_generate summarizes validation records, but data.validation names no file".into(),
            );
        }
        self.run.validate_selection().or_else(complain)?;
        self.named_place().map(drop).or_else(complain)
    }
}

impl DataConfig {
    /// What decides what examples teach.
    pub(crate) fn objective_options(&self) -> ObjectiveOptions {
        ObjectiveOptions {
            mixture: self.objectives,
            denoise: self.denoise,
            gap_sentences: self.gap_sentences,
            extract: self.extract,
            prompts: self.prompts.clone(),
        }
    }

    fn validate(&self) -> std::result::Result<(), String> {
        if self.train.is_empty() {
            return Err("data.train names no file".into());
        }
        if !self.objectives.is_valid() {
            return Err("data.objectives must have weights from 0 up, one of them positive".into());
        }
        self.denoise.validate().map_err(|message| format!("data.denoise.{message}"))?;
        self.gap_sentences.validate().map_err(|message| format!("data.gap_sentences.{message}"))?;
        self.extract.validate().map_err(|message| format!("data.extract.{message}"))?;
        self.prompts.validate().map_err(|message| format!("data.prompts.{message}"))?;
        let longest =
            |weight: f64, tokens: usize| weight > 0.0 && self.max_target_length.is_some_and(|most| tokens + 2 > most);
        for (name, weight, tokens) in [
            ("denoise.length", self.objectives.denoise, self.denoise.length),
            ("gap_sentences.max_tokens", self.objectives.gap_sentences, self.gap_sentences.max_tokens),
            ("extract.max_tokens", self.objectives.extract, self.extract.max_tokens),
        ] {
            if longest(weight, tokens) {
                return Err(format!(
                    "data.{name} is {tokens}: with two special tokens more than data.max_target_length"
                ));
            }
        }
        Ok(())
    }
}

impl ModelConfig {
    fn validate(&self, origin: &str) -> Result<()> {
        if self.path.is_some() && self.position_embeddings.is_some() {
            return Err(Error::config(
                origin,
                "model.position_embeddings is for fresh models, not for one at model.path",
            ));
        }
        let known = serde_json::to_value(Config::default()).expect("a config is a JSON object");
        let known = known.as_object().expect("a config is a JSON object");
        match self.fields.keys().find(|key| !known.contains_key(*key)) {
            Some(key) => Err(Error::config(
                origin,
                format!(
                    "unknown key `model.{key}`: expected `path`, `tokenizer`, `position_embeddings` or one of LEDConfig's {}",
                    known.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
                ),
            )),
            None => Ok(()),
        }
    }
}

/// The table, the key and the value of a `table.key=value`, in which a table may be one of another; nothing if it has another
/// form.
pub fn split_setting(setting: &str) -> Option<(&str, &str, &str)> {
    let (path, value) = setting.split_once('=')?;
    let (table, key) = path.trim().rsplit_once('.')?;
    Some((table, key, value))
}

/// Applies one `table.key=value`. The value is TOML; what is not TOML is taken as a string.
fn set(table: &mut Table, setting: &str) -> Result<()> {
    let origin = || format!("--set {setting}");
    let malformed = || Error::config(origin(), "must have the form table.key=value");
    let (sections, key, text) = split_setting(setting).ok_or_else(malformed)?;
    let value = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| Value::String(text.trim().to_owned()));
    let mut table = table;
    for section in sections.split('.') {
        let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        table = inner.as_table_mut().ok_or_else(malformed)?;
    }
    table.insert(key.to_owned(), value);
    Ok(())
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

fn yes() -> bool {
    true
}
