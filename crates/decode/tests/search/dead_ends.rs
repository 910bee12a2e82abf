//! Rules that permit nothing, models that give nonsense, and options that do not fit the model.

use epitome_decode::{Document, Error, Result, Stepper, generate};

use crate::model::{HashStepper, Source, config};

const SOURCE: Source = Source { seed: 9, eos_bias: 0, eos_slope: 0 };
const DOCUMENT: Document = Document { encoder_ids: &[], passages: &[] };

/// Every token at most once and no end token: after all others the search can go nowhere, though by a length that is
/// infinite to the power of its penalty no score is too bad.
#[test]
fn where_nothing_is_permitted_the_summary_ends() {
    for (num_beams, length_penalty) in [(1, 1.0), (3, 1.0), (3, 1000.0)] {
        let config = config(&format!(
            r#"{{"num_beams": {num_beams}, "max_length": 50, "min_length": 50, "no_repeat_ngram_size": 1,
                "length_penalty": {length_penalty}}}"#
        ));
        let mut stepper = HashStepper::new(&[SOURCE], 8, &[2]);
        let found = generate(&mut stepper, &[DOCUMENT], &config, &mut |_| {}).unwrap();
        let mut tokens = found[0][0].tokens.clone();
        tokens.sort_unstable();
        assert_eq!(tokens, [0, 1, 3, 4, 5, 6, 7], "{num_beams} beams");
        assert!(found[0][0].score.is_finite());
    }
}

#[test]
fn fewer_hypotheses_than_asked_for() {
    let config = config(
        r#"{"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 2, "forced_bos_token_id": 3, "forced_eos_token_id": 2}"#,
    );
    let mut stepper = HashStepper::new(&[SOURCE], 8, &[2]);
    let found = generate(&mut stepper, &[DOCUMENT], &config, &mut |_| {}).unwrap();
    assert_eq!(found[0].len(), 1, "only one sequence is permitted");
    assert_eq!(found[0][0].tokens, [3, 2]);
    assert_eq!(found[0][0].score, 0.0);
}

#[test]
fn no_documents_no_steps() {
    let mut stepper = HashStepper::new(&[], 8, &[2]);
    for options in [r#"{"num_beams": 1}"#, r#"{"num_beams": 2}"#] {
        assert!(generate(&mut stepper, &[], &config(options), &mut |_| {}).unwrap().is_empty());
    }
    assert!(stepper.steps.is_empty());
}

#[test]
fn a_token_outside_the_vocabulary_is_named() {
    for (options, message) in [
        (r#"{"bad_words_ids": [[3], [4, 8]]}"#, "bad_words_ids names token 8"),
        (r#"{"forced_bos_token_id": 9}"#, "forced_bos_token_id names token 9"),
        (r#"{"eos_token_id": [2, 10]}"#, "eos_token_id names token 10"),
    ] {
        let mut stepper = HashStepper::new(&[SOURCE], 8, &[2]);
        let error = generate(&mut stepper, &[DOCUMENT], &config(options), &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

/// Gives proper logits for two steps, then one that is broken.
struct Broken {
    steps: usize,
    value: f32,
    missing: usize,
}

impl Stepper for Broken {
    fn vocab_size(&self) -> usize {
        8
    }

    fn step(&mut self, last: &[u32], logits: &mut Vec<f32>) -> Result<()> {
        self.steps += 1;
        let length = 8 * last.len();
        *logits = (0..length).map(|place| (place % 8) as f32).collect();
        if self.steps == 3 {
            logits[length - 2] = self.value;
            logits.truncate(length - self.missing);
        }
        Ok(())
    }

    fn reorder(&mut self, _: &[usize]) -> Result<()> {
        Ok(())
    }
}

/// Finds the best tokens for two steps; in the third the last row has no probabilities.
struct BrokenBest(usize);

impl Stepper for BrokenBest {
    fn vocab_size(&self) -> usize {
        8
    }

    fn step(&mut self, _: &[u32], _: &mut Vec<f32>) -> Result<()> {
        panic!("all logits were asked for");
    }

    fn step_best(&mut self, last: &[u32], count: usize) -> Result<Option<Vec<Vec<(u32, f32)>>>> {
        self.0 += 1;
        let row = |value: f32| (3..8).chain(0..3).map(|token| (token, value)).take(count).collect();
        let mut rows: Vec<Vec<(u32, f32)>> = last.iter().map(|_| row(-2.0)).collect();
        if self.0 == 3 {
            *rows.last_mut().unwrap() = row(f32::NAN);
        }
        Ok(Some(rows))
    }

    fn reorder(&mut self, _: &[usize]) -> Result<()> {
        Ok(())
    }
}

#[test]
fn logits_that_are_not_finite_are_an_error() {
    for num_beams in [1, 2] {
        let config = config(&format!(r#"{{"num_beams": {num_beams}}}"#));
        for value in [f32::NAN, f32::INFINITY] {
            let mut stepper = Broken { steps: 0, value, missing: 0 };
            let error = generate(&mut stepper, &[DOCUMENT, DOCUMENT], &config, &mut |_| {}).unwrap_err();
            assert!(matches!(error, Error::Logits { document: 1, position: 3 }), "{error}");
        }
        let mut stepper = BrokenBest(0);
        let error = generate(&mut stepper, &[DOCUMENT, DOCUMENT], &config, &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::Logits { document: 1, position: 3 }), "{error}");
        let mut stepper = Broken { steps: 0, value: 0.0, missing: 1 };
        let error = generate(&mut stepper, &[DOCUMENT], &config, &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::LogitsShape { .. }), "{error}");
    }
}
