//! [`Objectives`]: what training asks of the model for each example: its summary, or something made from its document
//! alone, so that plain text teaches too.
//!
//! | module | objective |
//! |---|---|
//! | `denoise` | BART's: restore a passage whose spans were masked and whose sentences were shuffled (arXiv 1910.13461, section 2.2) |
//! | `gap_sentences` | PEGASUS's: write the principal sentences of a document (arXiv 1912.08777, section 3.1) |
//! | `sentences` | where sentences end, by tokens |
//!
//! Sentences and passages never reach across the border of two documents. A drawn source is never longer than what it was
//! drawn from, so limits of source lengths hold for it too.
//!
//! Every draw depends on the seed, the epoch and the example's index alone, so a resumed run sees what it would have seen.

mod denoise;
mod gap_sentences;
mod sentences;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::examples::Example;
use crate::random::SplitMix64;
use crate::tokenizer::{SpecialTokens, Tokenizer};

pub use denoise::Denoising;
pub use gap_sentences::GapSentences;
use sentences::SentenceTokens;

/// Keeps these draws apart from the shuffling of examples, which has the same seed and epoch.
const STREAM: u64 = 0x6f62_6a65_6374_6976;

/// How often each objective is drawn, relative to the others; one that is not named is not drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mixture {
    /// The record's summary.
    pub summarize: f64,
    /// A passage of the document, restored from a damaged copy.
    pub denoise: f64,
    /// The document's principal sentences.
    pub gap_sentences: f64,
}

impl Mixture {
    /// Summaries only.
    pub fn summaries() -> Self {
        Self { summarize: 1.0, denoise: 0.0, gap_sentences: 0.0 }
    }

    /// Whether anything but summaries is drawn.
    pub fn is_self_supervised(&self) -> bool {
        self.denoise > 0.0 || self.gap_sentences > 0.0
    }

    /// Whether every weight is a number from 0 and one is positive.
    pub fn is_valid(&self) -> bool {
        let weights = [self.summarize, self.denoise, self.gap_sentences];
        weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0) && weights.iter().any(|weight| *weight > 0.0)
    }
}

/// Makes what the model is trained on from tokenized examples.
#[derive(Clone, Debug)]
pub struct Objectives {
    mixture: Mixture,
    denoising: Denoising,
    gap_sentences: GapSentences,
    /// What documents are made of; none when only summaries are drawn.
    language: Option<Language>,
    seed: u64,
}

/// What the self-supervised objectives know of a vocabulary.
#[derive(Clone, Debug)]
struct Language {
    special: SpecialTokens,
    mask: u32,
    sentences: SentenceTokens,
}

impl Objectives {
    /// The objectives of a mixture, over the tokens of `tokenizer`.
    ///
    /// # Errors
    /// A self-supervised objective without a tokenizer, or with one that has no `<mask>`.
    pub fn new(
        mixture: Mixture,
        (denoising, gap_sentences): (Denoising, GapSentences),
        tokenizer: Option<&Tokenizer>,
        seed: u64,
    ) -> Result<Self> {
        let language = match tokenizer {
            _ if !mixture.is_self_supervised() => None,
            None => return Err(Error::ObjectiveNeeds("a tokenizer")),
            Some(tokenizer) => Some(Language {
                special: tokenizer.special_tokens(),
                mask: tokenizer.special_tokens().mask.ok_or(Error::ObjectiveNeeds("a tokenizer with `<mask>`"))?,
                sentences: SentenceTokens::new(tokenizer),
            }),
        };
        Ok(Self { mixture, denoising, gap_sentences, language, seed })
    }

    /// The longest target, special tokens included, that the self-supervised objectives of the mixture may draw.
    pub fn longest_target(&self) -> usize {
        let Mixture { denoise, gap_sentences, .. } = self.mixture;
        let of = |weight: f64, tokens: usize| if weight > 0.0 { tokens + 2 } else { 0 };
        of(denoise, self.denoising.length).max(of(gap_sentences, self.gap_sentences.max_tokens))
    }

    /// The most tokens, of source and target together, that an example of such lengths may have when it is drawn.
    pub fn most_tokens(&self, source_length: usize, target_length: usize) -> usize {
        source_length + self.most_target_tokens(source_length, target_length)
    }

    /// The longest target that an example of such lengths may have when it is drawn.
    pub fn most_target_tokens(&self, source_length: usize, target_length: usize) -> usize {
        // What is drawn is a part of the document: with `<s>` and `</s>` no longer than the source.
        target_length.max(self.longest_target().min(source_length))
    }

    /// The longest source that an example of such lengths may have when it is drawn.
    pub fn most_source_tokens(&self, source_length: usize, target_length: usize) -> usize {
        let Mixture { summarize, denoise, gap_sentences } = self.mixture;
        let whole = gap_sentences > 0.0 || denoise == 0.0 || (summarize > 0.0 && target_length > 0);
        // Damaged passages are not longer than whole ones, but for a mask in an empty place.
        if whole { source_length } else { source_length.min(2 * self.denoising.length + 2) }
    }

    /// What `example`, the one at `index`, teaches in `epoch`.
    pub fn draw(&self, example: Example, index: usize, epoch: u64) -> Example {
        let Some(language) = &self.language else { return example };
        let mut random = SplitMix64::new(self.seed ^ STREAM ^ (index as u64).rotate_left(32), epoch);
        let Mixture { denoise, gap_sentences, .. } = self.mixture;
        // Plain text has no summary to draw.
        let summarize = if example.labels.is_empty() { 0.0 } else { self.mixture.summarize };
        let drawn = random.unit() * (summarize + denoise + gap_sentences);
        if drawn < summarize {
            return example;
        }
        let body = Body::new(&example, language.special.eos);
        if drawn < summarize + denoise {
            let (source, target) = self.denoising.draw(&body, language, &mut random);
            language.example(&example, &[language.special.bos], (source, Vec::new()), target)
        } else {
            let (source, target) = self.gap_sentences.draw(&body, language, &mut random);
            language.example(&example, &example.input_ids[..example.leading_tokens], source, target)
        }
    }
}

/// The documents of a source, without what leads them and the `</s>` at the end.
struct Body<'a> {
    ids: &'a [u32],
    /// Where documents are separated: positions in `ids`, ascending.
    separators: Vec<usize>,
}

impl<'a> Body<'a> {
    fn new(example: &'a Example, eos: u32) -> Self {
        let first = example.leading_tokens.min(example.input_ids.len());
        let ids = &example.input_ids[first..];
        let ids = ids.strip_suffix(&[eos]).unwrap_or(ids);
        let inside = example.global_positions.iter().filter_map(|position| position.checked_sub(first));
        Self { ids, separators: inside.filter(|&position| position < ids.len()).collect() }
    }

    /// The documents in order, some of which may be empty.
    fn documents(&self) -> impl Iterator<Item = Range<usize>> {
        let starts = std::iter::once(0).chain(self.separators.iter().map(|position| position + 1));
        starts.zip(self.separators.iter().copied().chain([self.ids.len()])).map(|(start, end)| start..end)
    }
}

impl Language {
    /// What leads and the source before `</s>`, and the target as any summary. What leads attends globally, and so do the
    /// positions that come with the source.
    fn example(
        &self,
        from: &Example,
        leading: &[u32],
        (source, global): (Vec<u32>, Vec<usize>),
        target: Vec<u32>,
    ) -> Example {
        let SpecialTokens { bos, eos, .. } = self.special;
        Example {
            id: from.id.clone(),
            location: from.location.clone(),
            input_ids: leading.iter().copied().chain(source).chain([eos]).collect(),
            leading_tokens: leading.len(),
            global_positions: (0..leading.len()).chain(global.iter().map(|at| leading.len() + at)).collect(),
            labels: [bos].into_iter().chain(target).chain([eos]).map(i64::from).collect(),
        }
    }
}
