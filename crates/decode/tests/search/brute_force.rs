//! With at least as many beams as there are prefixes, beam search must find every sequence in the order of its score.

use epitome_decode::{Document, Hypothesis, beam_search};

use crate::model::{HashStepper, Source, config};

/// Every complete sequence and its score, best first, in double precision.
fn enumerate(source: &Source, vocab: usize, eos: &[u32], max_new_tokens: usize, penalty: f64) -> Vec<(Vec<u32>, f64)> {
    let mut complete = Vec::new();
    let mut open = vec![(vec![2], 0.0)];
    for length in 1..=max_new_tokens {
        let mut longer = Vec::new();
        for (tokens, sum) in open {
            let logits = source.logits(&tokens, vocab, eos);
            let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            for token in 0..vocab as u32 {
                let sum = sum + f64::from(logits[token as usize]) - total.ln();
                let tokens = [&tokens[..], &[token]].concat();
                if length == max_new_tokens || eos.contains(&token) {
                    complete.push((tokens[1..].to_vec(), sum / (length as f64).powf(penalty)));
                } else {
                    longer.push((tokens, sum));
                }
            }
        }
        open = longer;
    }
    complete.sort_by(|left, right| right.1.total_cmp(&left.1));
    complete
}

#[track_caller]
fn check(seed: u32, vocab: usize, eos: &[u32], max_new_tokens: usize, penalty: f64) {
    let source = Source { seed, eos_bias: 16, eos_slope: 0 };
    let expected = enumerate(&source, vocab, eos, max_new_tokens, penalty);
    let options = serde_json::json!({
        "num_beams": expected.len(),
        "num_return_sequences": expected.len(),
        "max_new_tokens": max_new_tokens,
        "length_penalty": penalty,
        "early_stopping": "never",
        "eos_token_id": eos,
    });
    let config = config(&options.to_string());
    let mut stepper = HashStepper::new(&[source], vocab, eos);
    let found =
        beam_search(&mut stepper, &[Document { encoder_ids: &[], passages: &[] }], &config, &mut |_| {}).unwrap();
    assert_eq!(found[0].len(), expected.len());
    for (Hypothesis { tokens, score }, (expected_tokens, expected_score)) in found[0].iter().zip(&expected) {
        assert_eq!(tokens, expected_tokens);
        assert!((f64::from(*score) - expected_score).abs() < 1e-5);
    }
}

#[test]
fn finds_every_sequence_in_order() {
    for (seed, penalty) in [(1, 1.0), (2, 0.0), (3, 2.0), (4, -1.0), (5, 0.7)] {
        check(seed, 3, &[2], 5, penalty);
        check(seed + 10, 4, &[1], 4, penalty);
        check(seed + 20, 5, &[2, 4], 4, penalty);
        check(seed + 30, 11, &[2], 1, penalty);
    }
}
