//! `--prompt`: what is asked of a model that was trained with prompts.

use std::borrow::Cow;

use anyhow::Result;
use clap::Args;
use epitome_data::{Prompts, Record};

use crate::records::BadRecord;

/// `--prompt`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PromptOption {
    /// Ask for a style or a length as the model was trained to be asked (`data.prompts`), such as "digest, 350 words"
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
}

impl PromptOption {
    /// The record, led by the prompt if there is one.
    ///
    /// # Errors
    /// A record of token ids.
    pub(crate) fn lead<'r>(&self, record: &'r Record) -> Result<Cow<'r, Record>> {
        let Some(prompt) = self.prompt.as_deref().filter(|prompt| !prompt.is_empty()) else {
            return Ok(Cow::Borrowed(record));
        };
        let mut led = record.clone();
        if !Prompts::lead(&mut led, prompt) {
            let (place, id) = (&record.location, &record.id);
            let message = format!("{place}: record {id} holds token ids, and --prompt needs text");
            return Err(BadRecord(message).into());
        }
        Ok(Cow::Owned(led))
    }
}
