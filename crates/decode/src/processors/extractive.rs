//! Summaries that are made of the document's own passages.

use epitome_data::Extracts;

use super::LogitsProcessor;
use crate::log_softmax::log_softmax;
use crate::{Document, GenerationConfig};

/// The summaries of a document that `extractive` permits.
#[must_use]
pub fn permitted_extracts<'a>(config: &'a GenerationConfig, document: &Document<'a>) -> Extracts<'a> {
    let bos = config.forced_bos_token_id.unwrap_or(config.bos_token_id);
    Extracts::new(document.encoder_ids, document.passages, bos, &config.eos_token_id, config.max_length)
}

/// `extractive`: the model only chooses passages of the document. The scores of what it may choose become log-probabilities
/// that sum to one, as training by choices has them, so that a beam does not pay for tokens that leave no choice.
impl LogitsProcessor for Extracts<'_> {
    fn process(&self, tokens: &[u32], scores: &mut [f32]) {
        let permitted = self.permitted(tokens);
        let mut kept: Vec<f32> = permitted.iter().map(|&token| scores[token as usize]).collect();
        if kept.iter().all(|&score| score == f32::NEG_INFINITY) {
            // The least length forbids the end, but nothing else is left: no passage, or no room for one.
            let ends = permitted.iter().zip(&mut kept).filter(|(token, _)| self.is_end(**token));
            ends.for_each(|(_, score)| *score = 0.0);
        }
        // Where there is no score to choose by, none is made up.
        let _ = log_softmax(&mut kept);
        scores.fill(f32::NEG_INFINITY);
        for (token, score) in permitted.into_iter().zip(kept) {
            scores[token as usize] = score;
        }
    }
}
