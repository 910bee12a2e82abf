//! What a [`Config`] must hold to describe a model that this program computes.

use serde_json::Value;

use super::{AttentionWindow, Config, TokenIds};

/// Token ids and positions are numbers of 32 bits.
const MOST_ROWS: usize = u32::MAX as usize;
/// Far more than any model has, and few enough that sizes can be multiplied.
const MOST_LAYERS: usize = 1 << 10;
const WIDEST: usize = 1 << 20;

impl Config {
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
        self.validate_tokens()?;
        for (name, probability) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("activation_dropout", self.activation_dropout),
        ] {
            if !(0.0..1.0).contains(&probability) {
                return Err(format!("{name} is {probability}, it must be in 0..1"));
            }
        }
        // `scale_embedding`, BART's, is a field without effect here as in `LEDModel`.
        if self.extra.get("tie_word_embeddings") == Some(&Value::Bool(false)) {
            return Err("tie_word_embeddings = false is not supported by LED".into());
        }
        Ok(())
    }

    /// What the configuration asks of training and is not done, one line a field.
    #[must_use]
    pub fn ignored_in_training(&self) -> Vec<String> {
        let layerdrop = ["encoder_layerdrop", "decoder_layerdrop"].into_iter();
        let asked = layerdrop.filter_map(|name| Some((name, self.extra.get(name)?.as_f64().filter(|&p| p > 0.0)?)));
        asked.map(|(name, p)| format!("{name} = {p} has no effect: no layer is left out in training")).collect()
    }

    fn validate_tokens(&self) -> std::result::Result<(), String> {
        if self.eos_token_id == TokenIds::Many(Vec::new()) {
            return Err("eos_token_id is an empty list; name the token that ends a text".into());
        }
        for (name, ids) in [
            ("decoder_start_token_id", self.decoder_start_token_id.as_slice()),
            ("pad_token_id", std::slice::from_ref(&self.pad_token_id)),
            ("bos_token_id", std::slice::from_ref(&self.bos_token_id)),
            ("eos_token_id", self.eos_token_id.as_slice()),
        ] {
            if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocab_size) {
                return Err(format!("{name} is {id}, outside vocab_size {}", self.vocab_size));
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
