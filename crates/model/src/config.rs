//! `config.json` of a LED model (`LEDConfig` of the hub).

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use epitome_kernels::IGNORE_INDEX;

use crate::{Error, Result};

/// Token ids and positions are numbers of 32 bits.
const MOST_ROWS: usize = u32::MAX as usize;
/// Far more than any model has, and few enough that sizes can be multiplied.
const MOST_LAYERS: usize = 1 << 10;
const WIDEST: usize = 1 << 20;

/// The two-sided attention window: one for all encoder layers or one per layer. A window of `w` lets token i see tokens
/// `i - w/2 ..= i + w/2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
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
    /// First input of the decoder.
    pub decoder_start_token_id: u32,
    /// Padding id; its embedding receives no gradient from look-ups.
    pub pad_token_id: u32,
    /// Id of `<s>`.
    pub bos_token_id: u32,
    /// Id of `</s>`.
    pub eos_token_id: u32,
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
            decoder_start_token_id: 2,
            pad_token_id: 1,
            bos_token_id: 0,
            eos_token_id: 2,
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

    /// A known field that is `null` counts as absent, as on the hub. An error names its field.
    fn from_value(mut value: Value) -> std::result::Result<Self, String> {
        let known = serde_json::to_value(Self::default()).expect("a config has only string keys");
        let fields = value.as_object_mut().ok_or("must be a JSON object")?;
        fields.retain(|name, value| !(value.is_null() && known.get(name).is_some()));
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

    /// What the decoder reads when it is to predict `labels`: the start token and the labels but the last, ignored ones as
    /// padding (`shift_tokens_right` of `transformers`).
    pub fn decoder_inputs(&self, labels: &[i64]) -> Vec<u32> {
        let previous = &labels[..labels.len().saturating_sub(1)];
        let ids = previous.iter().map(|&label| if label == IGNORE_INDEX { self.pad_token_id } else { label as u32 });
        std::iter::once(self.decoder_start_token_id).chain(ids).take(labels.len()).collect()
    }

    /// Keys on one side of each token in the encoder's layer `layer`.
    pub fn radius(&self, layer: usize) -> usize {
        match &self.attention_window {
            AttentionWindow::Every(window) => window / 2,
            AttentionWindow::PerLayer(windows) => windows[layer] / 2,
        }
    }

    /// Checks that the fields describe a model that this program computes.
    ///
    /// # Errors
    /// A message that names the field and what it must be.
    pub fn validate(&self) -> std::result::Result<(), String> {
        self.validate_sizes()?;
        self.validate_windows()?;
        if self.activation_function != "gelu" {
            return Err(format!("activation_function is `{}`; only `gelu` is supported", self.activation_function));
        }
        for (name, id) in [
            ("decoder_start_token_id", self.decoder_start_token_id),
            ("pad_token_id", self.pad_token_id),
            ("bos_token_id", self.bos_token_id),
            ("eos_token_id", self.eos_token_id),
        ] {
            if id as usize >= self.vocab_size {
                return Err(format!("{name} is {id}, outside vocab_size {}", self.vocab_size));
            }
        }
        for (name, probability) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("activation_dropout", self.activation_dropout),
        ] {
            if !(0.0..1.0).contains(&probability) {
                return Err(format!("{name} is {probability}, it must be in 0..1"));
            }
        }
        for (name, forbidden) in [("scale_embedding", true), ("tie_word_embeddings", false)] {
            if self.extra.get(name) == Some(&Value::Bool(forbidden)) {
                return Err(format!("{name} = {forbidden} is not supported by LED"));
            }
        }
        Ok(())
    }

    fn validate_sizes(&self) -> std::result::Result<(), String> {
        for (name, size, most) in [
            ("vocab_size", self.vocab_size, MOST_ROWS),
            ("max_encoder_position_embeddings", self.max_encoder_position_embeddings, MOST_ROWS),
            ("max_decoder_position_embeddings", self.max_decoder_position_embeddings, MOST_ROWS),
            ("encoder_layers", self.encoder_layers, MOST_LAYERS),
            ("decoder_layers", self.decoder_layers, MOST_LAYERS),
            ("encoder_ffn_dim", self.encoder_ffn_dim, WIDEST),
            ("decoder_ffn_dim", self.decoder_ffn_dim, WIDEST),
            ("d_model", self.d_model, WIDEST),
        ] {
            if !(1..=most).contains(&size) {
                return Err(format!("{name} is {size}, it must be in 1..={most}"));
            }
        }
        for (name, heads) in [
            ("encoder_attention_heads", self.encoder_attention_heads),
            ("decoder_attention_heads", self.decoder_attention_heads),
        ] {
            if heads == 0 || !self.d_model.is_multiple_of(heads) {
                return Err(format!("{name} is {heads}, which does not divide d_model {}", self.d_model));
            }
        }
        Ok(())
    }

    fn validate_windows(&self) -> std::result::Result<(), String> {
        let windows = match &self.attention_window {
            AttentionWindow::Every(window) => std::slice::from_ref(window),
            AttentionWindow::PerLayer(windows) if windows.len() == self.encoder_layers => windows,
            AttentionWindow::PerLayer(windows) => {
                return Err(format!(
                    "attention_window lists {} windows for {} encoder layers",
                    windows.len(),
                    self.encoder_layers
                ));
            }
        };
        let is_wrong = |&&window: &&usize| !(1..=MOST_ROWS).contains(&window) || !window.is_multiple_of(2);
        match windows.iter().find(is_wrong) {
            Some(window) => Err(format!("attention_window {window} must be even and in 1..={MOST_ROWS}")),
            None => Ok(()),
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
