//! Penalties for tokens that a text already has.

use super::LogitsProcessor;

/// A negative score is multiplied by the penalty, another is divided by it.
fn penalize(score: f32, penalty: f32) -> f32 {
    if score < 0.0 { score * penalty } else { score / penalty }
}

fn distinct(tokens: &[u32]) -> Vec<u32> {
    let mut distinct = tokens.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

/// `repetition_penalty`: tokens that the sequence already has (the decoder start token included) become less likely when
/// the penalty is above 1, once each, however often they occurred.
pub struct RepetitionPenalty {
    penalty: f32,
}

impl RepetitionPenalty {
    /// `penalty` is greater than 0; 1 changes nothing.
    #[must_use]
    pub fn new(penalty: f64) -> Self {
        Self { penalty: penalty as f32 }
    }
}

impl LogitsProcessor for RepetitionPenalty {
    fn process(&self, tokens: &[u32], scores: &mut [f32]) {
        for token in distinct(tokens) {
            let score = &mut scores[token as usize];
            *score = penalize(*score, self.penalty);
        }
    }
}

/// `encoder_repetition_penalty`: tokens of the document become **more** likely when the penalty is above 1.
pub struct EncoderRepetitionPenalty {
    inverse: f32,
    encoder_ids: Vec<u32>,
}

impl EncoderRepetitionPenalty {
    /// `penalty` is greater than 0; 1 changes nothing.
    #[must_use]
    pub fn new(penalty: f64, encoder_ids: &[u32]) -> Self {
        Self { inverse: (1.0 / penalty) as f32, encoder_ids: distinct(encoder_ids) }
    }
}

impl LogitsProcessor for EncoderRepetitionPenalty {
    fn process(&self, _: &[u32], scores: &mut [f32]) {
        for &token in &self.encoder_ids {
            // A document may hold ids that the decoder cannot write, when tables differ in size.
            if let Some(score) = scores.get_mut(token as usize) {
                *score = penalize(*score, self.inverse);
            }
        }
    }
}
