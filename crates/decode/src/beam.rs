//! Beam search, with the results of `transformers` 4.50 and later for each document on its own.

use rayon::prelude::*;

use crate::best::{Row, best_permitted};
use crate::candidates::{Candidate, best_of_beam, best_of_document, rank};
use crate::finished::{Finished, hypothesis};
use crate::log_softmax::log_softmax;
use crate::processors::{LogitsProcessor, LogitsProcessors};
use crate::search::{Search, search};
use crate::step::step;
use crate::{Document, Error, GenerationConfig, Hypothesis, Progress, Result, Stepper};

/// Finds the best `config.num_return_sequences` summaries of each document, best first.
///
/// In each step a document's candidates are its beams times the vocabulary, ranked by accumulated log-probability, then
/// beam, then token id. The best `num_beams` of them that end (with an end token, or at the greatest length) compete for
/// `num_beams` result slots by their length-normalised score; an ending candidate of lower rank is dropped. The best
/// `num_beams` that do not end run on. A document leaves the batch as soon as its search has ended
/// ([`EarlyStopping`](crate::EarlyStopping)), and nothing in a document's search depends on another document.
///
/// Log-probabilities and their sums are `f32`. A document with few permitted continuations may have fewer finished
/// hypotheses than asked for, but has at least one: where the rules permit no token at all before anything is finished, that
/// is the best unfinished one. (`transformers` fills the missing ones with continuations scored around -1e9.)
///
/// # Errors
/// When the stepper fails or returns logits that are not finite, or an option names a token outside the vocabulary.
pub fn beam_search<S: Stepper + ?Sized>(
    stepper: &mut S,
    documents: &[Document],
    config: &GenerationConfig,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Vec<Hypothesis>>> {
    search::<BeamSearch, S>(stepper, documents, config, progress)
}

/// A hypothesis that still runs.
struct Beam {
    /// The decoder start token and what was generated.
    tokens: Vec<u32>,
    /// Sum of the processed log-probabilities of the generated tokens.
    score: f32,
}

impl Beam {
    fn last(&self) -> u32 {
        *self.tokens.last().expect("a beam begins with the decoder start token")
    }

    fn extended(&self, candidate: &Candidate) -> Self {
        let mut tokens = Vec::with_capacity(self.tokens.len() + 1);
        tokens.extend_from_slice(&self.tokens);
        tokens.push(candidate.token);
        Self { tokens, score: candidate.score }
    }
}

/// The search of one document.
struct BeamSearch<'a> {
    /// Index of the document in the batch.
    index: usize,
    processors: LogitsProcessors<'a>,
    /// Running hypotheses, best first, one row of the stepper each. None when the search has ended.
    beams: Vec<Beam>,
    finished: Finished,
}

impl<'a> Search<'a> for BeamSearch<'a> {
    fn new(index: usize, document: &Document<'a>, config: &'a GenerationConfig) -> Self {
        Self {
            index,
            processors: LogitsProcessors::new(config, document),
            // All beams would begin alike, so one is enough.
            beams: vec![Beam { tokens: vec![config.decoder_start_token_id], score: 0.0 }],
            finished: Finished::default(),
        }
    }

    fn advance<S: Stepper + ?Sized>(
        stepper: &mut S,
        active: &mut [Self],
        logits: &mut Vec<f32>,
        config: &GenerationConfig,
    ) -> Result<Vec<usize>> {
        if let Some(candidates) = best_candidates(stepper, active, config)? {
            return Ok(advance(active, candidates, config));
        }
        let last: Vec<u32> = active.iter().flat_map(|search| &search.beams).map(Beam::last).collect();
        step(stepper, &last, logits)?;
        let candidates = candidates(logits, stepper.vocab_size(), active, config)?;
        Ok(advance(active, candidates, config))
    }

    fn index(&self) -> usize {
        self.index
    }

    fn rows(&self) -> usize {
        self.beams.len()
    }

    fn into_best(self, config: &GenerationConfig) -> Vec<Hypothesis> {
        self.finished.into_best(config.num_return_sequences)
    }
}

impl BeamSearch<'_> {
    /// Takes the ranked candidates of a step; returns which beam each new beam continues.
    fn take(&mut self, candidates: &[Candidate], config: &GenerationConfig) -> Vec<usize> {
        let generated = self.beams[0].tokens.len();
        let at_limit = generated >= config.max_new_tokens();
        let mut beams = Vec::new();
        let mut parents = Vec::new();
        for (rank, candidate) in candidates.iter().enumerate() {
            let ends = at_limit || config.eos_token_id.contains(&candidate.token);
            if ends && rank < config.num_beams {
                let Beam { tokens, score } = self.beams[candidate.beam].extended(candidate);
                self.finished.offer(hypothesis(tokens, score, config), config);
            } else if !ends && beams.len() < config.num_beams {
                beams.push(self.beams[candidate.beam].extended(candidate));
                parents.push(candidate.beam);
            }
        }
        // Where nothing runs on the search has ended, whatever the rule would make of no score.
        let ended = |best: &Beam| self.finished.ends_search(best.score, generated, config);
        if beams.first().is_none_or(ended) {
            if self.finished.is_empty() {
                let Beam { tokens, score } = self.beams.swap_remove(0);
                self.finished.offer(hypothesis(tokens, score, config), config);
            }
            self.beams.clear();
            return Vec::new();
        }
        self.beams = beams;
        parents
    }
}

/// The best candidates of every row, if the stepper finds them.
fn best_candidates<S: Stepper + ?Sized>(
    stepper: &mut S,
    active: &[BeamSearch],
    config: &GenerationConfig,
) -> Result<Option<Vec<Vec<Candidate>>>> {
    let beams = || active.iter().flat_map(|search| search.beams.iter().map(move |beam| (search, beam)));
    let rows: Vec<Row> = beams()
        .map(|(search, beam)| Row { document: search.index, processors: &search.processors, tokens: &beam.tokens })
        .collect();
    let count = candidates_per_document(config);
    let Some(best) = best_permitted(stepper, &rows, count)? else { return Ok(None) };
    let indices = active.iter().flat_map(|search| 0..search.beams.len());
    let found = best.into_iter().zip(indices).zip(beams()).map(|((best, index), (_, beam))| {
        rank(best.into_iter().map(|(token, score)| Candidate { score: score + beam.score, beam: index, token }), count)
    });
    Ok(Some(found.collect()))
}

/// The best candidates of every row, rows in parallel. `logits` `[rows, V]` become processed log-probabilities.
fn candidates(
    logits: &mut [f32],
    vocab_size: usize,
    active: &[BeamSearch],
    config: &GenerationConfig,
) -> Result<Vec<Vec<Candidate>>> {
    let rows: Vec<(&BeamSearch, usize)> =
        active.iter().flat_map(|search| (0..search.beams.len()).map(move |beam| (search, beam))).collect();
    let count = candidates_per_document(config);
    // Collected with their errors: rayon's collecting into one result gives any of them, not the first.
    let found: Vec<Result<Vec<Candidate>>> = logits
        .par_chunks_exact_mut(vocab_size)
        .zip(&rows)
        .map(|(scores, &(search, index))| {
            let beam = &search.beams[index];
            log_softmax(scores).ok_or(Error::Logits { document: search.index, position: beam.tokens.len() })?;
            search.processors.process(&beam.tokens, scores);
            Ok(best_of_beam(scores, beam.score, index, count))
        })
        .collect();
    found.into_iter().collect()
}

/// Enough that `num_beams` candidates that do not end are always among them: each beam has one that ends for each end token.
fn candidates_per_document(config: &GenerationConfig) -> usize {
    config.num_beams.saturating_mul((1 + config.eos_token_id.len()).max(2))
}

/// Lets every document take its rows' candidates; returns which row each row of the next step continues.
fn advance(active: &mut [BeamSearch], candidates: Vec<Vec<Candidate>>, config: &GenerationConfig) -> Vec<usize> {
    let count = candidates_per_document(config);
    let mut candidates = candidates.into_iter();
    let mut first_row = 0;
    let mut parents = Vec::new();
    for search in active {
        let rows = search.beams.len();
        let best = best_of_document(candidates.by_ref().take(rows), count);
        parents.extend(search.take(&best, config).into_iter().map(|beam| first_row + beam));
        first_row += rows;
    }
    parents
}
