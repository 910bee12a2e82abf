//! `--prompt`: what is asked of a model that was trained with prompts.

use std::borrow::Cow;

use clap::Args;
use epitome_data::{Prompts, Record};

/// `--prompt`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PromptOption {
    /// Ask for a style or a length as the model was trained to be asked (`data.prompts`), such as "digest, 350 words"
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
}

impl PromptOption {
    /// The record, led by the prompt if there is one.
    pub(crate) fn lead<'r>(&self, record: &'r Record) -> Cow<'r, Record> {
        match self.prompt.as_deref().filter(|prompt| !prompt.is_empty()) {
            Some(prompt) => {
                let mut record = record.clone();
                Prompts::lead(&mut record, prompt);
                Cow::Owned(record)
            }
            None => Cow::Borrowed(record),
        }
    }
}
