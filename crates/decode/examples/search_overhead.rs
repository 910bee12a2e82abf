//! What the search itself costs in each step, without a model: `cargo run --release -p epitome-decode --example
//! search_overhead`.

use std::path::Path;
use std::time::{Duration, Instant};

use epitome_decode::{Document, GenerationConfig, GenerationOptions, Result, Stepper, generate};

const VOCAB: usize = 50_265;
const STEPS: usize = 200;

/// Copies prepared logits, and keeps the time that this takes out of the measurement.
struct Prepared {
    rows: Vec<Vec<f32>>,
    steps: usize,
    elsewhere: Duration,
}

impl Prepared {
    fn new() -> Self {
        let mut state = 1_u32;
        let mut logit = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let uniform = f64::from(state) / f64::from(u32::MAX);
            // Like a model's: most far below the few best.
            (-3.0 - 2.5 * (1.0 - uniform).ln()) as f32
        };
        let rows = (0..37).map(|_| (0..VOCAB).map(|_| logit()).collect()).collect();
        Self { rows, steps: 0, elsewhere: Duration::ZERO }
    }
}

impl Stepper for Prepared {
    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn step(&mut self, last: &[u32], logits: &mut Vec<f32>) -> Result<()> {
        let start = Instant::now();
        logits.clear();
        for row in 0..last.len() {
            logits.extend_from_slice(&self.rows[(self.steps * 5 + row) % self.rows.len()]);
        }
        self.steps += 1;
        self.elsewhere += start.elapsed();
        Ok(())
    }

    fn reorder(&mut self, _: &[usize]) -> Result<()> {
        Ok(())
    }
}

fn measure(name: &str, documents: usize, beams: usize, rules: &str) {
    let json = format!(r#"{{"num_beams": {beams}, "max_new_tokens": {STEPS}, "eos_token_id": []{rules}}}"#);
    let options = GenerationOptions::from_json(&json, Path::new("example")).expect("the options are well formed");
    let (config, _) = GenerationConfig::resolve(&[&options], 1024).expect("the options fit together");
    let encoder_ids: Vec<u32> = (0..16_384_u32).map(|place| place.wrapping_mul(2_654_435_761) % VOCAB as u32).collect();
    let documents = vec![Document { encoder_ids: &encoder_ids, passages: &[] }; documents];
    let mut stepper = Prepared::new();
    let start = Instant::now();
    generate(&mut stepper, &documents, &config, &mut |_| {}).expect("the logits are finite");
    let spent = start.elapsed() - stepper.elsewhere;
    let (documents, milliseconds) = (documents.len(), spent.as_secs_f64() * 1e3 / STEPS as f64);
    println!("{documents} documents x {beams} beams, {name}: {milliseconds:.3} ms a step");
}

fn main() {
    let rules = r#", "no_repeat_ngram_size": 3, "encoder_no_repeat_ngram_size": 4, "repetition_penalty": 1.2"#;
    for documents in [1, 4] {
        for beams in [1, 4] {
            measure("no rules", documents, beams, "");
            measure("n-gram rules and a repetition penalty", documents, beams, rules);
        }
    }
}
