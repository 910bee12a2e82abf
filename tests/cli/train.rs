//! `epitome train`: the run of a tiny model, and what stops one.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::fixture::{Folder, TEXT, command, json_lines, model, run, wait_until, write_model};

fn config(folder: &Folder, train: &str) -> String {
    let text = format!(
        "[model]\npath = {:?}\n\n[data]\ntrain = {train:?}\nvalidation = {train:?}\n\n\
         [optim]\nlearning_rate = 1e-3\n\n\
         [run]\nmax_steps = 4\nbatch_size = 2\nlogging_steps = 1\nsave_steps = 2\n",
        model()
    );
    folder.write("run.toml", text)
}

#[test]
fn a_run_leaves_a_model_that_decodes() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 6);
    let config = config(&folder, &records);
    let output = folder.path("run");
    run(&["train", "--config", &config, "--output", &output]).succeeds();
    let metrics = json_lines(&folder.read("run/metrics.jsonl"));
    let losses: Vec<f64> = metrics.iter().filter_map(|line| line.get("loss").and_then(Value::as_f64)).collect();
    assert_eq!(losses.len(), 4);
    assert!(losses.iter().all(|loss| loss.is_finite() && *loss > 0.0), "{losses:?}");
    assert!(folder.read("run/config.toml").contains("max_steps = 4"));
    let text = folder.write("a.txt", TEXT);
    run(&["decode", &text, "--model", &output]).succeeds();
    run(&["decode", &text, "--model", &format!("{output}/checkpoint-2")]).succeeds();
}

/// Copies files of the shared model into a new directory.
fn part_of_model(folder: &Folder, name: &str, files: &[&str]) -> String {
    let directory = folder.path(name);
    fs::create_dir(&directory).unwrap();
    for file in files {
        fs::copy(format!("{}/{file}", model()), format!("{directory}/{file}")).unwrap();
    }
    directory
}

#[test]
fn a_trained_model_has_the_files_of_the_one_tokenizer_it_was_trained_with() {
    let folder = Folder::new();
    let directory = folder.path("model");
    fs::create_dir(&directory).unwrap();
    write_model(directory.as_ref());
    folder.write("model/generation_config.json", r#"{"num_beams": 2}"#);
    let tokenizer = part_of_model(&folder, "tokenizer", &["vocab.json", "merges.txt"]);
    folder.write("tokenizer/generation_config.json", r#"{"num_beams": 3}"#);
    let config = config(&folder, &folder.records("train.jsonl", 6));
    let path = format!("model.path={directory}");
    let named = format!("model.tokenizer={tokenizer}");
    run(&["train", "--config", &config, "--output", &folder.path("run"), "--set", &path, &named]).succeeds();
    for saved in ["run", "run/checkpoint-2"] {
        assert!(folder.read(&format!("{saved}/generation_config.json")).contains('2'), "that of the model");
        let there = ["vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
            .map(|file| fs::exists(folder.path(&format!("{saved}/{file}"))).unwrap());
        assert_eq!(there, [true, true, false, false, false], "{saved}");
    }
}

#[test]
fn a_tokenizer_that_vanishes_during_a_run_is_saved_all_the_same() {
    let folder = Folder::new();
    let tokenizer = part_of_model(&folder, "tokenizer", &["tokenizer.json"]);
    let config = config(&folder, &folder.records("train.jsonl", 6));
    let output = folder.path("run");
    let settings = [format!("model.tokenizer={tokenizer}"), "run.max_steps=300".into(), "data.validation=[]".into()];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let mut training = command(&[&["train", "--config", &config, "--output", &output][..], &settings].concat());
    let mut child = training.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(&mut child, || fs::exists(folder.path("run/checkpoint-2")).unwrap());
    fs::remove_dir_all(&tokenizer).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let expected = fs::read(format!("{}/tokenizer.json", model())).unwrap();
    for saved in ["run", "run/checkpoint-300"] {
        assert!(fs::read(folder.path(&format!("{saved}/tokenizer.json"))).unwrap() == expected, "{saved}");
    }
}

#[test]
fn a_resumed_run_ends_as_an_uninterrupted_one() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 6);
    let config = config(&folder, &records);
    let (whole, parts) = (folder.path("whole"), folder.path("parts"));
    run(&["train", "--config", &config, "--output", &whole]).succeeds();
    // The linear schedule depends on the length of the run, so it is made constant to stop half-way.
    let constant = ["--set", "optim.lr_scheduler_type=constant"];
    run(&[&["train", "--config", &config, "--output", &folder.path("constant")][..], &constant].concat()).succeeds();
    let half =
        [&["train", "--config", &config, "--output", &parts, "--set", "run.max_steps=2"][..], &constant].concat();
    run(&half).succeeds();
    run(&[&["train", "--config", &config, "--output", &parts, "--resume"][..], &constant].concat()).succeeds();
    let weights = |name: &str| fs::read(folder.path(&format!("{name}/model.safetensors"))).unwrap();
    assert!(weights("parts") == weights("constant"), "resumed weights differ");
    assert!(weights("parts") != weights("whole"), "the schedule made no difference");
}

#[test]
fn plain_text_teaches_without_summaries() {
    let folder = Folder::new();
    let texts = folder.write("texts.jsonl", format!("{{\"document\": {TEXT:?}}}\n").repeat(4));
    let config = config(&folder, &texts);
    let output = folder.path("run");
    let train = |settings: &[&str]| run(&[&["train", "--config", &config, "--output", &output][..], settings].concat());
    train(&[]).fails_naming(&["texts.jsonl:1", "summary"]);
    let mixture = "data.objectives={ denoise = 1.0, gap_sentences = 1.0 }";
    train(&["--set", mixture, "--set", "run.gradient_accumulation_steps=2", "--set", "run.parallel_micro_batches=2"])
        .succeeds();
    let losses = json_lines(&folder.read("run/metrics.jsonl"));
    assert!(losses.iter().any(|line| line.get("validation_loss").is_some_and(Value::is_number)), "{losses:?}");
    assert!(folder.read("run/config.toml").contains("denoise = 1.0"));
}

#[test]
fn extracts_and_prompts_are_trained_with_summaries() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 6);
    let config = config(&folder, &records);
    let output = folder.path("run");
    let train = |settings: &[&str]| run(&[&["train", "--config", &config][..], settings].concat());
    let mixture = "data.objectives={ summarize = 1.0, extract = 1.0 }";
    let prompts =
        |key: &str| format!("data.prompts={{ probability = 0.5, words = true, files = {{ {key} = \"digest\" }} }}");
    train(&["--output", &output, "--set", &prompts("elife")]).fails_naming(&["data.prompts.files", "`elife`"]);
    train(&["--output", &output, "--set", mixture, "--set", "data.extract.max_tokens=20", "--set", &prompts("train")])
        .succeeds();
    assert!(folder.read("run/config.toml").contains("extract = 1.0"));
    let pattern = format!("data.train={}", folder.path("tr*.jsonl"));
    train(&["--output", &folder.path("pattern"), "--set", &pattern, "--set", &prompts("train")]).succeeds();
    let ids = folder.write("ids.jsonl", r#"{"input_ids": [0, 5, 2], "labels": [0, 5, 2]}"#);
    train(&["--set", mixture, "--set", &format!("data.train={ids}"), "--output", &folder.path("ids")])
        .fails_naming(&["ids.jsonl:1", "extract"]);
}

#[test]
fn validation_asks_for_text_only_where_it_draws() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 6);
    let text = json!({"id": "text", "document": TEXT, "summary": "few words"});
    let ids = json!({"id": "ids", "input_ids": [0, 70, 71, 2], "labels": [0, 72, 2]});
    let validation = folder.write("validation.jsonl", format!("{text}\n{ids}\n"));
    let config = config(&folder, &records);
    let train = |name: &str, mixture: &str, more: &[&str]| {
        let (output, mixture) = (folder.path(name), format!("data.objectives={mixture}"));
        let validation = format!("data.validation={validation}");
        let generate = ["run.predict_with_generate=true", "run.generation_max_new_tokens=3"];
        let settings = [&["--set", &mixture, &validation, "data.extract.max_tokens=20"][..], &generate].concat();
        run(&[&["train", "--config", &config, "--output", &output][..], &settings, more].concat())
    };
    // Summaries are what is validated, and token ids have them.
    let told = train("mixed", "{ summarize = 1.0, gap_sentences = 1.0 }", &[]).succeeds().stderr;
    assert!(told.contains("validation: 2 records"), "{told}");
    // Without them the objectives are drawn, which need text: for the loss and for the scores.
    let extracts = "{ extract = 1.0 }";
    train("extracts", extracts, &[]).fails_naming(&["validation.jsonl:2", "need text"]);
    let told = train("skipping", extracts, &["--skip-bad-records"]).succeeds().stderr;
    assert!(told.contains("validation: 1 record,"), "{told}");
    assert_eq!(told.matches("validation.jsonl:2").count(), 2, "by the loss and by the scores: {told}");
}

#[test]
fn extracts_are_learnt_as_choices() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 6);
    let config = config(&folder, &records);
    let losses = |name: &str, weight: &str| {
        let settings = ["data.objectives={ extract = 1.0 }", "data.extract.max_tokens=60", "run.max_steps=1", weight];
        let settings: Vec<&str> = settings.into_iter().flat_map(|setting| ["--set", setting]).collect();
        let output = folder.path(name);
        run(&[&["train", "--config", &config, "--output", &output][..], &settings].concat()).succeeds();
        let metrics = json_lines(&folder.read(&format!("{name}/metrics.jsonl")));
        let value = |key: &str| metrics.iter().find_map(|line| line.get(key)?.as_f64()).expect("it is measured");
        ["loss", "nll", "validation_loss"].map(value)
    };
    let ordinary = losses("ordinary", "data.extract.choice_weight=0");
    let choices = losses("choices", "data.extract.choice_weight=3");
    assert!((ordinary[0] - ordinary[1]).abs() < 1e-9, "{ordinary:?}");
    assert!(choices[1] > 0.0 && (choices[0] - 3.0 * choices[1]).abs() < 1e-6, "{choices:?}");
    assert!(choices[1] < ordinary[1] / 2.0 && choices[2] < ordinary[2] / 2.0, "{choices:?} {ordinary:?}");
}

#[test]
fn wrong_keys_and_values_are_named() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 2);
    let config = config(&folder, &records);
    let output = folder.path("run");
    let train = |settings: &[&str]| run(&[&["train", "--config", &config, "--output", &output][..], settings].concat());
    train(&["--set", "optim.learning_rat=1"]).fails_naming(&["learning_rat"]);
    train(&["--set", "run.batch_size=0"]).fails_naming(&["run.toml with --set", "batch_size"]);
    train(&["--set", "run.precision=int3"]).fails_naming(&["int3"]);
    train(&["--set", "data.objectives.summarise=1"]).fails_naming(&["summarise"]);
    for key in ["data.max_train_records", "data.max_validation_records"] {
        train(&["--set", &format!("{key}=0")]).fails_naming(&["run.toml with --set", key]);
    }
    train(&["--set", "data.objectives.summarize=0"]).fails_naming(&["data.objectives"]);
    train(&["--set", "data.denoise.mask_ratio=1.5"]).fails_naming(&["data.denoise.mask_ratio", "1.5"]);
    train(&["--set", "data.denoise.mask_ratio=0.9", "data.denoise.mean_span=3"]).fails_naming(&["mask_ratio"]);
    train(&["--set", "data.objectives.denoise=1", "data.max_target_length=20"]).fails_naming(&["data.denoise.length"]);
    let weight = "data.extract.choice_weight=-1";
    train(&["--set", "data.objectives.extract=1", "--set", weight]).fails_naming(&[
        "data.extract",
        "choice_weight",
        "-1",
    ]);
    train(&["--set", "run.parallel_micro_batches=0"]).fails_naming(&["parallel_micro_batches"]);
    train(&["--set", "run.parallel_micro_batches=2"]).fails_naming(&["parallel_micro_batches", "accumulation"]);
    train(&["--set", "run.eval_steps=1", "data.validation=[]"]).fails_naming(&["eval_steps", "validation"]);
    train(&["--set", &format!("data.validation={}", folder.write("empty.jsonl", ""))]).fails_naming(&["empty.jsonl"]);
    train(&["--set", "model.tokenizer=nowhere"]).fails_naming(&["nowhere"]);
    train(&["--set", "model.position_embeddings=sinusoidal"]).fails_naming(&["position_embeddings", "model.path"]);
    train(&["--set", "data.train=5"]).fails_naming(&["data", "train", "a path or a list of paths"]);
    train(&["--set", "run.seed=18446744073709551615"]).fails_naming(&["run.seed", "9223372036854775807"]);
    let large = fs::read_to_string(&config).unwrap() + "seed = 9223372036854775808\n";
    let large = folder.write("large.toml", large);
    run(&["train", "--config", &large, "--output", &output])
        .fails_naming(&["large.toml", "seed = 9223372036854775808"]);
    train(&["--set", "model.init_std=-0.02"]).fails_naming(&["[model]", "init_std is -0.02"]);
    train(&["--set", "data.train=nowhere.jsonl"]).fails_naming(&["nowhere.jsonl"]);
    let wrong = folder.write("wrong.toml", "[model]\n[data]\ntrain = \"x\"\n[runn]\nmax_steps = 1\n");
    run(&["train", "--config", &wrong, "--output", &output]).fails_naming(&["wrong.toml", "runn"]);
    let missing = folder.path("missing.toml");
    run(&["train", "--config", &missing, "--output", &output]).fails_naming(&[&missing]);
}

#[test]
fn an_output_directory_is_asked_for() {
    let folder = Folder::new();
    let config = config(&folder, "x.jsonl");
    assert_eq!(run(&["train", "--config", &config]).code, 2);
}

#[test]
fn a_loss_that_is_no_number_names_the_step_and_the_records() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 6);
    let config = config(&folder, &records);
    let output = folder.path("run");
    let settings = ["optim.learning_rate=1e16", "optim.lr_scheduler_type=constant", "run.save_steps=1"];
    let arguments = [&["train", "--config", &config, "--output", &output, "--set"][..], &settings].concat();
    let failed = run(&arguments);
    let named = failed.stderr.lines().find(|line| line.starts_with("epitome: error: ")).unwrap_or_default().to_owned();
    failed.fails_naming(&["step 2", "on the records", "checkpoint"]);
    let ids = named.split("on the records ").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_default();
    assert_eq!(ids.split(", ").count(), 2, "both records of the step are named: {named}");
    assert!(folder.read("run/checkpoint-1/state.json").contains("\"step\": 1"), "the last checkpoint is intact");
}

#[test]
fn weights_beyond_the_numbers_are_not_saved() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 6);
    let config = config(&folder, &records);
    // With a rate of 1e38 an update divides by zero, with one of 1e30 it leaves weights whose squares are infinite.
    for rate in ["optim.learning_rate=1e30", "optim.learning_rate=1e38"] {
        for save in ["run.save_steps=0", "run.save_steps=1"] {
            let name = format!("{rate}-{save}");
            let settings = [rate, save, "run.max_steps=1", "optim.lr_scheduler_type=constant", "data.validation=[]"];
            let output = folder.path(&name);
            run(&[&["train", "--config", &config, "--output", &output, "--set"][..], &settings].concat())
                .fails_naming(&["step 1", "weights", "on the records r", "lower optim.learning_rate"]);
            let saved =
                ["model.safetensors", "checkpoint-1"].map(|file| fs::exists(format!("{output}/{file}")).unwrap());
            assert_eq!(saved, [false, false], "{name}");
        }
    }
}

#[test]
fn an_output_that_holds_a_run_is_not_overwritten() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 6);
    let config = config(&folder, &records);
    let output = folder.path("run");
    run(&["train", "--config", &config, "--output", &output]).succeeds();
    run(&["train", "--config", &config, "--output", &output]).fails_naming(&["checkpoint-4", "--resume"]);
    let told = run(&["train", "--config", &config, "--output", &output, "--resume"]).succeeds().stderr;
    assert!(told.contains("all 4 steps are made: the run is complete"), "{told}");
}
