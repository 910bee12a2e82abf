//! The result slots of a document.

use crate::{EarlyStopping, GenerationConfig, Hypothesis};

/// The score of a slot that is still empty.
const EMPTY: f32 = -1e9;

/// `sum / length ^ length_penalty`: the score of a hypothesis of `length` tokens.
pub(crate) fn normalized(sum: f32, length: usize, length_penalty: f64) -> f32 {
    sum / (length as f64).powf(length_penalty) as f32
}

/// The best finished hypotheses of a document, at most one for each beam, best first.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    slots: Vec<Hypothesis>,
}

impl Finished {
    /// Lets a hypothesis compete for a slot. Of equal scores the one that came first is ahead.
    pub(crate) fn offer(&mut self, hypothesis: Hypothesis, config: &GenerationConfig) {
        let place = self.slots.partition_point(|slot| slot.score >= hypothesis.score);
        self.slots.insert(place, hypothesis);
        self.slots.truncate(config.num_beams);
    }

    /// Whether the search of the document ends after `length` generated tokens, `best_running` being the greatest sum of
    /// log-probabilities among the hypotheses that still run.
    pub(crate) fn ends_search(&self, best_running: f32, length: usize, config: &GenerationConfig) -> bool {
        let full = self.slots.len() == config.num_beams;
        if full && config.early_stopping == EarlyStopping::True {
            return true;
        }
        let longest = config.early_stopping == EarlyStopping::Never && config.length_penalty > 0.0;
        let length = if longest { config.max_new_tokens() } else { length };
        let worst = self.slots.last().filter(|_| full).map_or(EMPTY, |slot| slot.score);
        normalized(best_running, length, config.length_penalty) <= worst
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The best `count`, or as many as there are.
    pub(crate) fn into_best(mut self, count: usize) -> Vec<Hypothesis> {
        self.slots.truncate(count);
        self.slots
    }
}
