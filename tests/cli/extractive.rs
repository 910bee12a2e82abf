//! `--extractive`: summaries made of the document's own passages, and the settings of a model that asks for them.

use std::fs;

use epitome_data::Tokenizer;
use serde_json::{Value, json};

use crate::fixture::{Folder, model, run};

/// Sentences of enough tokens to be passages.
const SENTENCES: [&str; 4] = [
    "Grüße from the long document, which has many words and many more 😀 of them!",
    "The short summary has few words, and a model reads the whole document before it writes.",
    "Before it writes, a model of words reads the document from one end to the other end?",
    "A summary of few words is what the reader of a document has before the document.",
];

/// Where in `SENTENCES` the parts of a summary stand; fails where one is not a sentence.
#[track_caller]
fn parts(summary: &str) -> Vec<usize> {
    let mut rest = summary;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let at = SENTENCES.iter().position(|sentence| rest.starts_with(sentence));
        let at = at.unwrap_or_else(|| panic!("not a sentence: {rest}"));
        found.push(at);
        rest = rest[SENTENCES[at].len()..].trim_start();
    }
    found
}

#[test]
fn summaries_are_sentences_of_the_document_in_its_order() {
    let folder = Folder::new();
    let document = SENTENCES.join(" ");
    let record = json!({"id": "a", "document": document, "query": "What?"});
    let several = json!({"id": "b", "documents": [SENTENCES[0], SENTENCES[1], SENTENCES[2..].join(" ")]});
    let input = folder.write("in.jsonl", format!("{record}\n{several}\n"));
    let decode = |extra: &[&str]| {
        let command = ["decode", "--input", &input, "--model", model(), "--max-new-tokens", "200"];
        run(&[&command, extra].concat()).succeeds().records()
    };
    for beams in ["1", "3"] {
        for summary in decode(&["--extractive", "--num-beams", beams]) {
            let parts = parts(summary["summary"].as_str().unwrap());
            assert!(!parts.is_empty() && parts.is_sorted_by(|one, next| one < next), "{parts:?}");
            assert_eq!(summary["ended"], true);
        }
    }
    assert_eq!(decode(&["--extractive=false"]), decode(&[]));
    let attributed = decode(&["--extractive", "--attribute"]);
    let sentences = attributed.iter().flat_map(|summary| summary["attribution"].as_array().unwrap());
    let cited = |sentence: &Value| {
        sentence["passages"].as_array().unwrap().iter().any(|one| one["overlap"].as_f64().unwrap() > 0.99)
    };
    assert!(sentences.clone().count() > 0 && sentences.clone().all(cited), "every sentence has its passage");
}

/// A copy of the model that asks for extracts.
fn model_for_extracts(folder: &Folder) -> String {
    let directory = folder.path("extracts");
    fs::create_dir(&directory).unwrap();
    for entry in fs::read_dir(model()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, format!("{directory}/{}", path.file_name().unwrap().to_str().unwrap())).unwrap();
    }
    let settings = r#"{"extractive": true, "prompt": "extract, 20 words", "max_new_tokens": 200}"#;
    fs::write(format!("{directory}/generation_config.json"), settings).unwrap();
    directory
}

#[test]
fn a_fine_tuned_model_that_will_still_extract_is_spoken_of() {
    let folder = Folder::new();
    let (directory, data) = (model_for_extracts(&folder), folder.records("in.jsonl", 2));
    let config = folder.write("run.toml", format!("[model]\npath = {directory:?}\n[data]\ntrain = {data:?}\n"));
    let train = |output: &str, setting: &str| {
        let command =
            ["train", "--config", &config, "--output", &folder.path(output), "--set", "run.max_steps=1", setting];
        run(&command).succeeds().stderr
    };
    let told = train("summaries", "run.seed=1");
    assert!(told.contains("generation_config.json asks for extracts") && told.contains("--extractive=false"), "{told}");
    assert_eq!(folder.read("summaries/generation_config.json"), folder.read("extracts/generation_config.json"));
    let told = train("extracts too", "data.objectives={summarize=1.0,extract=1.0}");
    assert!(!told.contains("asks for extracts"), "{told}");
}

#[test]
fn a_model_may_ask_for_extracts_and_a_prompt() {
    let folder = Folder::new();
    let directory = model_for_extracts(&folder);
    let input = folder.write("in.jsonl", format!("{}\n", json!({"id": "a", "document": SENTENCES.join(" ")})));
    let decode = |model: &str, extra: &[&str]| {
        run(&[&["decode", "--input", &input, "--model", model], extra].concat()).succeeds().records()
    };
    let options = ["--extractive", "--prompt", "extract, 20 words", "--max-new-tokens", "200"];
    assert_eq!(decode(&directory, &[]), decode(model(), &options));
    let options = ["--extractive=false", "--prompt", "", "--max-new-tokens", "9"];
    assert_eq!(decode(&directory, &options), decode(model(), &["--max-new-tokens", "9"]));

    let ids = folder.write("ids.jsonl", r#"{"id": "b", "input_ids": [0, 5, 2], "labels": [5, 2]}"#);
    let command = ["decode", "--input", &ids, "--model", &directory];
    run(&command).fails_naming(&["ids.jsonl:1", "record b", "--prompt"]);
    run(&[&command[..], &["--prompt", ""]].concat()).fails_naming(&["ids.jsonl:1", "`b`", "token ids"]);
    run(&[&command[..], &["--prompt", "", "--extractive=false"]].concat()).succeeds();
    let score = run(&["score", "--input", &ids, "--model", &directory]).succeeds().records();
    assert_eq!(score, run(&["score", "--input", &ids, "--model", model()]).succeeds().records());
}

/// What is cut off is in no summary.
#[test]
fn only_what_was_read_is_extracted() {
    let folder = Folder::new();
    // With `<s>` and `</s>`, and a token of what follows.
    let limit = Tokenizer::load(model()).unwrap().encode(&SENTENCES[..2].join(" ")).unwrap().len() + 3;
    let input = folder.write("in.txt", SENTENCES.join(" "));
    let limit = limit.to_string();
    let command = ["decode", &input, "--model", model(), "--extractive", "--max-new-tokens", "200"];
    let summary = run(&[&command[..], &["--max-document-tokens", &limit]].concat()).succeeds().stdout;
    let summary = summary.trim_end();
    let whole = SENTENCES[..2].iter().fold(summary.to_owned(), |rest, sentence| rest.replace(sentence, ""));
    assert!(SENTENCES[2].starts_with(whole.trim()), "{summary}");
}
