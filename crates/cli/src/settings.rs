//! What decides summaries, beside the documents.

use anyhow::Result;
use epitome_decode::Summarizer;
use serde_json::{Map, Value, json};

use crate::decoding::DecodingOptions;

/// Named values.
pub(crate) type Settings = Map<String, Value>;

impl DecodingOptions {
    /// What a report says of its summaries.
    pub(crate) fn settings(&self, summarizer: &Summarizer) -> Settings {
        let model = self.model.directory().map(|directory| directory.display().to_string());
        Settings::from_iter([
            ("model".into(), model.unwrap_or_else(|| self.model.name()).into()),
            ("precision".into(), self.device.name().into()),
            ("max_document_tokens".into(), self.max_document_tokens.into()),
            ("generation".into(), json!(summarizer.generation())),
        ])
    }

    /// What all records of an output must have in common: the same, with the content of the model's files, every option of the
    /// search by its own name, and how records are read. Where and in which batches they are decoded is no part of
    /// it.
    ///
    /// # Errors
    /// A file of the model that cannot be read, or wrong field names.
    pub(crate) fn settings_of_output(&self, summarizer: &Summarizer) -> Result<Settings> {
        let mut settings = self.settings(summarizer);
        if let Some(Value::Object(generation)) = settings.shift_remove("generation") {
            settings.extend(generation);
        }
        settings.insert("model".into(), format!("{} ({})", self.model.name(), self.model.fingerprint()?).into());
        settings.insert("field".into(), json!(self.fields.names()?));
        settings.insert("attribute".into(), self.attribute.into());
        Ok(settings)
    }
}
