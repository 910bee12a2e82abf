//! The result slots of a document.

use crate::{EarlyStopping, GenerationConfig, Hypothesis};

/// The score of a slot that is still empty.
const EMPTY: f32 = -1e9;

/// `sum / length ^ length_penalty`: the score of a hypothesis of `length` tokens.
fn normalized(sum: f32, length: usize, length_penalty: f64) -> f32 {
    sum / (length as f64).powf(length_penalty) as f32
}

/// What a search gives of a sequence: its tokens, of which the first is the decoder start token, without that, and the
/// `sum` of their log-probabilities as a score.
pub(crate) fn hypothesis(mut tokens: Vec<u32>, sum: f32, config: &GenerationConfig) -> Hypothesis {
    tokens.remove(0);
    let score = normalized(sum, tokens.len().max(1), config.length_penalty);
    Hypothesis { tokens, score }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GenerationOptions;

    /// Whether the search ends after 4 of at most 16 tokens, with two beams, these finished scores and this running sum.
    #[track_caller]
    fn check(early_stopping: EarlyStopping, length_penalty: f64, finished: &[f32], best_running: f32, ends: bool) {
        let options = GenerationOptions {
            num_beams: Some(2),
            max_new_tokens: Some(16),
            early_stopping: Some(early_stopping),
            length_penalty: Some(length_penalty),
            ..GenerationOptions::default()
        };
        let (config, _) = GenerationConfig::resolve(&[&options], 1024).expect("the options fit together");
        let mut slots = Finished::default();
        for &score in finished {
            slots.offer(Hypothesis { tokens: vec![2], score }, &config);
        }
        assert_eq!(slots.ends_search(best_running, 4, &config), ends);
    }

    #[test]
    fn the_search_ends_when_the_stopping_rule_says_so() {
        use EarlyStopping::{False, Never, True};
        // An empty slot can always be filled.
        check(False, 1.0, &[-0.1], -4.0, false);
        check(True, 1.0, &[-0.1], -4.0, false);
        // Two full slots end it at once, or against -4 / 4 at the present length.
        check(True, 1.0, &[-0.1, -9.0], -4.0, true);
        check(False, 1.0, &[-0.1, -1.1], -4.0, false);
        check(False, 1.0, &[-0.1, -1.0], -4.0, true);
        check(False, 1.0, &[-0.1, -0.9], -4.0, true);
        // Only the best two count.
        check(False, 1.0, &[-9.0, -0.9, -0.1], -4.0, true);
        // With patience the greatest length counts, -4 / 16, unless length is punished.
        check(Never, 1.0, &[-0.1, -0.3], -4.0, false);
        check(Never, 1.0, &[-0.1, -0.2], -4.0, true);
        check(Never, -1.0, &[-0.1, -17.0], -4.0, false);
        check(Never, -1.0, &[-0.1, -15.0], -4.0, true);
        check(Never, 0.0, &[-0.1, -5.0], -4.0, false);
    }

    #[test]
    fn of_equal_scores_the_first_is_ahead() {
        let (config, _) = GenerationConfig::resolve(
            &[&GenerationOptions { num_beams: Some(2), ..GenerationOptions::default() }],
            1024,
        )
        .expect("the options fit together");
        let mut slots = Finished::default();
        for (token, score) in [(1, -1.0), (2, -1.0), (3, -1.0), (4, -0.5)] {
            slots.offer(Hypothesis { tokens: vec![token], score }, &config);
        }
        let tokens: Vec<u32> = slots.into_best(2).iter().map(|hypothesis| hypothesis.tokens[0]).collect();
        assert_eq!(tokens, [4, 1]);
    }
}
