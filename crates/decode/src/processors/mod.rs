//! What is done to the scores of the next token before the best is chosen: one small struct for each rule.
//!
//! Beam search gives them log-probabilities, greedy search gives them logits (as `transformers` does); nothing is
//! renormalised afterwards but what an extractive search may choose.

mod bad_words;
mod extractive;
mod forced;
mod length;
mod ngram;
mod repetition;

pub use bad_words::NoBadWords;
pub use extractive::permitted_extracts;
pub use forced::{ForcedBosToken, ForcedEosToken};
pub use length::MinLength;
pub use ngram::{EncoderNoRepeatNGram, NoRepeatNGram};
pub use repetition::{EncoderRepetitionPenalty, RepetitionPenalty};

use crate::{Document, GenerationConfig};

/// A rule about the next token.
pub trait LogitsProcessor: Send + Sync {
    /// Changes `scores` (one for each entry of the vocabulary) of the token that follows `tokens`, which begin with the
    /// decoder start token. A forbidden token's score becomes minus infinity.
    fn process(&self, tokens: &[u32], scores: &mut [f32]);

    /// The tokens that may not follow `tokens`, if forbidding them is all that the rule does there; `None` if it may do more.
    fn forbidden(&self, tokens: &[u32]) -> Option<Vec<u32>> {
        let _ = tokens;
        None
    }
}

/// The rules that hold for one document, in the order in which they are applied.
pub struct LogitsProcessors<'a>(Vec<Box<dyn LogitsProcessor + 'a>>);

fn boxed<'a>(rule: impl LogitsProcessor + 'a) -> Box<dyn LogitsProcessor + 'a> {
    Box::new(rule)
}

impl<'a> LogitsProcessors<'a> {
    /// The rules that `config` asks for, in the order of `transformers`: encoder repetition penalty, repetition penalty,
    /// repeated n-grams, n-grams of the document, bad words, least length, forced first token, forced last token. Summaries
    /// made of the document's passages obey that instead of the rules about n-grams and words.
    #[must_use]
    pub fn new(config: &'a GenerationConfig, document: &Document<'a>) -> Self {
        let mut rules: Vec<Box<dyn LogitsProcessor + 'a>> = Vec::new();
        if config.encoder_repetition_penalty != 1.0 {
            rules
                .push(Box::new(EncoderRepetitionPenalty::new(config.encoder_repetition_penalty, document.encoder_ids)));
        }
        if config.repetition_penalty != 1.0 {
            rules.push(Box::new(RepetitionPenalty::new(config.repetition_penalty)));
        }
        let least_length = (config.min_length > 0).then(|| MinLength::new(config.min_length, &config.eos_token_id));
        if config.extractive {
            // Rules that may forbid a token inside a passage would leave it broken.
            rules.extend(least_length.map(boxed));
            rules.push(Box::new(permitted_extracts(config, document)));
        } else {
            if config.no_repeat_ngram_size > 0 {
                rules.push(Box::new(NoRepeatNGram::new(config.no_repeat_ngram_size)));
            }
            if config.encoder_no_repeat_ngram_size > 0 {
                let size = config.encoder_no_repeat_ngram_size;
                rules.push(Box::new(EncoderNoRepeatNGram::new(size, document.encoder_ids)));
            }
            if !config.bad_words_ids.is_empty() {
                rules.push(Box::new(NoBadWords::new(&config.bad_words_ids, &config.eos_token_id)));
            }
            rules.extend(least_length.map(boxed));
        }
        if let Some(token) = config.forced_bos_token_id {
            rules.push(Box::new(ForcedBosToken::new(token)));
        }
        if !config.forced_eos_token_id.is_empty() {
            rules.push(Box::new(ForcedEosToken::new(config.max_length, &config.forced_eos_token_id)));
        }
        Self(rules)
    }

    /// Whether no rule holds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl LogitsProcessor for LogitsProcessors<'_> {
    fn process(&self, tokens: &[u32], scores: &mut [f32]) {
        for rule in &self.0 {
            rule.process(tokens, scores);
        }
    }

    fn forbidden(&self, tokens: &[u32]) -> Option<Vec<u32>> {
        let each: Option<Vec<Vec<u32>>> = self.0.iter().map(|rule| rule.forbidden(tokens)).collect();
        let mut all = each?.concat();
        all.sort_unstable();
        all.dedup();
        Some(all)
    }
}

/// Sets the scores of `tokens` to minus infinity.
fn forbid(tokens: &[u32], scores: &mut [f32]) {
    for &token in tokens {
        // A document may hold ids that the decoder cannot write, when tables differ in size.
        if let Some(score) = scores.get_mut(token as usize) {
            *score = f32::NEG_INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of eight tokens a rule forbids after `tokens`.
    #[track_caller]
    fn check(rule: &impl LogitsProcessor, tokens: &[u32], forbidden: &[u32]) {
        let mut scores = [-1.0; 8];
        rule.process(tokens, &mut scores);
        let found: Vec<u32> = (0..8).filter(|&token| scores[token as usize] == f32::NEG_INFINITY).collect();
        assert_eq!(found, forbidden, "after {tokens:?}");
        // What a rule says that it forbids is what it forbids; no more is done then.
        if let Some(said) = rule.forbidden(tokens) {
            let mut again = [-1.0; 8];
            forbid(&said, &mut again);
            assert_eq!(again, scores, "after {tokens:?}");
        }
    }

    #[test]
    fn repeated_ngrams() {
        check(&NoRepeatNGram::new(1), &[2, 0, 5], &[0, 2, 5]);
        check(&NoRepeatNGram::new(2), &[2], &[]);
        check(&NoRepeatNGram::new(2), &[2, 4, 3, 2], &[4]);
        check(&NoRepeatNGram::new(2), &[2, 4, 2, 5, 2], &[4, 5]);
        check(&NoRepeatNGram::new(3), &[2, 4, 3, 2, 4], &[3]);
        check(&NoRepeatNGram::new(3), &[2, 4, 3, 4], &[]);
        check(&NoRepeatNGram::new(9), &[2, 4, 3, 4], &[]);
    }

    #[test]
    fn ngrams_of_the_document() {
        let document = [2, 4, 3, 4, 6, 4, 70];
        check(&EncoderNoRepeatNGram::new(1, &document), &[0], &[2, 3, 4, 6]);
        check(&EncoderNoRepeatNGram::new(2, &document), &[0, 4], &[3, 6]);
        check(&EncoderNoRepeatNGram::new(3, &document), &[4], &[]);
        check(&EncoderNoRepeatNGram::new(3, &document), &[0, 3, 4], &[6]);
        check(&EncoderNoRepeatNGram::new(8, &document), &[2, 4, 3, 4, 6, 4, 70], &[]);
    }

    #[test]
    fn bad_words() {
        let words = [vec![3], vec![2], vec![4, 5], vec![0, 4, 6], vec![4, 2]];
        let rule = NoBadWords::new(&words, &[2]);
        check(&rule, &[0], &[3]);
        check(&rule, &[0, 4], &[2, 3, 5]);
        check(&rule, &[1, 0, 4], &[2, 3, 5, 6]);
        check(&rule, &[1, 0, 4, 1], &[3]);
        check(&NoBadWords::new(&[vec![0, 4]], &[2]), &[0], &[]);
    }

    #[test]
    fn least_length_and_forced_tokens() {
        check(&MinLength::new(3, &[2, 7]), &[0, 1], &[2, 7]);
        check(&MinLength::new(3, &[2, 7]), &[0, 1, 1], &[]);
        check(&ForcedBosToken::new(5), &[0], &[0, 1, 2, 3, 4, 6, 7]);
        check(&ForcedBosToken::new(5), &[0, 5], &[]);
        check(&ForcedEosToken::new(4, &[2, 3]), &[0, 1], &[]);
        check(&ForcedEosToken::new(4, &[2, 3]), &[0, 1, 1], &[0, 1, 4, 5, 6, 7]);
    }

    #[test]
    fn penalties_act_once_on_each_token_and_on_both_signs() {
        let mut scores = [-1.0, 4.0, 0.0, -3.0];
        RepetitionPenalty::new(2.0).process(&[0, 1, 1, 0, 1], &mut scores);
        assert_eq!(scores, [-2.0, 2.0, 0.0, -3.0]);
        let mut scores = [-1.0, 4.0, 0.0, -3.0];
        EncoderRepetitionPenalty::new(2.0, &[0, 1, 1, 90]).process(&[3], &mut scores);
        assert_eq!(scores, [-0.5, 8.0, 0.0, -3.0]);
    }
}
