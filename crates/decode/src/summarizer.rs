//! [`Summarizer`]: a model directory and records in, summaries out.

use std::ops::Range;
use std::path::Path;

use epitome_data::{Record, Source, Target, Tokenizer};
use epitome_kernels::{Device, IGNORE_INDEX, Precision};
use epitome_model::{Config, Documents, Led, WeightFiles};

use crate::attribution::{Attribution, attribute};
use crate::extracts::put_in_order;
use crate::memory::keys_and_values_bytes;
use crate::{
    Document, Error, GenerationConfig, GenerationOptions, Hypothesis, LedSession, Progress, Result, Sequence, Summary,
    generate,
};

/// A model with its tokenizer and its generation settings.
#[derive(Debug)]
pub struct Summarizer {
    led: Led,
    precision: Precision,
    tokenizer: Option<Tokenizer>,
    generation: GenerationConfig,
    /// Whether summaries come with what they rest on.
    attributes: bool,
    warnings: Vec<String>,
}

impl Summarizer {
    /// A summarizer with a network that is in memory, in f32, such as one in training.
    pub fn new(led: Led, tokenizer: Option<Tokenizer>, generation: GenerationConfig) -> Self {
        Self { led, precision: Precision::F32, tokenizer, generation, attributes: false, warnings: Vec::new() }
    }

    /// Loads a model directory. Generation settings come from `options`, then `generation_config.json`, then
    /// `config.json`, then the defaults (see [`GenerationConfig::resolve`]). A directory without a tokenizer serves
    /// tokenized records only. `precision` is that of the linear layers' weights, which lie on `device`.
    ///
    /// # Errors
    /// When a file is missing or wrong, or the settings contradict each other.
    pub fn load(directory: &Path, options: &GenerationOptions, precision: Precision, device: &Device) -> Result<Self> {
        let config = Config::load(directory)?;
        let path = directory.join("generation_config.json");
        let saved = if path.exists() { Some(GenerationOptions::read(&path)?) } else { None };
        let path = directory.join("config.json");
        let (generation, warnings) = GenerationConfig::for_model(options, saved.as_ref(), &config, &path)?;
        let tokenizer = if Tokenizer::exists(directory) { Some(Tokenizer::load(directory)?) } else { None };
        let led = Led::load_packed(&config, &WeightFiles::open(directory, &config)?, precision, device)?;
        Ok(Self { led, precision, tokenizer, generation, attributes: false, warnings })
    }

    /// As [`Summarizer::load`], from the contents of the files `config.json`, `tokenizer.json`, `model.safetensors` and,
    /// where there is one, `generation_config.json`; `file` gives them by name. `origin` stands for the directory in
    /// messages.
    ///
    /// # Errors
    /// As [`Summarizer::load`].
    pub fn from_files<'f>(
        file: impl Fn(&str) -> Option<&'f [u8]>,
        origin: &Path,
        options: &GenerationOptions,
        precision: Precision,
        device: &Device,
    ) -> Result<Self> {
        let required = |name: &str| {
            let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "the file is missing");
            file(name).ok_or(Error::Io { path: origin.join(name), source: missing })
        };
        let path = origin.join("config.json");
        let config = Config::from_json(&String::from_utf8_lossy(required("config.json")?), &path)?;
        let saved = file("generation_config.json").map(|bytes| {
            GenerationOptions::from_json(&String::from_utf8_lossy(bytes), &origin.join("generation_config.json"))
        });
        let saved = saved.transpose()?;
        let (generation, warnings) = GenerationConfig::for_model(options, saved.as_ref(), &config, &path)?;
        let tokenizer = Tokenizer::from_bytes(required("tokenizer.json")?, &origin.join("tokenizer.json"))?;
        let bytes = required("model.safetensors")?;
        let weights = WeightFiles::from_bytes(bytes, &origin.join("model.safetensors"), &config)?;
        Ok(Self {
            led: Led::load_packed(&config, &weights, precision, device)?,
            precision,
            tokenizer: Some(tokenizer),
            generation,
            attributes: false,
            warnings,
        })
    }

    /// The same, whose summaries say what each sentence rests on if `attributes`.
    #[must_use]
    pub fn attributing(self, attributes: bool) -> Self {
        Self { attributes, ..self }
    }

    /// Whether summaries say what they rest on.
    pub fn attributes(&self) -> bool {
        self.attributes
    }

    /// The model.
    pub fn led(&self) -> &Led {
        &self.led
    }

    /// What products are made of.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The tokenizer, if the model directory has one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// The settings that all summaries are made with.
    pub fn generation(&self) -> &GenerationConfig {
        &self.generation
    }

    /// What the user should know about the settings.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What the encoder reads of a record, of at most `max_document_tokens` tokens if given.
    ///
    /// # Errors
    /// Text without a tokenizer, a limit below 2, or a token id outside the vocabulary.
    pub fn source(&self, record: &Record, max_document_tokens: Option<usize>) -> Result<Source> {
        self.checked(record, Source::new(record, self.tokenizer(), max_document_tokens)?)
    }

    /// The same for a record that is to be summarized: with its passages, where summaries are made of them or say that they
    /// rest on them.
    ///
    /// # Errors
    /// As [`Summarizer::source`], and a record of token ids where passages are needed.
    pub fn source_to_summarize(&self, record: &Record, max_document_tokens: Option<usize>) -> Result<Source> {
        if !self.attributes && !self.generation.extractive {
            return self.source(record, max_document_tokens);
        }
        self.checked(record, Source::with_passages(record, self.tokenizer(), max_document_tokens)?)
    }

    /// A source without a token outside the vocabulary.
    fn checked(&self, record: &Record, source: Source) -> Result<Source> {
        let vocab_size = self.led.config().vocab_size;
        match source.input_ids.iter().find(|&&id| id as usize >= vocab_size) {
            Some(&token) => Err(Error::InputToken { location: record.location.clone(), token, vocab_size }),
            None => Ok(source),
        }
    }

    /// The labels of a record.
    ///
    /// # Errors
    /// A record without a summary or labels, or with empty ones, text without a tokenizer, or a label outside the vocabulary.
    pub fn target(&self, record: &Record) -> Result<Target> {
        let target = Target::new(record, self.tokenizer(), None)?;
        if target.labels.is_empty() {
            return Err(Error::NoLabels { location: record.location.clone(), id: record.id.clone() });
        }
        let vocab_size = self.led.config().vocab_size;
        let outside = |&&label: &&i64| label != IGNORE_INDEX && usize::try_from(label).is_ok_and(|id| id >= vocab_size);
        match target.labels.iter().find(outside) {
            Some(&label) => {
                Err(Error::InputToken { location: record.location.clone(), token: label as u32, vocab_size })
            }
            None => Ok(target),
        }
    }

    /// Summarizes documents together. A result does not depend on which documents are beside it.
    ///
    /// # Errors
    /// When an operation fails or the model gives numbers that are not finite.
    pub fn summarize(&self, sources: &[Source], on_progress: &mut dyn FnMut(Progress)) -> Result<Vec<Summary>> {
        let mut summaries: Vec<Option<Summary>> = vec![None; sources.len()];
        let sources: Vec<&Source> = sources.iter().collect();
        for (group, keep) in self.groups(&sources) {
            let sources: Vec<&Source> = group.iter().map(|&index| sources[index]).collect();
            for (index, summary) in group.iter().zip(self.summarize_group(&sources, keep, on_progress)?) {
                summaries[*index] = Some(summary);
            }
        }
        Ok(summaries.into_iter().flatten().collect())
    }

    /// Documents that are decoded together, and whether their keys and values are kept: those for which they would take
    /// too much memory are decoded alone without, so that this depends on no other document.
    pub(crate) fn groups(&self, sources: &[&Source]) -> Vec<(Vec<usize>, bool)> {
        let config = self.led.config();
        let is_long =
            |&index: &usize| keys_and_values_bytes(config, self.precision, sources[index].input_ids.len()).is_none();
        let (long, short): (Vec<usize>, Vec<usize>) = (0..sources.len()).partition(is_long);
        let alone = long.into_iter().map(|index| (vec![index], false));
        (!short.is_empty()).then_some((short, true)).into_iter().chain(alone).collect()
    }

    fn summarize_group(
        &self,
        sources: &[&Source],
        keep: bool,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Summary>> {
        let documents = pack(sources.iter().copied())?;
        let mut session = LedSession::new(&self.led, &documents, keep)?;
        let passages: Vec<Vec<Range<usize>>> = sources.iter().map(|source| source.different_passages()).collect();
        let seen = sources.iter().zip(&passages);
        let seen: Vec<Document> =
            seen.map(|(source, passages)| Document { encoder_ids: &source.input_ids, passages }).collect();
        let mut found = generate(&mut session, &seen, &self.generation, on_progress)?;
        if self.generation.extractive {
            for (hypotheses, document) in found.iter_mut().zip(&seen) {
                put_in_order(hypotheses, document, &self.generation, self.tokenizer())?;
            }
        }
        let mut attributions = vec![Vec::new(); sources.len()];
        if let Some(tokenizer) = self.tokenizer.as_ref().filter(|_| self.attributes) {
            let start = self.generation.decoder_start_token_id;
            attributions = attribute(&session, tokenizer, start, sources, &found)?;
        }
        let all = sources.iter().zip(found).zip(attributions);
        all.map(|((source, hypotheses), attributions)| self.summary(source, hypotheses, attributions)).collect()
    }

    fn summary(
        &self,
        source: &Source,
        hypotheses: Vec<Hypothesis>,
        attributions: Vec<Option<Vec<Attribution>>>,
    ) -> Result<Summary> {
        let config = self.led.config();
        // The decoder reads its start token and every generated token but the last: as many as were generated.
        let longest = hypotheses.iter().map(|one| one.tokens.len()).max().unwrap_or(0);
        let attributions = attributions.into_iter().chain(std::iter::repeat(None));
        let sequences = hypotheses.into_iter().zip(attributions);
        let mut sequences =
            sequences.map(|(one, attribution)| self.sequence(one, attribution)).collect::<Result<Vec<_>>>()?;
        let best = sequences.first().cloned().expect("a search returns at least one hypothesis for each document");
        if self.generation.num_return_sequences == 1 {
            sequences.clear();
        }
        Ok(Summary {
            best,
            document_tokens: source.input_ids.len(),
            truncated_tokens: source.truncated_tokens,
            positions_tiled: source.input_ids.len() > config.max_encoder_position_embeddings,
            summary_positions_tiled: longest > config.max_decoder_position_embeddings,
            sequences,
        })
    }

    fn sequence(&self, hypothesis: Hypothesis, attribution: Option<Vec<Attribution>>) -> Result<Sequence> {
        let text = match &self.tokenizer {
            Some(tokenizer) => tokenizer.decode(&hypothesis.tokens)?.trim().to_owned(),
            None => String::new(),
        };
        let Hypothesis { tokens, score, .. } = hypothesis;
        let GenerationConfig { eos_token_id, forced_eos_token_id, extractive, .. } = &self.generation;
        // Where end tokens are forced a longest summary has been given its own; not one of whole passages.
        let is_longest = tokens.len() == self.generation.max_new_tokens();
        let may_be_forced = !forced_eos_token_id.is_empty() && is_longest && !extractive;
        let ended = !may_be_forced && tokens.last().is_none_or(|token| eos_token_id.contains(token));
        Ok(Sequence { summary: text, tokens, score, ended, attribution })
    }
}

/// The documents that the encoder reads, end to end.
pub(crate) fn pack<'s>(sources: impl IntoIterator<Item = &'s Source>) -> Result<Documents> {
    let parts = sources.into_iter().map(|source| (source.input_ids.as_slice(), source.global_positions.as_slice()));
    Ok(Documents::new(parts)?)
}
