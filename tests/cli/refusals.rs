//! What is refused, or said, where a result would be wrong without a word.

use std::fs;

use candle_core::{Device, safetensors};
use serde_json::json;

use crate::fixture::{Folder, TEXT, model, run, write_model};

const BART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/bart");

#[test]
fn a_document_of_which_nothing_is_read_is_named() {
    let folder = Folder::new();
    let record =
        |id: &str, query: &str| json!({"id": id, "query": query, "document": TEXT, "summary": "few"}).to_string();
    let input = folder.write("in.jsonl", record("lost", TEXT) + "\n" + &record("read", "who?"));
    for command in ["decode", "score"] {
        let arguments = [command, "--input", &input, "--model", model(), "--max-document-tokens", "12"];
        let stderr = run(&arguments).succeeds().stderr;
        assert!(
            stderr.contains("lost: nothing of the document is read") && !stderr.contains("warning: read: "),
            "{stderr}"
        );
        assert!(run(&[command, "--help"]).succeeds().stdout.contains("with its query, the prompt"));
    }
}

#[test]
fn baselines_that_are_asked_for_are_not_left_out() {
    let folder = Folder::new();
    let line = |fields: serde_json::Value| fields.to_string() + "\n";
    let records =
        line(json!({"id": "a", "summary": "x y", "document": TEXT})) + &line(json!({"id": "b", "summary": "x"}));
    let references = folder.write("references.jsonl", records);
    let evaluate = |more: &[&str]| {
        run(&[&["evaluate", "--predictions", &references, "--references", &references][..], more].concat())
    };
    evaluate(&["--baselines", "lead"]).fails_naming(&["references.jsonl", "`b`", "--baselines"]);
    assert!(evaluate(&[]).succeeds().stderr.contains("no baselines"));
    assert_eq!(evaluate(&["--baselines", "none"]).succeeds().stderr, "");
    let tokens = folder.write("tokens.jsonl", line(json!({"input_ids": [0, 5, 2], "summary": "x"})));
    run(&["evaluate", "--data", &tokens, "--model", model(), "--baselines", "lead"])
        .fails_naming(&["tokens.jsonl:1", "--baselines"]);
}

#[test]
fn a_model_without_a_tokenizer_reads_no_text() {
    let folder = Folder::new();
    let directory = folder.path("model");
    fs::create_dir(&directory).unwrap();
    write_model(directory.as_ref());
    for name in ["tokenizer.json", "vocab.json", "merges.txt"] {
        fs::remove_file(folder.path(&format!("model/{name}"))).unwrap();
    }
    let data = folder.write("data.jsonl", json!({"input_ids": [0, 5, 2], "summary": "few words"}).to_string());
    run(&["evaluate", "--data", &data, "--model", &directory]).fails_naming(&["no tokenizer", "tokenizer.json"]);
    let text = folder.write("a.txt", TEXT);
    run(&["decode", "--model", &directory, &text]).fails_naming(&[&directory, "no tokenizer", "tokenizer.json"]);
    let records = folder.records("in.jsonl", 1);
    for command in ["decode", "score"] {
        run(&[command, "--model", &directory, "--input", &records]).fails_naming(&["in.jsonl:1", "tokenizer.json"]);
    }
}

#[test]
fn ids_that_would_become_others_are_refused() {
    let folder = Folder::new();
    let ids = |ids: [&str; 2]| {
        let lines = ids.map(|id| format!("{{\"id\": {id}, \"document\": \"text\"}}"));
        let input = folder.write("in.jsonl", lines.join("\n"));
        run(&["decode", "--input", &input, "--model", model(), "--max-new-tokens", "2"])
    };
    let found = ids(["18446744073709551615", "1.5"]).succeeds().records();
    assert_eq!((&found[0]["id"], &found[1]["id"]), (&json!("18446744073709551615"), &json!("1.5")));
    ids(["7", "100000000000000000000"]).fails_naming(&["in.jsonl:2", "`id`", "string"]);
}

#[test]
fn a_compressed_output_is_not_promised() {
    let folder = Folder::new();
    let records = folder.records("in.jsonl", 1);
    for ending in ["gz", "zst"] {
        let output = folder.path(&format!("out.jsonl.{ending}"));
        let decoding = ["--input", &records, "--model", model(), "--output", &output];
        run(&[&["decode"][..], &decoding].concat()).misuses_naming(&[&output, "not compressed"]);
        run(&[&["score"][..], &decoding].concat()).misuses_naming(&[&output, "not compressed"]);
        let evaluate = ["evaluate", "--predictions", &records, "--references", &records, "--append-results", &output];
        run(&evaluate).misuses_naming(&[&output, "not compressed"]);
        assert!(!fs::exists(&output).unwrap());
    }
}

#[test]
fn an_output_is_asked_for_before_a_tokenizer_is_learned() {
    let folder = Folder::new();
    let bad = folder.write("in.jsonl", "not json\n");
    let output = folder.write("file", "");
    let train = ["tokenizer", "train", "--input", &bad, "--vocab-size", "300", "--output"];
    run(&[&train[..], &[&output]].concat()).fails_naming(&["cannot write", &output]);
    let output = folder.path("tokenizer");
    run(&[&train[..], &[&output]].concat()).fails_naming(&["in.jsonl:1"]);
    assert!(!fs::exists(&output).unwrap(), "an empty directory is left");
}

#[test]
fn what_is_not_a_model_to_convert_is_refused_before_anything_is_written() {
    let folder = Folder::new();
    let from = folder.path("bart");
    fs::create_dir(&from).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(format!("{BART}/{name}"), format!("{from}/{name}")).unwrap();
    }
    let output = folder.path("led");
    let convert = |more: &[&str]| run(&[&["convert", "--from", &from, "--output", &output][..], more].concat());
    convert(&["--max-encoder-positions", "4294967295"]).fails_naming(&[
        "--max-encoder-positions",
        "4294967295",
        "16 GiB",
    ]);
    folder.write("bart/generation_config.json", "{\"num_beams\": 4");
    convert(&[]).fails_naming(&["generation_config.json"]);
    fs::remove_file(folder.path("bart/generation_config.json")).unwrap();
    let weights = folder.path("bart/model.safetensors");
    let mut tensors = safetensors::load(&weights, &Device::Cpu).unwrap();
    let surplus = "model.encoder.layers.9.fc1.bias";
    tensors.insert(surplus.into(), tensors.values().next().unwrap().clone());
    safetensors::save(&tensors, &weights).unwrap();
    convert(&[]).fails_naming(&["model.safetensors", surplus, "layer counts"]);
    assert!(!fs::exists(&output).unwrap(), "something was written");
}

#[test]
fn a_conversion_that_fails_can_be_made_again() {
    let folder = Folder::new();
    let output = folder.path("led");
    let convert = ["convert", "--from", BART, "--output", &output];
    // The configuration is written last, through a file of this name.
    let obstacle = folder.path("led/config.json.partial");
    fs::create_dir_all(&obstacle).unwrap();
    run(&convert).fails_naming(&["config.json"]);
    fs::remove_dir(&obstacle).unwrap();
    run(&convert).succeeds();
}

#[test]
fn the_configuration_of_a_run_says_where_it_lies() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 2);
    let recipe =
        format!("[model]\npath = {:?}\n[data]\ntrain = {records:?}\n[run]\nmax_steps = 1\noutput = \"zzz\"\n", model());
    let recipe = folder.write("run.toml", recipe);
    let output = folder.path("run");
    run(&["train", "--config", &recipe, "--output", &output]).succeeds();
    assert!(folder.read("run/config.toml").contains(&format!("output = {output:?}")));
}

#[test]
fn blank_lines_are_no_records_of_an_output() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 2);
    let output = folder.path("out.jsonl");
    let decode = ["decode", "--input", &input, "--model", model(), "--output", &output];
    run(&decode).succeeds();
    let whole = folder.read("out.jsonl");
    let first = whole.lines().next().unwrap();
    folder.write("out.jsonl", format!("\n{first}\n \n"));
    run(&[&decode[..], &["--resume"]].concat()).succeeds();
    let lines: Vec<String> = folder.read("out.jsonl").lines().map(|line| line.trim().to_owned()).collect();
    assert_eq!(
        lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>(),
        whole.lines().collect::<Vec<_>>()
    );
    folder.write("out.jsonl", "\n\nno record\n");
    run(&[&decode[..], &["--resume"]].concat()).fails_naming(&["line 3"]);
}
