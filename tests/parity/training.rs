//! Ten AdamW steps with clipping, smoothing and accumulation, through the training loop itself.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use epitome_kernels::Device;
use epitome_model::{SavedDtype, Weights};
use epitome_train::RunConfig;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixture::{Case, Pair, assert_close, cases, flat, on_every_device, train};

#[derive(Deserialize)]
struct Training {
    documents: Vec<Pair>,
    optim: Value,
    run: Value,
    steps: Vec<Step>,
    parameters: HashMap<String, Entries>,
}

#[derive(Deserialize)]
struct Step {
    loss: f64,
    grad_norm: f64,
    learning_rate: f64,
    target_tokens: usize,
}

#[derive(Deserialize)]
struct Entries {
    indices: Vec<usize>,
    values: Vec<f32>,
}

/// Writes model, records and recipe of a case into `directory`.
fn prepare(case: &Case<Training>, directory: &Path, more: &[String]) -> RunConfig {
    let model = directory.join("model");
    fs::create_dir_all(&model).unwrap();
    case.config().save(&model).unwrap();
    case.weights().save(&model, SavedDtype::F32).unwrap();
    let records = directory.join("train.jsonl");
    let lines: Vec<String> = case
        .rest
        .documents
        .iter()
        .map(|pair| {
            json!({"input_ids": pair.input_ids, "global_positions": pair.global_positions, "labels": pair.labels})
                .to_string()
        })
        .collect();
    fs::write(&records, lines.join("\n")).unwrap();
    let recipe = json!({
        "model": {"path": model},
        "data": {"train": records, "shuffle": false, "cache_dir": directory.join("cache")},
        "optim": case.rest.optim,
        "run": case.rest.run,
    });
    let recipe: toml::Table = serde_json::from_value(recipe).unwrap();
    let path = directory.join("recipe.toml");
    fs::write(&path, recipe.to_string()).unwrap();
    let mut overrides = vec!["run.logging_steps=1".to_owned(), "run.save_steps=0".to_owned()];
    overrides.extend_from_slice(more);
    RunConfig::load(&path, &overrides).unwrap()
}

fn metrics(output: &Path) -> Vec<Value> {
    let text = fs::read_to_string(output.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn ten_steps_follow_the_reference() {
    ten_steps("run.parallel_micro_batches=2");
    on_every_device(|device| ten_steps(device_setting(device)));
}

fn device_setting(device: &Device) -> &'static str {
    if device.is_cuda() { "run.device='cuda'" } else { "run.device='cpu'" }
}

fn ten_steps(setting: &str) {
    for case in &cases::<Training>("training") {
        let directory = tempfile::tempdir().unwrap();
        let config = prepare(case, directory.path(), &[setting.to_owned()]);
        let output = directory.path().join("run");
        train(&config, &output, false, &mut |_| {}).unwrap();
        let metrics = metrics(&output);
        assert_eq!(metrics.len(), case.rest.steps.len());
        for (found, expected) in metrics.iter().zip(&case.rest.steps) {
            let number = |key: &str| found[key].as_f64().unwrap();
            let what = format!("{}: {found}", case.name);
            assert!((number("loss") - expected.loss).abs() < 1e-4, "{what}, expected loss {}", expected.loss);
            let norm = expected.grad_norm;
            assert!((number("grad_norm") - norm).abs() < 1e-3 * norm, "{what}, expected norm {norm}");
            assert!((number("learning_rate") - expected.learning_rate).abs() < 1e-12, "{what}");
            assert_eq!(found["target_tokens"], expected.target_tokens);
        }
        let trained = Weights::load(&output, &case.config()).unwrap();
        let trained: HashMap<_, _> = trained.iter().collect();
        for (name, Entries { indices, values }) in &case.rest.parameters {
            let all = flat(trained[name.as_str()]);
            let found: Vec<f32> = indices.iter().map(|&index| all[index]).collect();
            assert_close(&found, values, 1e-4, &format!("{} {name}", case.name));
        }
    }
}

/// Neither how many threads there are nor how many workers they can serve may show in the weights.
#[test]
fn workers_give_the_same_bits_on_any_number_of_threads() {
    let directory = tempfile::tempdir().unwrap();
    let more =
        ["run.parallel_micro_batches=3", "run.gradient_accumulation_steps=4", "run.batch_size=1", "model.dropout=0.2"];
    let case = &cases::<Training>("training")[1];
    let config = prepare(case, directory.path(), &more.map(str::to_owned));
    let weights: Vec<Vec<u8>> = [1, 2, 4]
        .into_iter()
        .map(|threads| {
            let output = directory.path().join(threads.to_string());
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| train(&config, &output, false, &mut |_| {})).unwrap();
            fs::read(output.join("model.safetensors")).unwrap()
        })
        .collect();
    assert!(weights[0] == weights[1] && weights[0] == weights[2]);
}

/// A run that stopped at a checkpoint and went on is the run that never stopped, to the bit.
#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    on_every_device(|device| resumed_run(device_setting(device)));
}

fn resumed_run(device: &str) {
    let case = &cases::<Training>("training")[1];
    let dropout = "model.dropout=0.2".to_owned();
    let untimed = |output: &Path| -> Vec<Value> {
        let mut lines = metrics(output);
        for line in &mut lines {
            let of_the_machine = ["seconds", "tokens_per_second", "host_memory_gib"];
            line.as_object_mut().unwrap().retain(|key, _| !of_the_machine.contains(&key.as_str()));
        }
        lines
    };
    let whole = tempfile::tempdir().unwrap();
    let every = ["run.save_steps=3".to_owned(), "run.logging_steps=2".to_owned(), dropout, device.to_owned()];
    let config = prepare(case, whole.path(), &every);
    let straight = whole.path().join("straight");
    train(&config, &straight, false, &mut |_| {}).unwrap();
    let broken = whole.path().join("broken");
    let mut first = config.clone();
    // The schedule spans the whole run, so the first half is a run of ten steps that is killed: here, by a panic in the
    // listener after the checkpoint of step 6 and one more step.
    first.run.save_total_limit = 1;
    let killed = std::panic::catch_unwind(|| {
        train(&first, &broken, false, &mut |event| {
            if let epitome_train::Event::Step { step: 7, .. } = event {
                std::panic::resume_unwind(Box::new("killed"));
            }
        })
    });
    assert!(killed.is_err());
    train(&config, &broken, true, &mut |_| {}).unwrap();
    assert_eq!(untimed(&broken), untimed(&straight));
    let read = |output: &Path| fs::read(output.join("model.safetensors")).unwrap();
    assert!(read(&broken) == read(&straight), "the final weights differ");
}
