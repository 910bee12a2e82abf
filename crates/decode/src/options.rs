//! Generation options as people write them: every field may be missing.

use std::path::Path;
use std::str::FromStr;

use epitome_model::{TokenIds, one_token_id};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// One layer of generation options: the command line, a `generation_config.json`, or the generation fields of a
/// `config.json`. Names and meanings are those of `transformers`; `None` means that this layer says nothing.
/// [`GenerationConfig::resolve`](crate::GenerationConfig::resolve) merges layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationOptions {
    /// Where the options come from, for messages: a path, or "the command line".
    #[serde(skip)]
    pub origin: String,
    /// Longest summary in tokens, the decoder start token included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Longest summary in tokens, the decoder start token not included; outranks `max_length` of the same layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    /// No end token before the summary has this many tokens, the decoder start token included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_length: Option<usize>,
    /// No end token before this many tokens; outranks `min_length` of the same layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_new_tokens: Option<usize>,
    /// Number of hypotheses that are followed at once; 1 is greedy search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_beams: Option<usize>,
    /// Exponent of the length that divides a score: larger favours longer summaries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length_penalty: Option<f64>,
    /// When a beam search ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
    /// No n-gram of this size may occur twice in a summary; 0 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_repeat_ngram_size: Option<usize>,
    /// No n-gram of this size may be copied from the document; 0 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder_no_repeat_ngram_size: Option<usize>,
    /// Makes tokens that the summary already has less likely (above 1) or more likely (below 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// Makes tokens of the document more likely (above 1) or less likely (below 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder_repetition_penalty: Option<f64>,
    /// Whether summaries are made of the document's own passages, word for word (see
    /// [`Extracts`](epitome_data::Extracts)); not an option of `transformers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extractive: Option<bool>,
    /// What documents are led by where nothing else is asked for, such as `extract, 250 words`; not an option of `transformers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Token sequences that may not be generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad_words_ids: Option<Vec<Vec<u32>>>,
    /// First generated token.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "one_token_id")]
    pub forced_bos_token_id: Option<u32>,
    /// Last generated token when the summary reaches its greatest length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced_eos_token_id: Option<TokenIds>,
    /// First input of the decoder.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "one_token_id")]
    pub decoder_start_token_id: Option<u32>,
    /// Starts a text; the decoder start token where that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos_token_id: Option<u32>,
    /// The token or tokens that end a summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos_token_id: Option<TokenIds>,
    /// Padding. Nothing is padded here, so it has no influence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad_token_id: Option<u32>,
    /// How many of the best hypotheses to return.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_return_sequences: Option<usize>,
    /// Every other field of the file.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl GenerationOptions {
    /// Reads a `generation_config.json`, or the generation fields of a `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is not a JSON object, or a generation field has the wrong type.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), source })?;
        Self::from_json(&text, path)
    }

    /// Parses what [`read`](Self::read) reads; `path` is only named in messages.
    ///
    /// # Errors
    /// When the text is not a JSON object or a generation field, which the error names, has the wrong type.
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        let options: Self = serde_json::from_str(text)
            .map_err(|error| Error::Json { path: path.into(), source: naming_field(error, text) })?;
        Ok(Self { origin: path.display().to_string(), ..options })
    }

    /// Settings of this layer that would change results in `transformers` and have no effect here, as `name=value`.
    #[must_use]
    pub fn unsupported(&self) -> Vec<String> {
        self.extra
            .iter()
            .filter(|(name, value)| changes_results(name, value))
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }
}

/// The error of a text with the name of the field at fault, which `serde_json` leaves out.
fn naming_field(error: serde_json::Error, text: &str) -> serde_json::Error {
    let fields: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let is_wrong = |(name, value): &(&String, &Value)| {
        let alone = Value::Object(Map::from_iter([((*name).clone(), (*value).clone())]));
        serde_json::from_value::<GenerationOptions>(alone).is_err()
    };
    match fields.iter().find(is_wrong) {
        Some((name, _)) => serde_json::Error::custom(format!("{name}: {error}")),
        None => error,
    }
}

/// Whether a field that [`GenerationOptions`] does not know asks for something other than plain greedy or beam search.
/// Sampling fields such as `temperature` matter only beside `do_sample`, so that one stands for them.
fn changes_results(name: &str, value: &Value) -> bool {
    match name {
        "do_sample" | "renormalize_logits" | "token_healing" | "remove_invalid_values" => value == &Value::Bool(true),
        "num_beam_groups" => value.as_u64().is_some_and(|groups| groups > 1),
        "diversity_penalty" | "penalty_alpha" => value.as_f64().is_some_and(|penalty| penalty != 0.0),
        "guidance_scale" => value.as_f64().is_some_and(|scale| scale != 1.0),
        "begin_suppress_tokens"
        | "constraints"
        | "dola_layers"
        | "exponential_decay_length_penalty"
        | "force_words_ids"
        | "max_time"
        | "sequence_bias"
        | "stop_strings"
        | "suppress_tokens"
        | "watermarking_config" => !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()),
        _ => false,
    }
}

/// When the beam search of a document ends (`early_stopping`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// `true`: as soon as `num_beams` hypotheses are finished.
    True,
    /// `false`: also when the best running hypothesis, scored at its present length, cannot enter the finished ones.
    #[default]
    False,
    /// `"never"`: only when no continuation of any length could enter the finished ones.
    Never,
}

impl FromStr for EarlyStopping {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "true" => Ok(Self::True),
            "false" => Ok(Self::False),
            "never" => Ok(Self::Never),
            _ => Err(format!("early_stopping must be true, false or never, not `{text}`")),
        }
    }
}

impl Serialize for EarlyStopping {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::True => serializer.serialize_bool(true),
            Self::False => serializer.serialize_bool(false),
            Self::Never => serializer.serialize_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for EarlyStopping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(true) => Ok(Self::True),
            Value::Bool(false) => Ok(Self::False),
            Value::String(text) if text == "never" => Ok(Self::Never),
            other => Err(D::Error::custom(format!("must be true, false or \"never\", not {other}"))),
        }
    }
}
