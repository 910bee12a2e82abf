//! What `epitome train` updates and how: optimizers, groups, averaged weights, the learning-rate finder.

use std::collections::HashMap;
use std::fs;

use candle_core::Device;
use serde_json::Value;

use crate::fixture::{Folder, json_lines, model, run};

/// A run of a few steps with a checkpoint after each, and the beginning of its command.
struct Recipe {
    folder: Folder,
    config: String,
}

impl Recipe {
    fn new(optim: &str) -> Self {
        let folder = Folder::new();
        let records = folder.records("train.jsonl", 8);
        let text = format!(
            "[model]\npath = {:?}\ndropout = 0.1\n\n[data]\ntrain = {records:?}\nvalidation = {records:?}\n\n\
             [run]\nmax_steps = 4\nbatch_size = 2\nlogging_steps = 1\nsave_steps = 1\nsave_total_limit = 0\n\n\
             [optim]\nlearning_rate = 1e-2\nlr_scheduler_type = \"constant\"\n{optim}\n",
            model()
        );
        let config = folder.write("run.toml", text);
        Self { folder, config }
    }

    fn train(&self, output: &str, more: &[&str]) -> crate::fixture::Run {
        let output = self.folder.path(output);
        run(&[&["train", "--config", &self.config, "--output", &output], more].concat())
    }

    fn tensors(&self, path: &str) -> HashMap<String, Vec<f32>> {
        tensors(&self.folder.path(path))
    }

    /// Losses by step, those of validations apart.
    fn losses(&self, output: &str, key: &str) -> Vec<(u64, f64)> {
        let metrics = json_lines(&self.folder.read(&format!("{output}/metrics.jsonl")));
        let loss = |line: &Value| Some((line["step"].as_u64()?, line.get(key)?.as_f64()?));
        metrics.iter().filter_map(loss).collect()
    }
}

fn tensors(path: &str) -> HashMap<String, Vec<f32>> {
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let flat = |tensor: candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap();
    tensors.into_iter().map(|(name, tensor)| (name, flat(tensor))).collect()
}

const EVERYTHING: &str = r#"
optimizer = "adafactor"
adafactor_scale_parameter = true
adafactor_beta1 = 0.9
weight_decay = 0.1
ema_decay = 0.7
ema_warmup = true
groups = [
    { pattern = "decoder.layers.0.*", learning_rate = 1e-3, weight_decay = 0.0 },
    { pattern = "led.encoder.embed_positions*", frozen = true },
    { pattern = "*.bias", learning_rate_scale = 2.0 },
]
"#;

#[test]
fn all_state_survives_a_resumed_run() {
    let recipe = Recipe::new(EVERYTHING);
    recipe.train("whole", &[]).succeeds();
    recipe.train("parts", &["--set", "run.max_steps=2"]).succeeds();
    recipe.train("parts", &["--resume"]).succeeds();
    let read = |path: &str| fs::read(recipe.folder.path(path)).unwrap();
    for file in ["model.safetensors", "checkpoint-4/model.safetensors", "checkpoint-4/ema.safetensors"] {
        assert!(read(&format!("whole/{file}")) == read(&format!("parts/{file}")), "{file} differs");
    }
    let optimizer = "checkpoint-4/optimizer.safetensors";
    assert_eq!(recipe.tensors(&format!("whole/{optimizer}")), recipe.tensors(&format!("parts/{optimizer}")));
    assert_eq!(recipe.losses("whole", "loss"), recipe.losses("parts", "loss"));
    let changed = ["optim.groups=[]", "optim.ema_decay=0.5", "optim.optimizer=\"adamw\"", "optim.adafactor_beta1=0.5"];
    for setting in changed {
        let key = setting.split('=').next().unwrap();
        recipe.train("parts", &["--resume", "--set", setting]).fails_naming(&["config.toml", key, "changed"]);
    }
}

#[test]
fn the_final_model_is_the_average_of_the_checkpoints() {
    let recipe = Recipe::new("ema_decay = 0.75");
    recipe.train("run", &["--set", "run.eval_steps=2"]).succeeds();
    let mut average = tensors(&format!("{}/model.safetensors", model()));
    average.remove("final_logits_bias");
    for step in 1..=4 {
        for (name, raw) in recipe.tensors(&format!("run/checkpoint-{step}/model.safetensors")) {
            let Some(average) = average.get_mut(&name) else { continue };
            average.iter_mut().zip(raw).for_each(|(average, raw)| *average += 0.25 * (raw - *average));
        }
        assert!(recipe.tensors(&format!("run/checkpoint-{step}/ema.safetensors")) == average, "step {step}");
    }
    let last = recipe.tensors("run/model.safetensors");
    assert!(average.iter().all(|(name, average)| last[name] == *average), "the final model is not the average");
    let raw = recipe.tensors("run/checkpoint-4/model.safetensors");
    assert!(average.iter().all(|(name, average)| name.contains("global") || raw[name] != *average));
    // Validation is that of the average: of nothing else, and so of the final model.
    let validation = recipe.losses("run", "validation_loss").last().unwrap().1;
    let score = recipe.folder.path("run");
    let records = recipe.folder.path("train.jsonl");
    let scores = run(&["score", "--model", &score, "--input", &records]).succeeds().records();
    let total = |key: &str| scores.iter().map(|line| line[key].as_f64().unwrap()).sum::<f64>();
    assert!((total("nll") / total("tokens") - validation).abs() < 1e-5, "{validation}");
}

#[test]
fn the_best_model_is_the_average_that_was_the_best() {
    let recipe = Recipe::new("ema_decay = 0.5");
    // A rate at which nothing gets better after the first update.
    let settings = ["run.eval_steps=1", "run.load_best_model_at_end=true", "optim.learning_rate=1.0"];
    recipe.train("run", &[&["--set"][..], &settings].concat()).succeeds();
    let losses = recipe.losses("run", "validation_loss");
    let best = losses.iter().min_by(|one, other| one.1.total_cmp(&other.1)).unwrap().0;
    assert!(best < 4, "{losses:?}");
    let (last, average) = (recipe.tensors("run/model.safetensors"), format!("run/checkpoint-{best}/ema.safetensors"));
    assert!(recipe.tensors(&average).iter().all(|(name, average)| last[name] == *average));
    assert!(recipe.tensors("run/checkpoint-4/ema.safetensors").iter().any(|(name, average)| last[name] != *average));
}

#[test]
fn frozen_parameters_stay_and_keep_no_moments() {
    let frozen = "weight_decay = 0.5\ngroups = [{ pattern = \"encoder.*\", frozen = true }, { pattern = \"shared*\", frozen = true }]";
    let recipe = Recipe::new(frozen);
    let before = tensors(&format!("{}/model.safetensors", model()));
    for more in [&[][..], &["--set", "run.gradient_checkpointing=false", "optim.optimizer=adafactor"]] {
        let output = format!("run-{}", more.len());
        recipe.train(&output, more).succeeds();
        let after = recipe.tensors(&format!("{output}/model.safetensors"));
        let moments = recipe.tensors(&format!("{output}/checkpoint-4/optimizer.safetensors"));
        for (name, before) in before.iter().filter(|(name, _)| *name != "final_logits_bias") {
            let trained = name.starts_with("led.decoder.");
            assert_eq!(after[name] != *before, trained, "{name}");
            assert_eq!(moments.contains_key(name), trained, "{name}");
        }
    }
}

#[test]
fn adafactor_sets_its_own_rate() {
    let recipe = Recipe::new("");
    let own = ["optim.optimizer=adafactor", "optim.adafactor_relative_step=true"];
    recipe.train("run", &[&["--set"], &own[..]].concat()).fails_naming(&["optim.learning_rate", "relative_step"]);
    let without = fs::read_to_string(&recipe.config)
        .unwrap()
        .replace("learning_rate = 1e-2\nlr_scheduler_type = \"constant\"", "");
    let config = recipe.folder.write("own.toml", without);
    let output = recipe.folder.path("run");
    let arguments = ["train", "--config", &config, "--output", &output, "--set"];
    let group = "optim.groups=[{ pattern = \"*\", learning_rate = 1.0 }]";
    run(&[&arguments[..], &own, &[group]].concat()).fails_naming(&["optim.groups[0]", "relative_step"]);
    run(&[&arguments[..], &own, &["optim.adafactor_warmup_init=true"]].concat()).succeeds();
    let rates: Vec<f64> = recipe.losses("run", "learning_rate").into_iter().map(|(_, rate)| rate).collect();
    assert_eq!(rates, [1e-6, 2e-6, 3e-6, 4e-6]);
}

#[test]
fn wrong_keys_of_the_optimizer_are_named() {
    let recipe = Recipe::new("");
    let fails = |setting: &str, named: &[&str]| recipe.train("run", &["--set", setting]).fails_naming(named);
    fails("optim.optimizer=sgd", &["sgd", "adafactor"]);
    fails("optim.adafactor_clip_threshold=0", &["optim.adafactor_clip_threshold"]);
    fails("optim.adafactor_eps=[1e-30]", &["adafactor_eps"]);
    fails("optim.adafactor_warmup_init=true", &["adafactor_warmup_init", "adafactor_relative_step"]);
    for epsilon in ["0", "-1e-8", "1e-50"] {
        fails(&format!("optim.adam_epsilon={epsilon}"), &["optim.adam_epsilon"]);
    }
    fails("optim.ema_decay=1.0", &["optim.ema_decay"]);
    fails("optim.ema_warmup=true", &["optim.ema_warmup", "optim.ema_decay"]);
    fails("optim.lr_scheduler_kwargs={ power = 2.0 }", &["lr_scheduler_kwargs.power", "polynomial"]);
    fails("optim.lr_scheduler_kwargs={ powr = 2.0 }", &["powr"]);
    let polynomial = ["optim.lr_scheduler_type=polynomial", "optim.lr_scheduler_kwargs={ lr_end = 0.1 }"];
    recipe.train("run", &[&["--set"], &polynomial[..]].concat()).fails_naming(&["optim.learning_rate", "lr_end"]);
    let group = |fields: &str| format!("optim.groups=[{{ {fields} }}]");
    fails(&group("pattern = \"encodr.*\", frozen = true"), &["`encodr.*`", "no parameter"]);
    fails(&group("pattern = \"*\", frozen = true"), &["optim.groups", "every parameter"]);
    fails(&group("pattern = \"*\""), &["optim.groups[0]", "sets nothing"]);
    fails(&group("pattern = \"*\", frozen = true, weight_decay = 0.0"), &["optim.groups[0]", "frozen"]);
    fails(&group("pattern = \"*\", learning_rate = 1.0, learning_rate_scale = 1.0"), &["optim.groups[0]", "one"]);
    fails(&group("pattern = \"*\", learning_rate = -1.0"), &["optim.groups[0].learning_rate", "-1"]);
    fails(&group("pattern = \"*\", rate = 1.0"), &["rate"]);
}

#[test]
fn the_finder_suggests_a_rate_and_leaves_no_model() {
    let recipe = Recipe::new("ema_decay = 0.9");
    let sweep = ["--find-learning-rate", "--sweep-start", "1e-5", "--sweep-steps", "60"];
    let found = recipe.train("sweep", &sweep).succeeds();
    assert!(found.stdout.lines().last().unwrap().starts_with("suggested: "), "{}", found.stdout);
    let points = json_lines(&recipe.folder.read("sweep/learning_rates.jsonl"));
    assert!(recipe.folder.read("sweep/learning_rates.svg").contains("steepest"));
    let numbers = |key: &str| points.iter().map(|point| point[key].as_f64().unwrap()).collect::<Vec<_>>();
    assert!((numbers("learning_rate")[0] - 1e-5).abs() < 1e-12);
    assert!(points.len() <= 60 && numbers("learning_rate").windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(numbers("loss")[0], numbers("smoothed")[0]);
    assert_eq!(
        fs::read_dir(recipe.folder.path("sweep")).unwrap().count(),
        2,
        "only the rates and their picture are written"
    );
    // Where the sweep was written a run may begin, and it is not its beginning.
    assert!(recipe.train("again", &sweep).succeeds().stdout == found.stdout, "a sweep is not repeatable");
    recipe.train("sweep", &[]).succeeds();
    let backwards = ["--find-learning-rate", "--sweep-start", "1e-2", "--sweep-end", "1e-3"];
    assert_eq!(recipe.train("sweep", &backwards).code, 2);
    assert_eq!(recipe.train("sweep", &["--find-learning-rate", "--resume"]).code, 2);
    assert_eq!(recipe.train("sweep", &["--sweep-steps", "20"]).code, 2);
}
