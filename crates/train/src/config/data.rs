//! The table `data`.

use std::path::PathBuf;

use epitome_data::{Denoising, Extraction, FieldNames, GapSentences, Limits, Mixture, ObjectiveOptions, Prompts};
use serde::{Deserialize, Serialize};

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

impl DataConfig {
    /// The longest sequences.
    pub(crate) fn limits(&self) -> Limits {
        Limits { max_source_length: self.max_source_length, max_target_length: self.max_target_length }
    }

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

    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        if self.train.is_empty() {
            return Err("data.train names no file".into());
        }
        for (name, limit) in
            [("max_source_length", self.max_source_length), ("max_target_length", self.max_target_length)]
        {
            if limit.is_some_and(|tokens| tokens < 2) {
                return Err(format!("data.{name} is too small"));
            }
        }
        for (name, most) in
            [("max_train_records", self.max_train_records), ("max_validation_records", self.max_validation_records)]
        {
            if most == Some(0) {
                return Err(format!("data.{name} is 0; it must be at least 1, or left out"));
            }
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

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a path or a list of paths")]
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
