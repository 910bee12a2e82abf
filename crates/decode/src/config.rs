//! The options of a search, complete and free of contradictions.

use std::path::Path;

use epitome_model::Config;
use serde::Serialize;

use crate::layers::{DEFAULTS, Layers, Setting};
use crate::unread::unread;
use crate::{EarlyStopping, Error, GenerationOptions, Result, TokenIds};

/// Everything that a search obeys. Made by [`GenerationConfig::resolve`]; names are those of `transformers`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GenerationConfig {
    /// Longest sequence in tokens, the decoder start token included; at least 2.
    pub max_length: usize,
    /// No end token before the sequence has this many tokens, the decoder start token included.
    pub min_length: usize,
    /// Number of hypotheses that are followed at once; 1 is greedy search.
    pub num_beams: usize,
    /// Exponent of the length that divides a score.
    pub length_penalty: f64,
    /// When a beam search ends.
    pub early_stopping: EarlyStopping,
    /// No n-gram of this size may occur twice; 0 is off.
    pub no_repeat_ngram_size: usize,
    /// No n-gram of this size may be copied from the document; 0 is off.
    pub encoder_no_repeat_ngram_size: usize,
    /// 1 is off; above 1 makes repeated tokens less likely.
    pub repetition_penalty: f64,
    /// 1 is off; above 1 makes tokens of the document more likely.
    pub encoder_repetition_penalty: f64,
    /// Whether summaries are made of the document's own passages, word for word.
    pub extractive: bool,
    /// What documents are led by; nothing if it is empty.
    pub prompt: String,
    /// Token sequences that may not be generated.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// First generated token.
    pub forced_bos_token_id: Option<u32>,
    /// Last generated token at the greatest length: one of these, or any when empty.
    pub forced_eos_token_id: Vec<u32>,
    /// First input of the decoder.
    pub decoder_start_token_id: u32,
    /// Begins a text.
    pub bos_token_id: u32,
    /// The tokens that end a summary; when empty every summary has the greatest length.
    pub eos_token_id: Vec<u32>,
    /// How many of the best hypotheses to return.
    pub num_return_sequences: usize,
}

impl GenerationConfig {
    /// Merges layers of options, the strongest first: usually the command line, `generation_config.json`, the generation
    /// fields of `config.json`. What no layer sets has the default of `transformers` (for tokens: of LED), except the
    /// length: then a sequence may grow to `decoder_positions` tokens, the rows of the decoder's position table.
    ///
    /// Returns the configuration and warnings: one for each setting that would change results in `transformers` and is
    /// not supported here, and one when a weaker layer's least length exceeds a stronger layer's greatest length (the
    /// end token then stays forbidden until that, as in `transformers`).
    ///
    /// # Errors
    /// When an option is out of range or two options contradict each other; the error names option and origin.
    pub fn resolve(layers: &[&GenerationOptions], decoder_positions: usize) -> Result<(Self, Vec<String>)> {
        let mut warnings = unsupported_settings(layers);
        let layers = Layers(layers);
        let (min_length, max_length) = lengths(&layers, decoder_positions, &mut warnings)?;
        let num_beams = num_beams(&layers, usize::MAX)?;
        let config = Self {
            max_length,
            min_length,
            num_beams,
            length_penalty: layers.pick("length_penalty", |options| options.length_penalty, 1.0).require(
                |penalty| (-8.0..f64::INFINITY).contains(penalty),
                "it must be a number from -8 on, or scores leave the numbers",
            )?,
            early_stopping: layers.value("early_stopping", |options| options.early_stopping, EarlyStopping::False),
            no_repeat_ngram_size: layers.value("no_repeat_ngram_size", |options| options.no_repeat_ngram_size, 0),
            encoder_no_repeat_ngram_size: layers.value(
                "encoder_no_repeat_ngram_size",
                |options| options.encoder_no_repeat_ngram_size,
                0,
            ),
            repetition_penalty: positive(&layers, "repetition_penalty", |options| options.repetition_penalty)?,
            encoder_repetition_penalty: positive(&layers, "encoder_repetition_penalty", |options| {
                options.encoder_repetition_penalty
            })?,
            extractive: layers.value("extractive", |options| options.extractive, false),
            prompt: layers.value("prompt", |options| options.prompt.clone(), String::new()),
            bad_words_ids: bad_words(&layers)?,
            forced_bos_token_id: layers.value(
                "forced_bos_token_id",
                |options| options.forced_bos_token_id.map(Some),
                None,
            ),
            forced_eos_token_id: token_ids(&layers, "forced_eos_token_id", |options| &options.forced_eos_token_id, &[]),
            decoder_start_token_id: decoder_start_token_id(&layers),
            bos_token_id: bos_token_id(&layers).value,
            eos_token_id: token_ids(&layers, "eos_token_id", |options| &options.eos_token_id, &[2]),
            num_return_sequences: num_return_sequences(&layers, num_beams)?,
        };
        warnings.extend(config.without_effect());
        Ok((config, warnings))
    }

    /// What is set and is passed over where summaries are made of passages.
    fn without_effect(&self) -> impl Iterator<Item = String> {
        let set = [
            ("no_repeat_ngram_size", self.no_repeat_ngram_size > 0),
            ("encoder_no_repeat_ngram_size", self.encoder_no_repeat_ngram_size > 0),
            ("bad_words_ids", !self.bad_words_ids.is_empty()),
        ];
        let passed_over = set.into_iter().filter(|&(_, is_set)| is_set && self.extractive);
        passed_over.map(|(option, _)| format!("{option} has no effect on extractive summaries"))
    }

    /// The same for a model: below `options` and what its `generation_config.json` holds, if it has one, the weakest layer are
    /// the generation fields of its `config.json`, with LED's defaults where the file at `path`, which is only named in
    /// messages, is silent. A warning says which fields `transformers` would not read where they are.
    ///
    /// # Errors
    /// As [`GenerationConfig::resolve`] and [`GenerationConfig::check_vocabulary`], and more beams than the vocabulary has
    /// entries.
    pub fn for_model(
        options: &GenerationOptions,
        saved: Option<&GenerationOptions>,
        model: &Config,
        path: &Path,
    ) -> Result<(Self, Vec<String>)> {
        let text = serde_json::to_string(model).expect("a config has only string keys");
        // `null` there means that no token ends a text, and not that nothing is said.
        let eos_token_id = Some(model.eos_token_id.clone());
        let of_model = GenerationOptions { eos_token_id, ..GenerationOptions::from_json(&text, path)? };
        let layers: Vec<&GenerationOptions> = [Some(options), saved, Some(&of_model)].into_iter().flatten().collect();
        // More beams than a first step has tokens would only take memory.
        num_beams(&Layers(&layers), model.vocab_size)?;
        let (generation, mut warnings) = Self::resolve(&layers, model.max_decoder_position_embeddings)?;
        generation.check_vocabulary(model.vocab_size)?;
        warnings.extend(saved.and_then(|saved| unread(options, saved, &of_model)));
        Ok((generation, warnings))
    }

    /// The most tokens that a summary may have, the decoder start token not counted.
    #[must_use]
    pub fn max_new_tokens(&self) -> usize {
        self.max_length.saturating_sub(1)
    }

    /// Checks that every token that the options name is in the vocabulary.
    ///
    /// # Errors
    /// Names the first option with a token that the model does not have.
    pub fn check_vocabulary(&self, vocab_size: usize) -> Result<()> {
        let start = std::slice::from_ref(&self.decoder_start_token_id);
        let bos = if self.extractive { std::slice::from_ref(&self.bos_token_id) } else { &[] };
        let named = [
            ("decoder_start_token_id", start),
            ("bos_token_id", bos),
            ("forced_bos_token_id", self.forced_bos_token_id.as_slice()),
            ("forced_eos_token_id", &self.forced_eos_token_id),
            ("eos_token_id", &self.eos_token_id),
        ];
        let bad_words = self.bad_words_ids.iter().map(|words| ("bad_words_ids", words.as_slice()));
        for (option, tokens) in named.into_iter().chain(bad_words) {
            if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
                return Err(Error::Token { option, token, vocab_size });
            }
        }
        Ok(())
    }
}

fn unsupported_settings(layers: &[&GenerationOptions]) -> Vec<String> {
    let mut warnings = Vec::new();
    for layer in layers {
        for setting in layer.unsupported() {
            warnings.push(format!("{}: {setting} is not supported and has no effect", layer.origin));
        }
    }
    warnings
}

/// The least and the greatest length, both counting the decoder start token.
fn lengths(layers: &Layers, decoder_positions: usize, warnings: &mut Vec<String>) -> Result<(usize, usize)> {
    let max = layers.pick_length(
        ["max_length", "max_new_tokens"],
        |options| [options.max_length, options.max_new_tokens],
        // A table of one row has no room beside the start token, but is tiled like any other.
        decoder_positions.max(2),
    );
    let min =
        layers.pick_length(["min_length", "min_new_tokens"], |options| [options.min_length, options.min_new_tokens], 0);
    if max.value < 2 {
        return Err(
            max.refuse("leaves no room for a token beside the decoder start token; allow at least one new token")
        );
    }
    if min.value > max.value {
        let message = format!(
            "asks for {} tokens with the decoder start token, but {} (from {}) allows {}",
            min.value, max.option, max.origin, max.value
        );
        // Only a length that was chosen knowing of the other contradicts it.
        if min.rank <= max.rank {
            return Err(min.refuse(message));
        }
        warnings
            .push(format!("{} (from {}): {message}; summaries will have the greatest length", min.option, min.origin));
    }
    Ok((min.value.min(max.value), max.value))
}

/// How many beams; no more than the `vocab_size` entries of a vocabulary.
fn num_beams(layers: &Layers, vocab_size: usize) -> Result<usize> {
    let beams = layers.pick("num_beams", |options| options.num_beams, 1);
    match beams.value {
        0 => Err(beams.refuse("is 0, but at least one beam is needed (1 is greedy search)")),
        more if more > vocab_size => {
            Err(beams.refuse(format!("is {more}; no more are possible than the vocabulary has entries, {vocab_size}")))
        }
        _ => Ok(beams.value),
    }
}

/// What begins a text begins the decoder's where only that is said.
fn decoder_start_token_id(layers: &Layers) -> u32 {
    let start = layers.pick("decoder_start_token_id", |options| options.decoder_start_token_id, 2);
    let bos = bos_token_id(layers);
    if start.origin == DEFAULTS && bos.origin != DEFAULTS { bos.value } else { start.value }
}

fn bos_token_id<'a>(layers: &Layers<'a>) -> Setting<'a, u32> {
    layers.pick("bos_token_id", |options| options.bos_token_id, 0)
}

/// A factor that is 1 where nobody gives it.
fn positive(layers: &Layers, option: &'static str, factor: impl Fn(&GenerationOptions) -> Option<f64>) -> Result<f64> {
    layers
        .pick(option, factor, 1.0)
        .require(|&value| value > 0.0 && value.is_finite(), "it must be greater than 0 (1 is off)")
}

fn bad_words(layers: &Layers) -> Result<Vec<Vec<u32>>> {
    let words = layers.pick("bad_words_ids", |options| options.bad_words_ids.as_deref(), Default::default());
    if words.value.iter().any(Vec::is_empty) {
        return Err(words.refuse("holds an empty list, which would forbid everything"));
    }
    Ok(words.value.to_vec())
}

fn token_ids<'a>(
    layers: &Layers<'a>,
    option: &'static str,
    field: impl Fn(&'a GenerationOptions) -> &'a Option<TokenIds>,
    default: &'a [u32],
) -> Vec<u32> {
    let mut ids =
        layers.pick(option, |options| field(options).as_ref().map(TokenIds::as_slice), default).value.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn num_return_sequences(layers: &Layers, num_beams: usize) -> Result<usize> {
    let count = layers.pick("num_return_sequences", |options| options.num_return_sequences, 1);
    match count.value {
        0 => Err(count.refuse("is 0, but at least one hypothesis is returned")),
        more if more > num_beams => {
            Err(count.refuse(format!("is {more}, but num_beams is {num_beams}; raise num_beams to that at least")))
        }
        _ => Ok(count.value),
    }
}
