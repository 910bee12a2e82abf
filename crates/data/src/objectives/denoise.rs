//! BART's denoising.

use serde::{Deserialize, Serialize};

use super::{Body, Language};
use crate::random::{Draw, SplitMix64};

/// How a passage is damaged; the defaults are BART's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Denoising {
    /// Tokens of the passage, drawn anew each time; a shorter document is taken whole.
    pub length: usize,
    /// The share of tokens that masks hide; at most `mean_span / (mean_span + 1)`, where every token outside a span begins one.
    pub mask_ratio: f64,
    /// Mean length of a hidden span (Poisson-distributed); each span becomes one `<mask>`, an empty one is put in between.
    pub mean_span: f64,
    /// How often the sentences of a passage are shuffled.
    pub permute_sentences: f64,
}

impl Default for Denoising {
    fn default() -> Self {
        Self { length: 512, mask_ratio: 0.3, mean_span: 3.0, permute_sentences: 1.0 }
    }
}

impl Denoising {
    /// Checks that the numbers describe a damage that can be done.
    ///
    /// # Errors
    /// A message that names the field and what it must be.
    pub fn validate(&self) -> Result<(), String> {
        if self.length == 0 {
            return Err("length is 0, it must be positive".into());
        }
        if !(self.mean_span > 0.0 && self.mean_span <= 100.0) {
            return Err(format!("mean_span is {}, it must be above 0 and at most 100", self.mean_span));
        }
        let most = self.mean_span / (self.mean_span + 1.0);
        if !(0.0..=most).contains(&self.mask_ratio) {
            let (ratio, span) = (self.mask_ratio, self.mean_span);
            return Err(format!("mask_ratio is {ratio}, outside 0..={most:.3}, which spans of {span} tokens can hide"));
        }
        if !(0.0..=1.0).contains(&self.permute_sentences) {
            return Err(format!("permute_sentences is {}, outside 0..=1", self.permute_sentences));
        }
        Ok(())
    }

    /// The damaged passage and the whole one, both of one document.
    pub(super) fn draw(&self, body: &Body, language: &Language, random: &mut SplitMix64) -> (Vec<u32>, Vec<u32>) {
        let passage = self.passage(body, random);
        let shuffled = if random.unit() < self.permute_sentences {
            let mut sentences = language.sentences.split(passage);
            random.shuffle(&mut sentences);
            sentences.into_iter().flat_map(|sentence| passage[sentence].iter().copied()).collect()
        } else {
            passage.to_vec()
        };
        (self.infill(&shuffled, language.mask(), random), passage.to_vec())
    }

    /// A passage of a document that is drawn by its length.
    fn passage<'b>(&self, body: &Body<'b>, random: &mut SplitMix64) -> &'b [u32] {
        if body.ids.is_empty() {
            return body.ids;
        }
        let within = random.below(body.ids.len());
        // Where a separator was hit, the document before it.
        let document = body.documents().find(|document| within <= document.end).unwrap_or(0..body.ids.len());
        let document = &body.ids[document];
        let start = random.below(document.len().saturating_sub(self.length) + 1);
        &document[start..document.len().min(start + self.length)]
    }

    /// Text infilling: spans begin at random, so many that they hide `mask_ratio` of the tokens on average.
    fn infill(&self, ids: &[u32], mask: u32, random: &mut SplitMix64) -> Vec<u32> {
        // A token outside a span begins one with probability p: of 1 + p * mean_span tokens, p * mean_span are hidden.
        let begins = self.mask_ratio / (self.mean_span * (1.0 - self.mask_ratio));
        let mut damaged = Vec::with_capacity(ids.len());
        let mut position = 0;
        while position < ids.len() {
            if random.unit() < begins {
                let hidden = random.poisson(self.mean_span);
                // A mask for nothing only where masks have made room: the copy is never longer than the passage.
                if hidden > 0 || damaged.len() < position {
                    damaged.push(mask);
                }
                position += hidden;
            }
            damaged.extend(ids.get(position));
            position += 1;
        }
        damaged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asked_share_is_hidden_and_the_rest_stays_in_order() {
        let ids: Vec<u32> = (10..50_010).collect();
        for (mask_ratio, mean_span) in [(0.0, 3.0), (0.15, 3.0), (0.3, 1.5), (0.5, 3.0), (0.75, 3.0), (0.3, 0.5)] {
            let denoising = Denoising { mask_ratio, mean_span, ..Denoising::default() };
            denoising.validate().unwrap();
            let damaged = denoising.infill(&ids, 4, &mut SplitMix64::for_stream(3, 0));
            let kept: Vec<u32> = damaged.iter().copied().filter(|&id| id != 4).collect();
            assert!(kept.is_sorted());
            assert!(damaged.len() <= ids.len());
            let hidden = 1.0 - kept.len() as f64 / ids.len() as f64;
            assert!((hidden - mask_ratio).abs() < 0.01, "{hidden} hidden, not {mask_ratio}");
        }
    }
}
