//! The options of a search on the command line; names and meanings are those of `transformers`.

use clap::Args;
use epitome_decode::{EarlyStopping, GenerationOptions};

use crate::failure::COMMAND_LINE;
use crate::values::positive;

/// What is not given comes from generation_config.json, then config.json, then the defaults of `transformers`; a summary
/// may by default grow to the decoder's position table.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Generation")]
pub(crate) struct GenerationArguments {
    /// Hypotheses followed at once; 1 is greedy search
    #[arg(long, value_name = "N", value_parser = positive())]
    num_beams: Option<usize>,
    /// Exponent of the length that divides a score; larger favours longer summaries
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    length_penalty: Option<f64>,
    /// When the search of a document ends: true, false or never
    #[arg(long, value_name = "WHEN")]
    early_stopping: Option<EarlyStopping>,
    /// No n-gram of this size may occur twice; 0 is off
    #[arg(long, value_name = "N")]
    no_repeat_ngram_size: Option<usize>,
    /// No n-gram of this size may be copied from the document; 0 is off
    #[arg(long, value_name = "N")]
    encoder_no_repeat_ngram_size: Option<usize>,
    /// Above 1 makes repeated tokens less likely
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f64>,
    /// Make summaries of the document's own sentences, word for word: the model only chooses
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    extractive: Option<bool>,
    /// Least tokens, the decoder start included
    #[arg(long, value_name = "N")]
    min_length: Option<usize>,
    /// Most tokens, the decoder start included
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Least new tokens; wins over --min-length
    #[arg(long, value_name = "N")]
    min_new_tokens: Option<usize>,
    /// Most new tokens; wins over --max-length
    #[arg(long, value_name = "N", value_parser = positive())]
    max_new_tokens: Option<usize>,
    /// How many of the best hypotheses to return
    #[arg(long, value_name = "N", value_parser = positive())]
    num_return_sequences: Option<usize>,
}

impl GenerationArguments {
    /// The strongest layer of options.
    pub(crate) fn options(&self) -> GenerationOptions {
        GenerationOptions {
            origin: COMMAND_LINE.into(),
            num_beams: self.num_beams,
            length_penalty: self.length_penalty,
            early_stopping: self.early_stopping,
            no_repeat_ngram_size: self.no_repeat_ngram_size,
            encoder_no_repeat_ngram_size: self.encoder_no_repeat_ngram_size,
            repetition_penalty: self.repetition_penalty,
            extractive: self.extractive,
            min_length: self.min_length,
            max_length: self.max_length,
            min_new_tokens: self.min_new_tokens,
            max_new_tokens: self.max_new_tokens,
            num_return_sequences: self.num_return_sequences,
            ..GenerationOptions::default()
        }
    }
}
