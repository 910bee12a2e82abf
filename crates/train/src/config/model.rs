//! The table `model`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use epitome_model::{Config, PositionEmbeddings};
use serde::{Deserialize, Serialize};
use toml::Value;

use crate::{Error, Result};

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

impl ModelConfig {
    pub(super) fn validate(&self, origin: &str) -> Result<()> {
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
