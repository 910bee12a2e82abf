//! PEGASUS's gap sentences.

use std::collections::HashMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Body, Language};
use crate::random::{Draw, SplitMix64};

/// Which sentences are asked for; the defaults are those of PEGASUS.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GapSentences {
    /// The share of the document's sentences that are asked for.
    pub ratio: f64,
    /// Tokens that the chosen sentences may have together.
    pub max_tokens: usize,
    /// How often a chosen sentence is hidden behind a `<mask>`; otherwise it stays in the document, to be found and copied.
    pub mask_probability: f64,
}

impl Default for GapSentences {
    fn default() -> Self {
        Self { ratio: 0.3, max_tokens: 512, mask_probability: 0.8 }
    }
}

impl GapSentences {
    /// Checks the ranges.
    ///
    /// # Errors
    /// A message that names the field and what it must be.
    pub fn validate(&self) -> Result<(), String> {
        if self.max_tokens == 0 {
            return Err("max_tokens is 0, it must be positive".into());
        }
        for (name, value) in [("ratio", self.ratio), ("mask_probability", self.mask_probability)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("{name} is {value}, outside 0..=1"));
            }
        }
        Ok(())
    }

    /// The document with gaps, and the chosen sentences in its order. A document without two sentences, or without one that
    /// fits, has no gaps: its beginning is to be copied.
    /// With the source come the positions of its separators.
    pub(super) fn draw(
        &self,
        body: &Body,
        language: &Language,
        random: &mut SplitMix64,
    ) -> ((Vec<u32>, Vec<usize>), Vec<u32>) {
        let sentences = body.sentences(language);
        let chosen = self.choose(body.ids, &sentences);
        if sentences.len() < 2 || !chosen.contains(&true) {
            let first = body.documents().next().unwrap_or(0..0);
            let beginning = first.start..first.end.min(first.start + self.max_tokens);
            return ((body.ids.to_vec(), body.separators.clone()), body.ids[beginning].to_vec());
        }
        let (mut source, mut global, mut target) = (Vec::with_capacity(body.ids.len()), Vec::new(), Vec::new());
        let mut end = 0;
        for (sentence, chosen) in sentences.into_iter().zip(chosen) {
            // Between sentences there is nothing but separators.
            global.extend((end..sentence.start).map(|position| source.len() + position - end));
            source.extend_from_slice(&body.ids[end..sentence.start]);
            end = sentence.end;
            let ids = &body.ids[sentence];
            if chosen {
                target.extend_from_slice(ids);
            }
            if chosen && random.unit() < self.mask_probability {
                source.push(language.mask());
            } else {
                source.extend_from_slice(ids);
            }
        }
        global.extend((end..body.ids.len()).map(|position| source.len() + position - end));
        source.extend_from_slice(&body.ids[end..]);
        ((source, global), target)
    }

    /// For every sentence, whether it is one of the principal ones.
    fn choose(&self, body: &[u32], sentences: &[Range<usize>]) -> Vec<bool> {
        let scores = principality(body, sentences);
        let mut order: Vec<usize> = (0..sentences.len()).collect();
        // Stable: of equal ones the first.
        order.sort_by(|&one, &other| scores[other].total_cmp(&scores[one]));
        let count = (self.ratio * sentences.len() as f64).ceil() as usize;
        let mut chosen = vec![false; sentences.len()];
        let mut tokens = 0;
        for &index in order.iter().take(count) {
            let length = sentences[index].len();
            if tokens + length <= self.max_tokens {
                tokens += length;
                chosen[index] = true;
            }
        }
        chosen
    }
}

/// ROUGE-1 F1, over tokens, of each sentence against all the others ("Ind-Orig" in the paper).
fn principality(body: &[u32], sentences: &[Range<usize>]) -> Vec<f64> {
    let mut document = HashMap::new();
    sentences.iter().for_each(|sentence| count(&body[sentence.clone()], &mut document));
    let total: usize = sentences.iter().map(Range::len).sum();
    let f1 = |sentence: &Range<usize>| {
        let mut own = HashMap::new();
        count(&body[sentence.clone()], &mut own);
        let overlap: usize = own.iter().map(|(id, &here)| here.min(document[id] - here)).sum();
        // F1 = 2 overlap / (sizes of both sides), and the sizes add up to the document.
        2.0 * overlap as f64 / total as f64
    };
    sentences.iter().map(f1).collect()
}

fn count(ids: &[u32], counts: &mut HashMap<u32, usize>) {
    for id in ids {
        *counts.entry(*id).or_insert(0) += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_that_shares_most_with_the_others_is_principal() {
        let body = [1, 2, 3, 1, 2, 4, 5, 6, 7];
        let sentences = [0..3, 3..6, 6..9];
        let scores = principality(&body, &sentences);
        assert_eq!(scores, [4.0 / 9.0, 4.0 / 9.0, 0.0]);
        let one = GapSentences { ratio: 0.3, ..GapSentences::default() };
        assert_eq!(one.choose(&body, &sentences), [true, false, false]);
        let short = GapSentences { ratio: 1.0, max_tokens: 5, ..GapSentences::default() };
        assert_eq!(short.choose(&body, &sentences), [true, false, false]);
    }
}
