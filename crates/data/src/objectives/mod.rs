//! [`Objectives`]: what training asks of the model for each example: its summary, or something else made from its
//! document, alone or with the summary, so that plain text teaches too.
//!
//! | module | objective |
//! |---|---|
//! | `denoise` | BART's: restore a passage whose spans were masked and whose sentences were shuffled (arXiv 1910.13461, section 2.2) |
//! | `gap_sentences` | PEGASUS's: write the principal sentences of a document (arXiv 1912.08777, section 3.1) |
//! | `extract` | the document's own passages that match the summary best |
//!
//! `prompts` lead a source by the style and the length that are asked for. Where a sentence ends there are two answers:
//!
//! | module | what it finds, by tokens | for |
//! |---|---|---|
//! | `sentences` | an end at every full stop before white space | `denoise` and `gap_sentences`, for which a wrong end is noise |
//! | `token_text` | the passages that decoding has, which know abbreviations and join short sentences | `extract`, which must teach the choices of decoding |
//!
//! Sentences and passages never reach across the border of two documents. A drawn source is never longer than what it was
//! drawn from, but for its prompt.
//!
//! Every draw depends on the seed, the epoch and the example's index alone, so a resumed run sees what it would have seen.

mod denoise;
mod extract;
mod gap_sentences;
mod options;
mod prompts;
mod sentences;
mod token_text;

use std::ops::Range;

use crate::error::{Error, Result};
use crate::examples::Example;
use crate::extracts::Extracts;
use crate::passages::different;
use crate::random::{Draw, SplitMix64};
use crate::tokenizer::{SpecialTokens, Tokenizer};

pub use denoise::Denoising;
pub use extract::Extraction;
pub use gap_sentences::GapSentences;
pub use options::{Mixture, ObjectiveOptions};
use prompts::Prompter;
pub use prompts::Prompts;
use sentences::SentenceTokens;
use token_text::TokenText;

/// Keeps these draws apart from the shuffling of examples, which has the same seed and epoch.
const STREAM: u64 = 0x6f62_6a65_6374_6976;

/// Makes what the model is trained on from tokenized examples.
#[derive(Clone, Debug)]
pub struct Objectives {
    options: ObjectiveOptions,
    /// What documents are made of; none when only summaries are drawn, without prompts.
    language: Option<Language>,
    seed: u64,
}

/// What the objectives know of a vocabulary.
#[derive(Clone, Debug)]
struct Language {
    special: SpecialTokens,
    sentences: SentenceTokens,
    /// For extracts only.
    text: Option<TokenText>,
    prompter: Option<Prompter>,
}

impl Objectives {
    /// The objectives of a mixture, over the tokens of `tokenizer`.
    ///
    /// # Errors
    /// Anything but summaries alone without a tokenizer, a self-supervised objective with one that has no `<mask>`, or extracts
    /// with one that is not byte-level.
    pub fn new(options: ObjectiveOptions, tokenizer: Option<&Tokenizer>, seed: u64) -> Result<Self> {
        let (mixture, prompts) = (options.mixture, &options.prompts);
        let language = match tokenizer {
            _ if !options.need_text() => None,
            None => return Err(Error::ObjectiveNeeds("a tokenizer")),
            Some(tokenizer) => {
                let special = tokenizer.special_tokens();
                if mixture.is_self_supervised() && special.mask.is_none() {
                    return Err(Error::ObjectiveNeeds("a tokenizer with `<mask>`"));
                }
                Some(Language {
                    special,
                    sentences: SentenceTokens::new(tokenizer),
                    text: (mixture.extract > 0.0).then(|| TokenText::new(tokenizer)).transpose()?,
                    prompter: prompts.are_used().then(|| Prompter::new(prompts.clone(), tokenizer)).transpose()?,
                })
            }
        };
        Ok(Self { options, language, seed })
    }

    /// The longest target, special tokens included, that the mixture may draw besides summaries.
    pub fn longest_target(&self) -> usize {
        let ObjectiveOptions { mixture, denoise, gap_sentences, extract, .. } = &self.options;
        let of = |weight: f64, tokens: usize| if weight > 0.0 { tokens + 2 } else { 0 };
        of(mixture.denoise, denoise.length)
            .max(of(mixture.gap_sentences, gap_sentences.max_tokens))
            .max(of(mixture.extract, extract.max_tokens))
    }

    /// The most tokens, of source and target together, that an example of such lengths may have when it is drawn.
    pub fn most_tokens(&self, source_length: usize, target_length: usize) -> usize {
        self.longest_prompt() + source_length + self.most_target_tokens(source_length, target_length)
    }

    /// The longest target that an example of such lengths may have when it is drawn.
    pub fn most_target_tokens(&self, source_length: usize, target_length: usize) -> usize {
        // What is drawn is a part of the document: with `<s>` and `</s>` no longer than the source.
        target_length.max(self.longest_target().min(source_length))
    }

    /// The longest source that an example of such lengths may have when it is drawn.
    pub fn most_source_tokens(&self, source_length: usize, target_length: usize) -> usize {
        let ObjectiveOptions { mixture, denoise, .. } = &self.options;
        let supervised = mixture.is_supervised() && target_length > 0;
        if supervised || mixture.gap_sentences > 0.0 || mixture.denoise == 0.0 {
            return self.longest_prompt() + source_length;
        }
        // Damaged passages are not longer than whole ones.
        source_length.min(denoise.length + 2)
    }

    fn longest_prompt(&self) -> usize {
        self.language.as_ref().and_then(|language| language.prompter.as_ref()).map_or(0, Prompter::longest)
    }

    /// What `example`, the one at `index`, teaches in `epoch`.
    pub fn draw(&self, example: Example, index: usize, epoch: u64) -> Example {
        let Some(language) = &self.language else { return example };
        let mut random = SplitMix64::for_stream(self.seed ^ STREAM ^ (index as u64).rotate_left(32), epoch);
        let ObjectiveOptions { mixture, denoise, gap_sentences, extract, .. } = &self.options;
        // Plain text has no summary to draw.
        let supervised = if example.labels.is_empty() { 0.0 } else { 1.0 };
        let (summarize, extracting) = (supervised * mixture.summarize, supervised * mixture.extract);
        let drawn = random.unit() * (summarize + extracting + mixture.denoise + mixture.gap_sentences);
        if drawn < summarize {
            return language.lead(example, Prompter::summary_style, &mut random);
        }
        let body = Body::new(&example, language.special.eos);
        let leading = &example.input_ids[..example.leading_tokens];
        if drawn < summarize + extracting {
            let passages = language.text.as_ref().map_or_else(Vec::new, |text| body.passages(text));
            let eos = [language.special.eos];
            let extracts = Extracts::new(body.ids, &passages, language.special.bos, &eos, usize::MAX);
            let target = extract.choose(&extracts, &body_of(&example.labels, language.special));
            let source = (body.ids.to_vec(), body.separators.clone());
            let mut example = language.example(&example, leading, source, target);
            if extract.choice_weight > 0.0 {
                extract.compare_choices(&mut example, &extracts);
            }
            language.lead(example, |prompter, _, _| prompter.extract_style(), &mut random)
        } else if drawn < summarize + extracting + mixture.denoise {
            let (source, target) = denoise.draw(&body, language, &mut random);
            language.example(&example, &[language.special.bos], (source, Vec::new()), target)
        } else {
            let (source, target) = gap_sentences.draw(&body, language, &mut random);
            language.example(&example, leading, source, target)
        }
    }
}

/// The tokens of a summary without those around it and those that the loss ignores.
fn body_of(labels: &[i64], special: SpecialTokens) -> Vec<u32> {
    let tokens = labels.iter().filter_map(|&label| u32::try_from(label).ok());
    tokens.filter(|&token| ![special.bos, special.eos].contains(&token)).collect()
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

    /// The passages of all documents that an extract may be made of, in order: those of
    /// [`Source::different_passages`](crate::Source::different_passages).
    fn passages(&self, text: &TokenText) -> Vec<Range<usize>> {
        let passages = self.split(|ids| text.passages(ids)).into_iter();
        different(passages.map(|passage| (text.trimmed(&self.ids[passage.clone()]), passage)))
    }

    /// The sentences of all documents, in order. Between them there is nothing but separators.
    fn sentences(&self, language: &Language) -> Vec<Range<usize>> {
        self.split(|ids| language.sentences.split(ids))
    }

    fn split(&self, split: impl Fn(&[u32]) -> Vec<Range<usize>>) -> Vec<Range<usize>> {
        let split = |document: Range<usize>| {
            let parts = split(&self.ids[document.clone()]);
            parts.into_iter().map(move |part| document.start + part.start..document.start + part.end)
        };
        self.documents().flat_map(split).collect()
    }
}

impl Language {
    /// What stands for tokens that are hidden.
    fn mask(&self) -> u32 {
        self.special.mask.expect("objectives that hide tokens are made with a vocabulary that has `<mask>`")
    }

    /// The example with a prompt, where there are any.
    fn lead(
        &self,
        example: Example,
        style: impl for<'a> Fn(&'a Prompter, &Example, &mut SplitMix64) -> &'a str,
        random: &mut SplitMix64,
    ) -> Example {
        match &self.prompter {
            Some(prompter) => {
                let style = style(prompter, &example, random);
                prompter.lead(example, style, (self.special, &self.sentences), random)
            }
            None => example,
        }
    }

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
            choices: Vec::new(),
            weights: Vec::new(),
            labels: [bos].into_iter().chain(target).chain([eos]).map(i64::from).collect(),
        }
    }
}
