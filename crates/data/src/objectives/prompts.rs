//! What a source is led by so that a user can ask for a style and a length.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sentences::SentenceTokens;
use crate::error::Result;
use crate::examples::Example;
use crate::random::{Draw, SplitMix64};
use crate::record::{Content, Record};
use crate::tokenizer::{SpecialTokens, Tokenizer};

/// Prompts of training examples, such as `digest, 350 words`: where a query stands, and before it if there is one. The style
/// and the length of a summary are each given with a probability, so that a model learns to do with both, either and none;
/// extracts are always asked for by their style, so that they are not what a model writes unasked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prompts {
    /// How often each part is given, but for the style of extracts.
    pub probability: f64,
    /// Whether the number of words is a part: that of the target, to tens below 100 and to fifties above.
    pub words: bool,
    /// The style of summaries by file: of the records of every file whose path contains the key.
    pub files: BTreeMap<String, String>,
    /// The style of extracts.
    pub extract: String,
}

impl Prompts {
    /// Checks the numbers.
    ///
    /// # Errors
    /// A message that names the field and what it must be.
    pub fn validate(&self) -> std::result::Result<(), String> {
        if !(0.0..=1.0).contains(&self.probability) {
            return Err(format!("probability is {}, outside 0..=1", self.probability));
        }
        Ok(())
    }

    /// The first key of `files` that is part of none of the paths of the training files, patterns among which are expanded.
    pub fn unused_file<'p>(&self, paths: impl Iterator<Item = &'p Path>) -> Option<&str> {
        let paths: Vec<_> = paths.map(Path::to_string_lossy).collect();
        self.files.keys().map(String::as_str).find(|key| !paths.iter().any(|path| path.contains(key)))
    }

    /// Whether any example may get a prompt.
    pub fn are_used(&self) -> bool {
        !self.extract.is_empty() || (self.probability > 0.0 && (self.words || !self.files.is_empty()))
    }

    /// Puts a prompt before the record's query, as training does. False, and nothing changed, for a record of token ids.
    #[must_use]
    pub fn lead(record: &mut Record, prompt: &str) -> bool {
        let Content::Text { query, .. } = &mut record.content else { return false };
        *query = Some(match query.take().filter(|query| !query.is_empty()) {
            Some(query) => format!("{prompt}{SEPARATOR}{query}"),
            None => prompt.to_owned(),
        });
        true
    }
}

/// Between a prompt and a query: tokenizers never join it with what follows.
const SEPARATOR: &str = "\n";

/// The most words that a prompt asks for.
const MOST_WORDS: usize = 5_000;

/// Prompts as tokens, for one vocabulary.
#[derive(Clone, Debug)]
pub(super) struct Prompter {
    prompts: Prompts,
    /// By style and number of words, empty and 0 where it is not given.
    encoded: HashMap<(String, usize), Vec<u32>>,
    separator: Vec<u32>,
    /// Tokens that the longest adds to a source.
    longest: usize,
}

impl Prompter {
    pub(super) fn new(prompts: Prompts, tokenizer: &Tokenizer) -> Result<Self> {
        let styles = prompts.files.values().map(String::as_str).chain([prompts.extract.as_str(), ""]);
        let lengths = std::iter::once(0).chain((10..100).step_by(10)).chain((100..=MOST_WORDS).step_by(50));
        let mut encoded = HashMap::new();
        for style in styles {
            for words in lengths.clone().take(if prompts.words { usize::MAX } else { 1 }) {
                encoded.insert((style.to_owned(), words), tokenizer.encode(&text(style, words))?);
            }
        }
        let separator = tokenizer.encode(SEPARATOR)?;
        let longest = encoded.values().map(Vec::len).max().unwrap_or(0) + separator.len().max(1);
        Ok(Self { prompts, encoded, separator, longest })
    }

    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The style that an example's summary is to be asked for by.
    pub(super) fn summary_style(&self, example: &Example, random: &mut SplitMix64) -> &str {
        let style = self.prompts.files.iter().find(|(key, _)| example.location.file.contains(key.as_str()));
        style.filter(|_| self.draw(random)).map_or("", |(_, style)| style)
    }

    pub(super) fn extract_style(&self) -> &str {
        &self.prompts.extract
    }

    /// Whether a part is given.
    fn draw(&self, random: &mut SplitMix64) -> bool {
        random.unit() < self.prompts.probability
    }

    /// Leads the source of `example` by the style, if it is not empty, and perhaps the length of its target.
    pub(super) fn lead(
        &self,
        mut example: Example,
        style: &str,
        (special, sentences): (SpecialTokens, &SentenceTokens),
        random: &mut SplitMix64,
    ) -> Example {
        let words = if self.prompts.words && self.draw(random) { round(sentences.words(&example.labels)) } else { 0 };
        let prompt = &self.encoded[&(style.to_owned(), words)];
        if prompt.is_empty() {
            return example;
        }
        let end = if example.leading_tokens > 1 { self.separator.as_slice() } else { &[special.eos] };
        let added = prompt.len() + end.len();
        example.input_ids.splice(1..1, prompt.iter().chain(end).copied());
        let others = example.global_positions.iter().filter(|&&position| position > 0).map(|position| position + added);
        example.global_positions = (0..=added).chain(others).collect();
        example.leading_tokens += added;
        example
    }
}

/// A prompt as a user writes it.
fn text(style: &str, words: usize) -> String {
    match (style, words) {
        (style, 0) => style.to_owned(),
        ("", words) => format!("{words} words"),
        (style, words) => format!("{style}, {words} words"),
    }
}

fn round(words: usize) -> usize {
    let step = if words < 95 { 10 } else { 50 };
    ((words + step / 2) / step * step).clamp(10, MOST_WORDS)
}

#[cfg(test)]
mod tests {
    use super::round;

    #[test]
    fn lengths_are_round() {
        let rounded = [0, 4, 14, 15, 94, 95, 124, 125, 360, 100_000].map(round);
        assert_eq!(rounded, [10, 10, 10, 20, 90, 100, 100, 150, 350, 5_000]);
    }
}
