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
    pub(crate) prompt: Option<String>,
}

/// The record, led by the prompt if it is not empty.
///
/// # Errors
/// A record of token ids.
pub(crate) fn lead<'r>(record: &'r Record, prompt: &str) -> Result<Cow<'r, Record>> {
    if prompt.is_empty() {
        return Ok(Cow::Borrowed(record));
    }
    let mut led = record.clone();
    if !Prompts::lead(&mut led, prompt) {
        let (place, id) = (&record.location, &record.id);
        let message =
            format!("{place}: record {id} holds token ids, and a prompt needs text (--prompt \"\" asks for none)");
        return Err(BadRecord(message).into());
    }
    Ok(Cow::Owned(led))
}
