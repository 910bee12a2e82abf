//! Greedy search: always the best next token.

use rayon::prelude::*;

use crate::best::{Row, best_permitted};
use crate::finished::hypothesis;
use crate::log_softmax::{Normalizer, greatest};
use crate::processors::{LogitsProcessor, LogitsProcessors};
use crate::search::{Search, search};
use crate::step::step;
use crate::{Document, Error, GenerationConfig, Hypothesis, Progress, Result, Stepper};

/// Finds one summary of each document by taking the token with the greatest processed **logit**, the first of equals, until
/// an end token or the greatest length. The outer vector has one entry a document, each with one hypothesis.
///
/// As in `transformers`, the logits processors see logits here and log-probabilities in beam search, so that a repetition
/// penalty acts differently. The score is defined as in beam search: each chosen token's log-probability after the
/// processors (0 for a forced token), summed and divided by length ^ `length_penalty`, which has no other influence. Where
/// the rules permit no token at all, the summary ends. (`transformers` then writes token 0.)
///
/// # Errors
/// When the stepper fails or returns logits that are not finite, or an option names a token outside the vocabulary.
pub fn greedy_search<S: Stepper + ?Sized>(
    stepper: &mut S,
    documents: &[Document],
    config: &GenerationConfig,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Vec<Hypothesis>>> {
    search::<GreedySearch, S>(stepper, documents, config, progress)
}

/// The search of one document.
struct GreedySearch<'a> {
    /// Index of the document in the batch.
    index: usize,
    processors: LogitsProcessors<'a>,
    /// The decoder start token and what was generated.
    tokens: Vec<u32>,
    /// Sum of the processed log-probabilities of the generated tokens.
    score: f32,
    ended: bool,
}

impl<'a> Search<'a> for GreedySearch<'a> {
    fn new(index: usize, document: &Document<'a>, config: &'a GenerationConfig) -> Self {
        let processors = LogitsProcessors::new(config, document);
        Self { index, processors, tokens: vec![config.decoder_start_token_id], score: 0.0, ended: false }
    }

    fn advance<S: Stepper + ?Sized>(
        stepper: &mut S,
        active: &mut [Self],
        logits: &mut Vec<f32>,
        config: &GenerationConfig,
    ) -> Result<Vec<usize>> {
        let rows: Vec<Row> = active.iter().map(Self::row).collect();
        if let Some(best) = best_permitted(stepper, &rows, 1)? {
            let taken = active.iter_mut().zip(best);
            taken.for_each(|(search, best)| search.take(best.first().copied(), config));
        } else {
            let last: Vec<u32> = active.iter().map(Self::last).collect();
            step(stepper, &last, logits)?;
            // As in beam search, the first error is the one that is named.
            let advanced: Vec<Result<()>> = logits
                .par_chunks_exact_mut(stepper.vocab_size())
                .zip(&mut *active)
                .map(|(logits, search)| search.read(logits, config))
                .collect();
            advanced.into_iter().collect::<Result<()>>()?;
        }
        Ok((0..active.len()).filter(|&row| !active[row].ended).collect())
    }

    fn index(&self) -> usize {
        self.index
    }

    fn rows(&self) -> usize {
        usize::from(!self.ended)
    }

    fn into_best(self, config: &GenerationConfig) -> Vec<Hypothesis> {
        vec![hypothesis(self.tokens, self.score, config)]
    }
}

impl GreedySearch<'_> {
    fn last(&self) -> u32 {
        *self.tokens.last().expect("a sequence begins with the decoder start token")
    }

    fn row(&self) -> Row<'_> {
        Row { document: self.index, processors: &self.processors, tokens: &self.tokens }
    }

    /// Takes the logits of the next token.
    fn read(&mut self, logits: &mut [f32], config: &GenerationConfig) -> Result<()> {
        let position = self.tokens.len();
        let normalizer = Normalizer::of(logits).ok_or(Error::Logits { document: self.index, position })?;
        let mut log_probs: Vec<f32> = logits.iter().map(|&logit| normalizer.log_probability(logit)).collect();
        self.processors.process(&self.tokens, logits);
        self.processors.process(&self.tokens, &mut log_probs);
        let best = greatest(logits);
        let token = logits.iter().position(|&logit| logit == best && best > f32::NEG_INFINITY);
        self.take(token.map(|token| (token as u32, log_probs[token])), config);
        Ok(())
    }

    /// Takes the next token and its log-probability; none if none is permitted.
    fn take(&mut self, next: Option<(u32, f32)>, config: &GenerationConfig) {
        let Some((token, log_probability)) = next else {
            self.ended = true;
            return;
        };
        self.score += log_probability;
        self.tokens.push(token);
        self.ended = self.tokens.len() >= config.max_length || config.eos_token_id.contains(&token);
    }
}
