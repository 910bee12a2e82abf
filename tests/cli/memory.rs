//! What `epitome inspect` predicts is what the program takes.

use epitome_model::{Config, PositionEmbeddings, SavedDtype, Weights};

use crate::fixture::{Folder, run};

/// A model large enough that the process itself does not matter.
fn model(folder: &Folder) -> String {
    let config = Config {
        vocab_size: 4000,
        d_model: 256,
        encoder_layers: 3,
        decoder_layers: 2,
        encoder_attention_heads: 4,
        decoder_attention_heads: 4,
        encoder_ffn_dim: 1024,
        decoder_ffn_dim: 1024,
        max_encoder_position_embeddings: 16_384,
        attention_window: epitome_model::AttentionWindow::Every(64),
        ..Config::default()
    };
    let directory = folder.path("model");
    std::fs::create_dir(&directory).unwrap();
    let path = std::path::Path::new(&directory);
    config.save(path).unwrap();
    Weights::initialise(&config, PositionEmbeddings::Normal, 7).unwrap().save(path, SavedDtype::F32).unwrap();
    directory
}

/// GiB in the column of `row`, counted from the end of the output's last line but `above`.
fn predicted(model: &str, arguments: &[&str], above: usize, column: usize) -> f64 {
    let text = run(&[&["inspect", model][..], arguments].concat()).succeeds().stdout;
    let row = text.lines().rev().nth(above).unwrap();
    row.split_whitespace().nth(column).unwrap().parse().unwrap()
}

#[track_caller]
fn assert_near(predicted: f64, bench: &[&str]) {
    let line = run(&[&["bench"][..], bench, &["--threads", "2"]].concat()).succeeds().records().remove(0);
    // Only where the system says how much memory a process took.
    let Some(measured) = line["peak_gib"].as_f64() else { return };
    assert!((0.9..1.1).contains(&(predicted / measured)), "predicted {predicted} GiB, measured {measured}: {bench:?}");
}

#[test]
fn training_takes_what_inspect_predicts() {
    let folder = Folder::new();
    let model = model(&folder);
    let train = ["--tokens", "12000", "--target-tokens", "200"];
    let bench = [&["train", "--model", &model, "--repeat", "2"][..], &train].concat();
    let inspect = [&train[..], &["--train"]].concat();
    assert_near(predicted(&model, &inspect, 0, 3), &bench);
    assert_near(predicted(&model, &inspect, 0, 4), &[&bench[..], &["--no-checkpointing"]].concat());
}

#[test]
fn decoding_takes_what_inspect_predicts() {
    let folder = Folder::new();
    let model = model(&folder);
    for precision in ["f32", "bf16", "int8"] {
        let common = ["--tokens", "40000", "--precision", precision];
        let generate = [&["generate", "--model", &model, "--new-tokens", "16"][..], &common].concat();
        let inspect = [&common[..], &["--target-tokens", "16"]].concat();
        assert_near(predicted(&model, &inspect, 0, 4), &generate);
    }
}

#[test]
fn a_run_that_cannot_fit_is_refused_at_the_start() {
    let folder = Folder::new();
    let model = model(&folder);
    let record = |id: &str, tokens: usize| {
        format!("{{\"id\": {id:?}, \"input_ids\": {:?}, \"labels\": [5, 6, 2]}}\n", vec![7; tokens])
    };
    let records = folder.write("train.jsonl", [record("a", 3), record("long", 9000), record("b", 3)].concat());
    let run_table = "[run]\nmax_steps = 3\nsave_steps = 0\ngradient_checkpointing = false\nmemory_limit_gib = 0.2\n";
    let text = format!("[model]\npath = {model:?}\n\n[data]\ntrain = {records:?}\n\n{run_table}");
    let config = folder.write("run.toml", text);
    let output = folder.path("run");
    let train = |settings: &[&str]| {
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        let arguments = ["train", "--config", &config, "--output", &output].into_iter().chain(settings);
        run(&arguments.collect::<Vec<_>>())
    };
    let refused = train(&[]);
    let message = refused.stderr.clone();
    refused.fails_naming(&[
        "its largest update, 9000 source and 3 target tokens",
        "but 0.200 GiB are there",
        "run.gradient_checkpointing = true takes",
        "optim.optimizer = \"adafactor\" takes",
        "a higher run.memory_limit_gib",
    ]);
    assert!(!std::path::Path::new(&output).join("metrics.jsonl").exists());
    train(&["run.memory_limit_gib=0.01"]).fails_naming(&["the model, its gradients and its optimizer alone"]);
    let fits = message.split("data.max_source_length = ").nth(1).unwrap().split(' ').next().unwrap();
    train(&[&format!("data.max_source_length={fits}"), "run.max_steps=1"]).succeeds();
}
