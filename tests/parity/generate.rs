//! Generated tokens of random small models over the options of the command line.

use std::path::Path;

use epitome_data::Source;
use epitome_decode::{Document, GenerationConfig, GenerationOptions, LedSession, generate};
use epitome_model::{Documents, Led};
use serde::Deserialize;
use serde_json::Value;

use crate::fixture::{Case, cases, on_every_device};

#[derive(Deserialize)]
struct Generate {
    options: Value,
    documents: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    input_ids: Vec<u32>,
    global_positions: Vec<usize>,
    hypotheses: Vec<(Vec<u32>, f32)>,
}

fn settings(case: &Case<Generate>) -> GenerationConfig {
    let options = GenerationOptions::from_json(&case.rest.options.to_string(), Path::new("options")).unwrap();
    let config = case.config();
    let model = serde_json::to_string(&config).unwrap();
    let model = GenerationOptions::from_json(&model, Path::new("config.json")).unwrap();
    GenerationConfig::resolve(&[&options, &model], config.max_decoder_position_embeddings).unwrap().0
}

fn run(led: &Led, settings: &GenerationConfig, documents: &[&Expected], keep: bool) -> Vec<Vec<(Vec<u32>, f32)>> {
    let sources: Vec<Source> = documents
        .iter()
        .map(|document| Source {
            input_ids: document.input_ids.clone(),
            leading_tokens: 0,
            global_positions: document.global_positions.clone(),
            truncated_tokens: 0,
            passages: None,
        })
        .collect();
    let packed = sources.iter().map(|source| (source.input_ids.as_slice(), source.global_positions.as_slice()));
    let mut session = LedSession::new(led, &Documents::new(packed).unwrap(), keep).unwrap();
    let seen: Vec<Document> =
        sources.iter().map(|source| Document { encoder_ids: &source.input_ids, passages: &[] }).collect();
    let found = generate(&mut session, &seen, settings, &mut |_| {}).unwrap();
    found.into_iter().map(|all| all.into_iter().map(|one| (one.tokens, one.score)).collect()).collect()
}

#[test]
fn tokens_and_scores_are_the_reference_s_in_batches_and_alone() {
    let cases = cases::<Generate>("generate");
    assert!(cases.iter().map(|case| case.rest.documents.len()).sum::<usize>() >= 300);
    // The network as it is in training, then as it is for inference.
    cases.iter().for_each(|case| check(case, &case.led()));
    on_every_device(|device| cases.iter().for_each(|case| check(case, &case.packed(device))));
}

fn check(case: &Case<Generate>, led: &Led) {
    let settings = settings(case);
    let expected: Vec<&Expected> = case.rest.documents.iter().collect();
    let together = run(led, &settings, &expected, true);
    let folded = run(led, &settings, &expected, false);
    for (index, ((found, folded), expected)) in together.iter().zip(&folded).zip(&expected).enumerate() {
        let alone = run(led, &settings, &[expected], true).remove(0);
        for (what, found) in [("in a batch", found), ("alone", &alone), ("without keys and values", folded)] {
            let what = format!("{} document {index} {what}, options {}", case.name, case.rest.options);
            assert_eq!(found.len(), expected.hypotheses.len(), "{what}");
            for ((tokens, score), (expected_tokens, expected_score)) in found.iter().zip(&expected.hypotheses) {
                assert_eq!(tokens, expected_tokens, "{what}");
                let close = (score - expected_score).abs() <= 1e-4 * expected_score.abs().max(1.0);
                assert!(close, "{what}: score {score}, expected {expected_score}");
            }
        }
    }
}
