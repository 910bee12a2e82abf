//! A model that is a hash function of the document and all tokens so far; the twin of `logits` in `../fixtures/make.py`.

use epitome_decode::{GenerationConfig, GenerationOptions, Result, Stepper};
use std::path::Path;

/// What the model makes of a document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) seed: u32,
    pub(crate) eos_bias: i64,
    pub(crate) eos_slope: i64,
}

fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

impl Source {
    /// Multiples of 1/1024, no two alike. `tokens` begin with the decoder start token.
    pub(crate) fn logits(&self, tokens: &[u32], vocab: usize, eos: &[u32]) -> Vec<f32> {
        let state = tokens.iter().fold(self.seed, |state, token| mix(state ^ (token + 1)));
        let bias = self.eos_bias + self.eos_slope * (tokens.len() as i64 - 1);
        let score = |entry: u32| {
            let favour = mix(self.seed.wrapping_add(entry.wrapping_mul(0x9e37_79b9))) % 64;
            let noise = mix(state.wrapping_add(entry.wrapping_mul(0x85eb_ca6b))) % 64;
            let score = i64::from(favour + noise) + if eos.contains(&entry) { bias } else { 0 };
            (score * 64 + i64::from(entry)) as f32 / 1024.0
        };
        (0..vocab as u32).map(score).collect()
    }

    /// The tokens of the document.
    pub(crate) fn encoder_ids(&self, length: usize, vocab: usize) -> Vec<u32> {
        let at = |position: u32| mix(self.seed.wrapping_add(position.wrapping_mul(0xc2b2_ae35))) % vocab as u32;
        (0..length as u32).map(at).collect()
    }
}

/// The model as the searches see it. It checks that every row continues what it should.
pub(crate) struct HashStepper {
    pub(crate) vocab: usize,
    pub(crate) eos: Vec<u32>,
    pub(crate) rows: Vec<(Source, Vec<u32>)>,
    /// The number of rows of each step.
    pub(crate) steps: Vec<usize>,
    /// Whether it finds the most probable tokens itself, and in how many steps it was asked to.
    pub(crate) finds_best: bool,
    pub(crate) best_steps: usize,
}

impl HashStepper {
    pub(crate) fn new(sources: &[Source], vocab: usize, eos: &[u32]) -> Self {
        let rows = sources.iter().map(|&source| (source, Vec::new())).collect();
        Self { vocab, eos: eos.to_vec(), rows, steps: Vec::new(), finds_best: false, best_steps: 0 }
    }
}

impl Stepper for HashStepper {
    fn vocab_size(&self) -> usize {
        self.vocab
    }

    fn step(&mut self, last: &[u32], logits: &mut Vec<f32>) -> Result<()> {
        assert_eq!(last.len(), self.rows.len());
        self.steps.push(last.len());
        logits.clear();
        for ((source, tokens), &token) in self.rows.iter_mut().zip(last) {
            tokens.push(token);
            logits.extend(source.logits(tokens, self.vocab, &self.eos));
        }
        Ok(())
    }

    fn step_best(&mut self, last: &[u32], count: usize) -> Result<Option<Vec<Vec<(u32, f32)>>>> {
        if !self.finds_best {
            return Ok(None);
        }
        self.best_steps += 1;
        let mut logits = Vec::new();
        self.step(last, &mut logits)?;
        let best = |row: &[f32]| {
            let total = row.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
            let log_p = |(token, logit): (usize, &f32)| (token as u32, (f64::from(*logit) - total) as f32);
            let mut best: Vec<(u32, f32)> = row.iter().enumerate().map(log_p).collect();
            best.sort_by(|a, b| b.1.total_cmp(&a.1));
            best[..count].to_vec()
        };
        Ok(Some(logits.chunks(self.vocab).map(best).collect()))
    }

    fn reorder(&mut self, parents: &[usize]) -> Result<()> {
        assert!(!parents.is_empty(), "a batch without rows is not stepped");
        self.rows = parents.iter().map(|&parent| self.rows[parent].clone()).collect();
        Ok(())
    }
}

/// A configuration from the JSON of one layer.
#[track_caller]
pub(crate) fn config(options: &str) -> GenerationConfig {
    let options = GenerationOptions::from_json(options, Path::new("test")).unwrap();
    let (config, warnings) = GenerationConfig::resolve(&[&options], 1024).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    config
}
