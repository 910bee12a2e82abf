//! `config.json` of a LED model (`LEDConfig` of the hub).

mod tokens;
mod validate;

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use epitome_kernels::IGNORE_INDEX;

pub use self::tokens::{TokenIds, one_token_id};
use crate::{Error, Result};

/// Other names of fields, which win where a file has both (`LEDConfig.attribute_map`).
const ALIASES: [(&str, &str); 4] = [
    ("num_attention_heads", "encoder_attention_heads"),
    ("hidden_size", "d_model"),
    ("attention_probs_dropout_prob", "attention_dropout"),
    ("initializer_range", "init_std"),
];

/// Fields whose `null` says something else than their absence: no such token.
const NULLABLE: [&str; 2] = ["decoder_start_token_id", "eos_token_id"];

/// The two-sided attention window: one for all encoder layers or one per layer. A window of `w` lets token i see tokens
/// `i - w/2 ..= i + w/2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a window or a list of windows")]
pub enum AttentionWindow {
    /// The same window in every layer.
    Every(usize),
    /// One window per encoder layer.
    PerLayer(Vec<usize>),
}

/// The architecture, with the hub's field names and `LEDConfig`'s defaults. Fields that this program does not use are kept
/// in [`Config::extra`] and written back on saving.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Always `led`.
    pub model_type: String,
    /// Rows of the shared embedding.
    pub vocab_size: usize,
    /// Rows of the encoder's position table. Longer documents tile it.
    pub max_encoder_position_embeddings: usize,
    /// Rows of the decoder's position table.
    pub max_decoder_position_embeddings: usize,
    /// Number of encoder layers.
    pub encoder_layers: usize,
    /// Width of the encoder's feed-forward layers.
    pub encoder_ffn_dim: usize,
    /// Heads of the encoder's self-attention.
    pub encoder_attention_heads: usize,
    /// Number of decoder layers.
    pub decoder_layers: usize,
    /// Width of the decoder's feed-forward layers.
    pub decoder_ffn_dim: usize,
    /// Heads of the decoder's self- and cross-attention.
    pub decoder_attention_heads: usize,
    /// Must be `gelu`, the exact erf form.
    pub activation_function: String,
    /// Width of the hidden states.
    pub d_model: usize,
    /// Dropout after embeddings and sublayers.
    pub dropout: f32,
    /// Dropout on attention probabilities.
    pub attention_dropout: f32,
    /// Dropout after the feed-forward activation.
    pub activation_dropout: f32,
    /// Standard deviation of fresh weights.
    pub init_std: f64,
    /// Two-sided window(s) of the encoder's attention, even and positive.
    pub attention_window: AttentionWindow,
    /// First input of the decoder; that of `null` is [`Config::decoder_start`].
    #[serde(deserialize_with = "one_token_id")]
    pub decoder_start_token_id: Option<u32>,
    /// Padding id; its embedding receives no gradient from look-ups.
    pub pad_token_id: u32,
    /// Id of `<s>`.
    pub bos_token_id: u32,
    /// Id of `</s>`, or the ids of all tokens that end a text, that of `</s>` first. With `null` none does.
    pub eos_token_id: TokenIds,
    /// Everything else in the file.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model_type: "led".into(),
            vocab_size: 50_265,
            max_encoder_position_embeddings: 16_384,
            max_decoder_position_embeddings: 1_024,
            encoder_layers: 12,
            encoder_ffn_dim: 4_096,
            encoder_attention_heads: 16,
            decoder_layers: 12,
            decoder_ffn_dim: 4_096,
            decoder_attention_heads: 16,
            activation_function: "gelu".into(),
            d_model: 1_024,
            dropout: 0.1,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            init_std: 0.02,
            attention_window: AttentionWindow::Every(512),
            decoder_start_token_id: Some(2),
            pad_token_id: 1,
            bos_token_id: 0,
            eos_token_id: TokenIds::One(2),
            extra: Map::new(),
        }
    }
}

impl Config {
    /// Reads and validates `config.json` of a model directory.
    ///
    /// # Errors
    /// When the file is missing, is not JSON, or describes a model other than LED or one that LED cannot express.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        Self::from_json(&text, &path)
    }

    /// Parses and validates the text of a `config.json`; `path` is only named in errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|error| Error::config(path, error.to_string()))?;
        if let Some(family) = value.get("model_type").and_then(Value::as_str)
            && family != "led"
        {
            return Err(Error::config(path, refusal(family)));
        }
        let config = Self::from_value(value).map_err(|message| Error::config(path, message))?;
        config.validate().map_err(|message| Error::config(path, message))?;
        Ok(config)
    }

    /// A known field that is `null` counts as absent unless it is [`NULLABLE`]. An error names its field.
    fn from_value(mut value: Value) -> std::result::Result<Self, String> {
        let known = serde_json::to_value(Self::default()).expect("a config has only string keys");
        let fields = value.as_object_mut().ok_or("must be a JSON object")?;
        rename_aliases(fields);
        fields.retain(|name, value| !value.is_null() || known.get(name).is_none() || NULLABLE.contains(&name.as_str()));
        let alone = |(name, value): (&String, &Value)| {
            let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
            serde_json::from_value::<Self>(alone).err().map(|error| format!("{name}: {error}"))
        };
        match fields.iter().find_map(alone) {
            Some(message) => Err(message),
            None => serde_json::from_value(value).map_err(|error| error.to_string()),
        }
    }

    /// Writes `config.json` into a model directory. It does not name the type of the weights: the weight file does, and a
    /// type kept from elsewhere could contradict it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let path = directory.join("config.json");
        let mut saved = self.clone();
        saved.extra.shift_remove("dtype");
        saved.extra.shift_remove("torch_dtype");
        saved.extra.entry("architectures").or_insert_with(|| serde_json::json!(["LEDForConditionalGeneration"]));
        saved.extra.entry("is_encoder_decoder").or_insert(Value::Bool(true));
        let mut text = serde_json::to_string_pretty(&saved).expect("a config has only string keys");
        text.push('\n');
        epitome_files::replace_content(&path, text).map_err(Error::io(&path))
    }

    /// The token that the decoder starts with: where `decoder_start_token_id` is `null` that which begins a text, as in
    /// `transformers`' `generate`. So it is in training and scoring too, which `transformers` refuses then: a model is decoded as
    /// it was trained.
    pub fn decoder_start(&self) -> u32 {
        self.decoder_start_token_id.unwrap_or(self.bos_token_id)
    }

    /// What the decoder reads when it is to predict `labels`: the start token and the labels but the last, ignored ones as
    /// padding (`shift_tokens_right` of `transformers`).
    pub fn decoder_inputs(&self, labels: &[i64]) -> Vec<u32> {
        let previous = &labels[..labels.len().saturating_sub(1)];
        let ids = previous.iter().map(|&label| if label == IGNORE_INDEX { self.pad_token_id } else { label as u32 });
        std::iter::once(self.decoder_start()).chain(ids).take(labels.len()).collect()
    }

    /// Keys on one side of each token in the encoder's layer `layer`.
    pub fn radius(&self, layer: usize) -> usize {
        match &self.attention_window {
            AttentionWindow::Every(window) => window / 2,
            AttentionWindow::PerLayer(windows) => windows[layer] / 2,
        }
    }
}

fn rename_aliases(fields: &mut Map<String, Value>) {
    for (alias, name) in ALIASES {
        if let Some(value) = fields.shift_remove(alias).filter(|value| !value.is_null()) {
            fields.insert(name.into(), value);
        }
    }
}

fn refusal(family: &str) -> String {
    match family {
        "bart" => "this is a BART model: turn it into LED with `epitome convert` first".into(),
        "mbart" | "pegasus" | "bigbird_pegasus" => format!(
            "model_type `{family}` normalises before its sublayers and scales its embeddings, \
             so its weights cannot be read as LED"
        ),
        other => format!("model_type `{other}` is not supported, only `led`"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

    use super::*;

    fn read(json: &str) -> Result<Config> {
        Config::from_json(json, Path::new("config.json"))
    }

    #[test]
    fn lists_of_tokens_as_transformers_takes_them() {
        let config = read(r#"{"eos_token_id": [2, 5], "decoder_start_token_id": [7]}"#).unwrap();
        assert_eq!((config.eos_token_id.as_slice(), config.decoder_start()), (&[2, 5][..], 7));
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(written["eos_token_id"], serde_json::json!([2, 5]));
        for (json, expected) in [
            (r#"{"eos_token_id": []}"#, "eos_token_id is an empty list"),
            (r#"{"eos_token_id": [2, 50265]}"#, "eos_token_id is 50265, outside vocab_size"),
            (r#"{"eos_token_id": -2}"#, "eos_token_id: expected a token id or a list of token ids"),
            (r#"{"decoder_start_token_id": [2, 3]}"#, "decoder_start_token_id: names 2 tokens where one is needed"),
            (r#"{"decoder_start_token_id": "</s>"}"#, "decoder_start_token_id: expected a token id"),
            (r#"{"decoder_start_token_id": null, "bos_token_id": 50265}"#, "bos_token_id is 50265, outside"),
        ] {
            let message = read(json).unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?} does not say {expected:?}");
        }
    }

    /// The decoder then starts as `generate` of `transformers` lets it; saving keeps the nulls.
    #[test]
    fn tokens_that_are_null_are_not_those_of_led() {
        let config = read(r#"{"decoder_start_token_id": null, "bos_token_id": 6, "eos_token_id": null}"#).unwrap();
        assert_eq!((config.decoder_start(), config.eos_token_id.as_slice()), (6, &[][..]));
        assert_eq!(config.decoder_inputs(&[7, 8, 9]), [6, 7, 8]);
        let written = serde_json::to_value(&config).unwrap();
        assert!(written["decoder_start_token_id"].is_null() && written["eos_token_id"].is_null(), "{written}");
        assert_eq!(read(r#"{"decoder_start_token_id": null, "bos_token_id": null}"#).unwrap().decoder_start(), 0);
        let config = read(r#"{"bos_token_id": null, "pad_token_id": null}"#).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.decoder_start(), 2);
    }

    #[test]
    fn names_that_transformers_takes_for_others() {
        let json = r#"{"num_attention_heads": 4, "hidden_size": 64, "d_model": 32, "attention_probs_dropout_prob": 0.5,
            "initializer_range": 0.25}"#;
        let config = read(json).unwrap();
        assert_eq!((config.encoder_attention_heads, config.d_model), (4, 64));
        assert_eq!((config.attention_dropout, config.init_std), (0.5, 0.25));
        assert!(config.extra.is_empty(), "{:?}", config.extra);
        assert_eq!(read(r#"{"hidden_size": null, "d_model": 32}"#).unwrap().d_model, 32);
    }

    #[test]
    fn layers_that_training_would_drop_are_named() {
        let config = read(r#"{"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.25}"#).unwrap();
        let [notice] = config.ignored_in_training().try_into().unwrap();
        assert!(notice.starts_with("decoder_layerdrop = 0.25 has no effect"), "{notice}");
    }

    #[test]
    fn led_does_not_scale_its_embedding_whatever_the_file_says() {
        let config = read(r#"{"scale_embedding": true}"#).unwrap();
        assert_eq!(config.extra["scale_embedding"], true);
    }
}
