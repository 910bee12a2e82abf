//! Watching and steering a run: curves, event files, scores of validation summaries, the best checkpoint, early stopping.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::fixture::{Folder, json_lines, model, run};

/// A run of six steps that validates after every second one.
fn config(folder: &Folder, validation: &str, more: &str) -> String {
    let train = folder.records("train.jsonl", 8);
    let text = format!(
        "[model]\npath = {:?}\n\n[data]\ntrain = {train:?}\nvalidation = {validation:?}\n\n[optim]\nlearning_rate = 1e-2\n\n\
         [run]\nmax_steps = 6\nbatch_size = 2\nlogging_steps = 1\neval_steps = 2\nsave_steps = 2\n\
         generation_max_new_tokens = 12\n{more}",
        model()
    );
    folder.write("run.toml", text)
}

fn train(config: &str, output: &str, settings: &[&str]) -> crate::fixture::Run {
    run(&[&["train", "--config", config, "--output", output][..], settings].concat())
}

/// The lines of validations, by step.
fn validations(folder: &Folder, output: &str) -> BTreeMap<u64, Value> {
    let lines = json_lines(&folder.read(&format!("{output}/metrics.jsonl")));
    let validations = lines.into_iter().filter(|line| line.get("validation_loss").is_some());
    validations.map(|line| (line["step"].as_u64().unwrap(), line)).collect()
}

fn state(folder: &Folder, checkpoint: &str) -> Value {
    serde_json::from_str(&folder.read(&format!("{checkpoint}/state.json"))).unwrap()
}

fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn scores_are_those_of_evaluate() {
    let folder = Folder::new();
    let lines = [
        json!({"document": "Number 1. The long document has many words.", "summary": "few words of the document"}),
        json!({"document": " ", "summary": "nothing"}),
        json!({"document": "A model reads.", "references": ["the model", "writes few words"]}),
        json!({"document": "Not among the first three.", "summary": "the the the"}),
    ];
    let validation = folder.write("validation.jsonl", lines.map(|line| line.to_string()).join("\n"));
    let config = config(&folder, &validation, "predict_with_generate = true\nmax_generated_records = 3\n");
    let trained = train(&config, &folder.path("run"), &["--set", "data.max_validation_records=4"]);
    // The third record has no summary to train on.
    trained.fails_naming(&["validation.jsonl:3", "summary"]);
    let validation = folder.path("validation.jsonl");
    let with_summary =
        folder.read("validation.jsonl").replace("\"references\":[", "\"summary\":\"x\",\"references\":[");
    fs::write(&validation, with_summary).unwrap();
    train(&config, &folder.path("run"), &["--resume"]).succeeds();
    let first_three: Vec<String> = folder.read("validation.jsonl").lines().take(3).map(str::to_owned).collect();
    let first_three = folder.write("three.jsonl", first_three.join("\n"));
    let found = validations(&folder, "run");
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [2, 4, 6]);
    for (step, line) in found {
        let (checkpoint, report) = (folder.path(&format!("run/checkpoint-{step}")), folder.path("report"));
        if !fs::exists(&checkpoint).unwrap() {
            continue;
        }
        let decoded = ["--model", &checkpoint, "--data", &first_three, "--max-new-tokens", "12", "--output", &report];
        run(&[&["evaluate"][..], &decoded].concat()).succeeds();
        let report: Value = serde_json::from_str(&folder.read("report/report.json")).unwrap();
        for metric in ["rouge1", "rouge2", "rougeL", "rougeLsum"] {
            assert_eq!(line[format!("validation_{metric}")], report["scores"][metric]["f1"]["mean"], "{step} {metric}");
        }
    }
}

#[test]
fn tokenized_records_are_scored_by_their_labels() {
    let folder = Folder::new();
    let record = json!({"input_ids": [0, 70, 71, 72, 2], "labels": [0, 73, 74, 2]});
    let validation = folder.write("tokens.jsonl", format!("{record}\n").repeat(2));
    let config = config(&folder, &validation, "predict_with_generate = true\n");
    train(&config, &folder.path("run"), &[]).succeeds();
    assert!(validations(&folder, "run")[&2]["validation_rougeL"].is_number());
    // A fresh model of the same vocabulary without a tokenizer has no text to compare.
    let fields =
        format!("[model]\nvocab_size = 300\n\n[data]\ntrain = {validation:?}\nvalidation = {validation:?}\n\n");
    let fresh = folder.write("fresh.toml", format!("{fields}[run]\npredict_with_generate = true\n"));
    train(&fresh, &folder.path("fresh"), &[]).fails_naming(&["predict_with_generate", "model.tokenizer"]);
    let unlabelled = folder.write("unlabelled.jsonl", "{\"input_ids\": [0, 70, 2]}");
    let settings = ["--set", &format!("data.validation={unlabelled}")];
    train(&config, &folder.path("unlabelled"), &settings).fails_naming(&["unlabelled.jsonl:1", "references"]);
}

#[test]
fn the_best_checkpoint_stays_and_becomes_the_model() {
    let folder = Folder::new();
    // What is learned is of no use here, so that the best validation is not the last.
    let other = json!({"document": "Another text.", "summary": "Numbers such as 1, 2 and 3."});
    let validation = folder.write("validation.jsonl", other.to_string());
    let config = config(&folder, &validation, "save_total_limit = 1\nload_best_model_at_end = true\n");
    let constant = ["--set", "optim.lr_scheduler_type=constant", "run.save_steps=40"];
    let ended = train(&config, &folder.path("run"), &[&constant[..], &["run.max_steps=40"]].concat()).succeeds();
    let losses = validations(&folder, "run");
    let loss = |step: &u64| losses[step]["validation_loss"].as_f64().unwrap();
    let best = losses.keys().copied().min_by(|one, other| loss(one).total_cmp(&loss(other))).unwrap();
    assert!(best < 40, "{losses:?}");
    assert!(ended.stdout.contains(&format!("best validation loss {:.4} after step {best}", loss(&best))));
    let checkpoints: Vec<String> =
        names(&folder.path("run")).into_iter().filter(|name| name.starts_with("checkpoint")).collect();
    assert_eq!(checkpoints, [format!("checkpoint-{best}"), "checkpoint-40".into()]);
    let weights = |name: &str| fs::read(folder.path(&format!("run/{name}model.safetensors"))).unwrap();
    assert!(weights("") == weights(&format!("checkpoint-{best}/")), "the final model is not the best one");
    assert!(weights("") != weights("checkpoint-40/"));
    let expected = json!({"metric": "loss", "value": loss(&best), "step": best});
    assert_eq!(state(&folder, "run/checkpoint-40")["best_so_far"]["best"], expected);
    fs::remove_dir_all(folder.path(&format!("run/checkpoint-{best}"))).unwrap();
    let resumed = train(&config, &folder.path("run"), &[&constant[..], &["run.max_steps=42", "--resume"]].concat());
    let resumed = resumed.succeeds();
    assert!(resumed.stderr.contains("left no intact checkpoint"), "{}", resumed.stderr);
    assert!(resumed.stdout.contains("after step 42"), "{}", resumed.stdout);
}

#[test]
fn patience_ends_a_run() {
    let folder = Folder::new();
    let validation = folder.records("validation.jsonl", 4);
    let config = config(&folder, &validation, "early_stopping_patience = 2\nearly_stopping_threshold = 1000.0\n");
    let output = folder.path("run");
    let many = ["--set", "run.max_steps=100", "optim.lr_scheduler_type=constant"];
    let ended = train(&config, &output, &many).succeeds();
    // The first validation is the best; no later one is better by 1000 nats.
    assert!(ended.stderr.contains("stopped early") && ended.stdout.starts_with("6 steps"), "{}", ended.stderr);
    assert_eq!(validations(&folder, "run").len(), 3);
    let again = train(&config, &output, &[&many[..], &["--resume"]].concat()).succeeds();
    assert!(again.stdout.starts_with("6 steps"), "{}", again.stdout);
    let more = [&many[..], &["run.early_stopping_patience=4", "--resume"]].concat();
    assert!(train(&config, &output, &more).succeeds().stdout.starts_with("10 steps"));
}

#[test]
fn a_run_can_be_watched() {
    let folder = Folder::new();
    let validation = folder.records("validation.jsonl", 2);
    let config = config(&folder, &validation, "predict_with_generate = true\n");
    let output = folder.path("run & <more>");
    let constant = ["--set", "optim.lr_scheduler_type=constant"];
    train(&config, &output, &[&constant[..], &["run.max_steps=2"]].concat()).succeeds();
    train(&config, &output, &[&constant[..], &["--resume"]].concat()).succeeds();
    let curves = folder.read("run & <more>/curves.svg");
    for part in ["run &amp; &lt;more&gt;", "Loss", "ROUGE", "Learning rate", "Lengths of the training records"] {
        assert!(curves.contains(part), "{part}");
    }
    let metrics = json_lines(&folder.read("run & <more>/metrics.jsonl"));
    let memory = metrics.iter().filter_map(|line| line.get("host_memory_gib")?.as_f64());
    assert_eq!(memory.filter(|&gib| gib > 0.0).count(), if cfg!(target_os = "linux") { 6 } else { 0 });
    let events = names(&format!("{output}/tensorboard"));
    assert_eq!(events.len(), 2, "one event file for each part of the run: {events:?}");
    let quiet = folder.path("quiet");
    train(&config, &quiet, &["--set", "run.tensorboard=false"]).succeeds();
    assert!(!names(&quiet).contains(&"tensorboard".to_owned()));
}

#[test]
fn contradictions_are_named() {
    let folder = Folder::new();
    let validation = folder.records("validation.jsonl", 2);
    let config = config(&folder, &validation, "");
    let set = |settings: &[&str]| train(&config, &folder.path("run"), &[&["--set"], settings].concat());
    set(&["run.metric_for_best_model=rouge1"]).fails_naming(&["metric_for_best_model", "predict_with_generate"]);
    set(&["run.metric_for_best_model=rouge"]).fails_naming(&["rouge", "rougeLsum"]);
    set(&["run.early_stopping_patience=0"]).fails_naming(&["early_stopping_patience"]);
    set(&["run.early_stopping_threshold=-1.0"]).fails_naming(&["early_stopping_threshold"]);
    set(&["run.eval_steps=0", "run.early_stopping_patience=1"])
        .fails_naming(&["early_stopping_patience", "eval_steps"]);
    set(&["run.eval_steps=0", "run.load_best_model_at_end=true"]).fails_naming(&["load_best_model", "eval_steps"]);
    set(&["run.generation_num_beams=0"]).fails_naming(&["generation_num_beams"]);
    set(&["run.predict_with_generate=true", "run.generation_num_beams=99999999999"]).fails_naming(&[
        "num_beams",
        "generation_ keys of the [run] table",
        "99999999999",
        "vocabulary",
    ]);
    set(&["run.max_generated_records=0"]).fails_naming(&["max_generated_records"]);
    let without = ["run.eval_steps=0", "data.validation=[]", "run.predict_with_generate=true"];
    set(&without).fails_naming(&["predict_with_generate", "data.validation"]);
}
