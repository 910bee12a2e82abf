//! `epitome score`: teacher forcing agrees with decoding.

use serde_json::json;

use crate::fixture::{Folder, TEXT, model, run};

/// To the last digit: neither batch-mates nor threads may change a number.
#[test]
fn scores_and_summaries_depend_on_neither_batches_nor_threads() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 13);
    let decode = ["decode", "--num-beams", "3", "--max-new-tokens", "12"];
    for command in [&["score"][..], &["score", "--precision", "int8"], &decode] {
        let output = |batch: &str, threads: &str| {
            let more = ["--input", &input, "--model", model(), "--batch-size", batch, "--threads", threads];
            run(&[command, &more].concat()).succeeds().stdout
        };
        let alone = output("1", "1");
        for (batch, threads) in [("1", "2"), ("13", "1"), ("5", "2"), ("13", "3")] {
            assert_eq!(output(batch, threads), alone, "{command:?}, batches of {batch}, {threads} threads");
        }
    }
}

#[test]
fn the_score_of_a_decoded_summary_is_its_score() {
    // Below f32 scoring steps as decoding does; in f32 it is teacher forcing.
    ["f32", "bf16", "int8"].into_iter().for_each(decoded_and_scored);
}

fn decoded_and_scored(precision: &str) {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 3);
    let decode = ["decode", "--input", &input, "--model", model(), "--length-penalty", "0", "--num-beams", "2"];
    let decode = [&decode[..], &["--precision", precision]].concat();
    let summaries = run(&decode).succeeds().records();
    let tokenizer = epitome_data::Tokenizer::load(model()).unwrap();
    let records: Vec<String> = summaries
        .iter()
        .zip(std::fs::read_to_string(&input).unwrap().lines())
        .map(|(summary, record)| {
            let record: serde_json::Value = serde_json::from_str(record).unwrap();
            let ids = tokenizer.encode_sequence(record["document"].as_str().unwrap()).unwrap();
            json!({"id": summary["id"], "input_ids": ids, "labels": summary["tokens"]}).to_string()
        })
        .collect();
    let labelled = folder.write("labelled.jsonl", records.join("\n"));
    let output = folder.path("scores.jsonl");
    let score = ["score", "--model", model(), "--input", &labelled, "--output", &output, "--precision", precision];
    let scored = run(&score).succeeds();
    assert!(scored.stderr.contains("perplexity"), "{}", scored.stderr);
    let scores = crate::fixture::json_lines(&folder.read("scores.jsonl"));
    for (summary, score) in summaries.iter().zip(&scores) {
        assert_eq!(summary["id"], score["id"]);
        assert_eq!(summary["tokens"].as_array().unwrap().len() as u64, score["tokens"].as_u64().unwrap());
        let (decoded, forced) = (summary["score"].as_f64().unwrap(), -score["nll"].as_f64().unwrap());
        assert!((decoded - forced).abs() < 1e-3, "{decoded} decoding, {forced} teacher-forced");
    }
}

#[test]
fn bytes_give_nearly_the_same_scores() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 5);
    let score = |precision: &str| {
        let arguments = ["score", "--input", &input, "--model", model(), "--precision", precision];
        run(&arguments).succeeds().records()
    };
    let nll = |record: &serde_json::Value| record["nll"].as_f64().unwrap();
    let (exact, bytes) = (score("f32"), score("int8"));
    for (exact, bytes) in exact.iter().zip(&bytes) {
        let ratio = nll(bytes) / nll(exact);
        assert!(ratio != 1.0 && (ratio - 1.0).abs() < 0.01, "{ratio}");
    }
}

#[test]
fn batches_and_ignored_labels() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 5);
    let score =
        |size| run(&["score", "--model", model(), "--input", &input, "--batch-size", size]).succeeds().records();
    let (alone, together) = (score("1"), score("3"));
    for (alone, together) in alone.iter().zip(&together) {
        assert_eq!(alone["id"], together["id"]);
        let difference = alone["nll"].as_f64().unwrap() - together["nll"].as_f64().unwrap();
        assert!(difference.abs() < 1e-3, "{alone} {together}");
    }
    let ignoring = folder.write("ignoring.jsonl", r#"{"input_ids": [0, 9, 2], "labels": [0, -100, 9, -100, 2]}"#);
    let scores = run(&["score", "--model", model(), "--input", &ignoring]).succeeds().records();
    assert_eq!(scores[0]["tokens"], 3);
    assert_eq!(scores[0]["logprobs"].as_array().unwrap().len(), 3);
}

#[test]
fn a_record_without_a_target_is_named() {
    let folder = Folder::new();
    let input = folder.write("in.jsonl", json!({"id": "bare", "document": TEXT}).to_string());
    run(&["score", "--model", model(), "--input", &input]).fails_naming(&["in.jsonl:1", "bare", "summary"]);
    let outside = folder.write("outside.jsonl", r#"{"input_ids": [0, 2], "labels": [0, 99999, 2]}"#);
    run(&["score", "--model", model(), "--input", &outside]).fails_naming(&["outside.jsonl:1", "99999"]);
}

#[test]
fn a_limit_reads_the_beginning_and_says_so() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 2);
    let score = |more: &[&str]| run(&[&["score", "--model", model(), "--input", &input][..], more].concat()).succeeds();
    let (whole, cut) = (score(&[]), score(&["--max-document-tokens", "6"]));
    assert!(cut.stderr.contains("--max-document-tokens 6 left out"), "{}", cut.stderr);
    assert!(!whole.stderr.contains("left out"), "{}", whole.stderr);
    assert_eq!(whole.records()[0]["tokens"], cut.records()[0]["tokens"]);
    assert_ne!(whole.records()[0]["nll"], cut.records()[0]["nll"]);
    assert_eq!(score(&["--max-document-tokens", "1000"]).records(), whole.records());
}
