//! The same tokens and scores as `transformers`, for the cases of `../fixtures/generate.jsonl`.

use epitome_decode::{Document, Hypothesis, generate};
use serde::Deserialize;

use crate::model::{HashStepper, Source, config};

#[derive(Deserialize)]
struct Case {
    vocab: usize,
    document_length: usize,
    options: serde_json::Value,
    documents: Vec<Vec<serde_json::Value>>,
}

struct Expected {
    source: Source,
    hypotheses: Vec<Hypothesis>,
}

fn expected(document: &[serde_json::Value]) -> Expected {
    let number = |place: usize| document[place].as_i64().unwrap();
    let source = Source { seed: u32::try_from(number(0)).unwrap(), eos_bias: number(1), eos_slope: number(2) };
    let hypotheses = document[3..]
        .iter()
        .map(|hypothesis| {
            let (tokens, score) = serde_json::from_value(hypothesis.clone()).unwrap();
            Hypothesis { tokens, score }
        })
        .collect();
    Expected { source, hypotheses }
}

#[test]
fn tokens_and_scores_are_those_of_transformers() {
    assert_eq!(compare_all(false), 0);
}

/// The model is asked for its most probable tokens wherever the rules allow it, and nothing is different.
#[test]
fn so_they_are_where_the_model_finds_the_best_tokens() {
    let asked = compare_all(true);
    assert!(asked >= 1000, "{asked}");
}

/// Returns in how many steps the model was asked for the best tokens.
fn compare_all(finds_best: bool) -> usize {
    let mut asked = 0;
    let (mut documents_seen, mut at_limit, mut early) = (0, 0, 0);
    for (line, text) in include_str!("../fixtures/generate.jsonl").lines().enumerate() {
        let case: Case = serde_json::from_str(text).unwrap();
        let options = case.options.to_string();
        let config = config(&options);
        let expected: Vec<Expected> = case.documents.iter().map(|document| expected(document)).collect();
        let sources: Vec<Source> = expected.iter().map(|document| document.source).collect();
        let ids: Vec<Vec<u32>> =
            sources.iter().map(|source| source.encoder_ids(case.document_length, case.vocab)).collect();
        let documents: Vec<Document> = ids.iter().map(|encoder_ids| Document { encoder_ids, passages: &[] }).collect();
        let mut stepper = HashStepper { finds_best, ..HashStepper::new(&sources, case.vocab, &config.eos_token_id) };
        let found = generate(&mut stepper, &documents, &config, &mut |_| {}).unwrap();
        asked += stepper.best_steps;
        for (expected, found) in expected.iter().zip(&found) {
            compare(line + 1, &options, &expected.hypotheses, found);
            documents_seen += 1;
            let tokens = found[0].tokens.len();
            at_limit += usize::from(tokens == config.max_new_tokens());
            early += usize::from(tokens < config.max_new_tokens());
        }
    }
    assert!(documents_seen >= 600 && at_limit >= 100 && early >= 100, "{documents_seen} {at_limit} {early}");
    asked
}

fn compare(line: usize, options: &str, expected: &[Hypothesis], found: &[Hypothesis]) {
    let tokens = |hypotheses: &[Hypothesis]| -> Vec<Vec<u32>> {
        hypotheses.iter().map(|hypothesis| hypothesis.tokens.clone()).collect()
    };
    assert_eq!(tokens(found), tokens(expected), "line {line}: {options}");
    for (expected, found) in expected.iter().zip(found) {
        let difference = (expected.score - found.score).abs();
        // Negative length penalties multiply a sum by the length: there 1e-4 can be less than the spacing of f32.
        assert!(
            difference < 1e-4_f32.max(1e-6 * expected.score.abs()),
            "line {line}: {} instead of {}: {options}",
            found.score,
            expected.score
        );
    }
}
