//! Summaries made of a document's passages, against all sequences of passages there are.

use std::ops::Range;

use epitome_data::Extracts;
use epitome_decode::processors::{LogitsProcessor, LogitsProcessors, permitted_extracts};
use epitome_decode::{Document, generate};

use crate::model::{HashStepper, Source, config};

const BOS: u32 = 0;
const EOS: u32 = 2;
const VOCAB: usize = 9;

/// A document of twenty tokens, none of them special, and its passages of one to four tokens. Few tokens, so that passages
/// are alike and begin alike.
fn document(seed: u32) -> (Vec<u32>, Vec<Range<usize>>) {
    let draw = |stream: u32, below: u32| {
        let source = Source { seed: seed.wrapping_mul(64).wrapping_add(stream), eos_bias: 0, eos_slope: 0 };
        move |at: usize| source.encoder_ids(at + 1, below as usize)[at]
    };
    let (token, length) = (draw(1, 4), draw(2, 4));
    let ids: Vec<u32> = (0..20).map(|at| 3 + token(at)).collect();
    let mut passages = Vec::new();
    let mut start = 0;
    while start < ids.len() {
        let end = (start + 1 + length(passages.len()) as usize).min(ids.len());
        passages.push(start..end);
        start = end;
    }
    (ids, passages)
}

/// Whether `tokens` are some of `passages`, each whole and once. Equal passages are one.
fn are_passages(tokens: &[u32], passages: &[&[u32]]) -> bool {
    tokens.is_empty()
        || passages.iter().any(|passage| {
            let others: Vec<&[u32]> = passages.iter().copied().filter(|other| other != passage).collect();
            tokens.strip_prefix(*passage).is_some_and(|rest| are_passages(rest, &others))
        })
}

#[test]
fn whole_passages_once_each_and_in_the_documents_order() {
    let mut lengths = [0; 3];
    for seed in 0..60 {
        let (ids, ranges) = document(seed);
        let passages: Vec<&[u32]> = ranges.iter().map(|range| &ids[range.clone()]).collect();
        for num_beams in [1, 3] {
            let mut config = config(&format!(
                r#"{{"extractive": true, "num_beams": {num_beams}, "num_return_sequences": {num_beams}, "max_length": 14}}"#
            ));
            // These rules would break passages.
            config.no_repeat_ngram_size = 1;
            config.bad_words_ids = vec![vec![3]];
            let source = Source { seed, eos_bias: 10, eos_slope: 1 };
            let document = Document { encoder_ids: &ids, passages: &ranges };
            let mut stepper = HashStepper::new(&[source], VOCAB, &[EOS]);
            let found = generate(&mut stepper, &[document], &config, &mut |_| {}).unwrap();
            for hypothesis in &found[0] {
                let tokens = hypothesis.tokens.strip_suffix(&[EOS]).expect("there is room for an end token");
                let tokens = tokens.strip_prefix(&[BOS]).unwrap_or(tokens);
                assert!(are_passages(tokens, &passages), "{tokens:?} of {passages:?}");
                lengths[tokens.len() / 5] += 1;
                let ordered = permitted_extracts(&config, &document).in_document_order(&hypothesis.tokens).concat();
                let mut sorted = [ordered.clone(), hypothesis.tokens.clone()];
                sorted.iter_mut().for_each(|tokens| tokens.sort_unstable());
                assert_eq!(sorted[0], sorted[1], "the same tokens");
                let ordered = ordered.strip_suffix(&[EOS]).unwrap();
                let ordered = ordered.strip_prefix(&[BOS]).unwrap_or(ordered);
                assert!(is_subsequence(ordered, &passages), "{ordered:?} of {passages:?}");
            }
        }
    }
    assert!(lengths.iter().all(|&count| count > 10), "summaries of every length: {lengths:?}");
}

/// Whether `tokens` are some of `passages` in their order.
fn is_subsequence(tokens: &[u32], passages: &[&[u32]]) -> bool {
    tokens.is_empty()
        || passages.iter().enumerate().any(|(index, passage)| {
            tokens.strip_prefix(*passage).is_some_and(|rest| is_subsequence(rest, &passages[index + 1..]))
        })
}

/// What may follow `tokens`.
fn permitted(rule: &Extracts, tokens: &[u32]) -> Vec<u32> {
    let mut scores = [0.0; VOCAB];
    rule.process(tokens, &mut scores);
    (0..VOCAB as u32).filter(|&token| scores[token as usize] > f32::NEG_INFINITY).collect()
}

#[test]
fn everything_that_may_follow_and_nothing_else() {
    let ids = [3, 4, 5, 6, 3, 4, 7, 6, 8];
    let passages = [0..2, 2..3, 3..5, 5..7, 7..8, 8..9];
    // 3 4 | 5 | 6 3 | 4 7 | 6 | 8
    let rule = Extracts::new(&ids, &passages, BOS, &[EOS], 20);
    let begins = [3, 4, 5, 6, 8];
    assert_eq!(permitted(&rule, &[2]), [&[BOS], &begins[..]].concat());
    assert_eq!(permitted(&rule, &[2, BOS]), begins);
    assert_eq!(permitted(&rule, &[2, BOS, 3]), [4]);
    assert_eq!(permitted(&rule, &[2, BOS, 3, 4]), [EOS, 4, 5, 6, 8]);
    assert_eq!(permitted(&rule, &[2, 3, 4, 5, 8]), [EOS, 4, 6]);
    assert_eq!(permitted(&rule, &[2, 6]), [EOS, 3, 4, 5, 6, 8], "6, or the beginning of 6 3");
    assert_eq!(permitted(&rule, &[2, 6, 3]), [EOS, 3, 4, 5, 6, 8], "6 3 and not 6 and the beginning of 3 4");
    assert_eq!(permitted(&rule, &[2, 6, 3, 6]), [EOS, 3, 4, 5, 8], "6, for 6 3 was written");
    assert_eq!(permitted(&rule, &[2, 6, 3, 6, 3]), [4]);
    assert_eq!(rule.in_document_order(&[BOS, 8, 6, 3, 6, 3, 4, EOS]).concat(), [BOS, 3, 4, 6, 3, 6, 8, EOS]);
    assert_eq!(rule.in_document_order(&[8, 5, 4]), [&[5][..], &[8], &[4]], "what is not whole stays last");
    assert_eq!(rule.in_document_order(&[8, 5, 4, EOS]), [&[5][..], &[8], &[4]], "and does not end");
    assert_eq!(rule.in_document_order(&[EOS]), [[EOS]]);
    assert!(rule.in_document_order(&[]).is_empty());
}

#[test]
fn a_passage_that_begins_with_the_first_token_of_all_is_one_choice() {
    let ids = [BOS, 3, 4];
    let rule = Extracts::new(&ids, std::slice::from_ref(&(0..3)), BOS, &[EOS], 20);
    let choices = rule.choices(&[BOS, BOS, 3, 4, EOS]);
    assert_eq!(choices, Some([BOS, BOS, 3, 4, EOS].map(|token| vec![token]).to_vec()));
}

#[test]
fn scores_become_the_log_probabilities_of_a_choice() {
    let ids = [3, 4, 5, 3, 6, 7];
    let rule = Extracts::new(&ids, &[0..2, 2..3, 3..5, 5..6], BOS, &[EOS], 20);
    let mut scores = [-1.0, -0.5, -2.0, -3.0, -0.25, -4.0, -0.75, -1.5, -0.1];
    rule.process(&[2, BOS], &mut scores);
    let total: f32 = [-3.0_f32, -4.0, -1.5].map(f32::exp).iter().sum();
    for (token, wanted) in [(3, -3.0), (5, -4.0), (7, -1.5)] {
        assert!((scores[token] - (wanted - total.ln())).abs() < 1e-5, "{scores:?}");
    }
    rule.process(&[2, BOS, 5, 3, 4], &mut scores);
    assert_eq!(scores[4], f32::NEG_INFINITY, "it was forbidden before");
    let mut scores = [-8.0; VOCAB];
    rule.process(&[2, BOS, 3, 6, 5, 7, 3], &mut scores);
    assert_eq!((scores[4], scores[6]), (0.0, f32::NEG_INFINITY), "what leaves no choice costs nothing");
}

#[test]
fn an_end_that_comes_too_early_is_no_choice() {
    let ids = [3, 4, 5];
    let document = Document { encoder_ids: &ids, passages: &[0..2, 2..3] };
    let config = config(r#"{"extractive": true, "min_length": 6, "max_length": 20}"#);
    let mut scores = [-2.0; VOCAB];
    LogitsProcessors::new(&config, &document).process(&[2, BOS, 3, 4], &mut scores);
    assert_eq!((scores[5], scores[EOS as usize]), (0.0, f32::NEG_INFINITY));
    let mut scores = [-2.0; VOCAB];
    LogitsProcessors::new(&config, &document).process(&[2, BOS, 3, 4, 5], &mut scores);
    assert_eq!(scores.map(|score| score > f32::NEG_INFINITY).iter().filter(|&&is_open| is_open).count(), 1);
    assert_eq!(scores[EOS as usize], 0.0, "nothing else is left");
}

#[test]
fn passages_are_begun_where_there_is_room() {
    let ids = [3, 4, 5, 3, 4, 5, 6, 7, 8];
    let passages = [0..3, 3..7, 7..9];
    let rule = |max_length| Extracts::new(&ids, &passages, BOS, &[EOS], max_length);
    assert_eq!(permitted(&rule(5), &[2, 3, 4, 5]), [EOS], "6 would leave no room for an end token");
    assert_eq!(permitted(&rule(6), &[2, 3, 4, 5]), [EOS, 6], "and so would 7 8");
    assert_eq!(permitted(&rule(7), &[2, 3, 4, 5]), [EOS, 6, 7]);
    assert_eq!(permitted(&rule(5), &[2]), [BOS, 3, 7]);
    assert_eq!(permitted(&rule(4), &[2]), [BOS, 7]);
    assert_eq!(permitted(&rule(4), &[2, BOS]), [3, 7], "none fits, so that one is cut");
    assert_eq!(permitted(&rule(4), &[2, BOS, 3]), [4]);
    let nothing = Extracts::new(&ids, &[], BOS, &[EOS], 9);
    assert_eq!(permitted(&nothing, &[2, BOS]), [0; 0]);
}
