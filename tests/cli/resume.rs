//! A run that is killed, interrupted, short of disk or left with a damaged checkpoint goes on to the same end.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::fixture::{Folder, cache, command, finish, json_lines, model, run, send_signal, wait_until};

/// A run with dropout, validations and checkpoints.
fn config(folder: &Folder, steps: usize) -> String {
    let records = folder.records("train.jsonl", 12);
    let text = format!(
        "[model]\npath = {:?}\ndropout = 0.1\nattention_dropout = 0.1\n\n[data]\ntrain = {records:?}\nvalidation = {records:?}\n\n\
         [optim]\nlearning_rate = 1e-3\nwarmup_steps = 3\n\n[run]\nmax_steps = {steps}\nbatch_size = 2\n\
         gradient_accumulation_steps = 2\nlogging_steps = 3\neval_steps = 5\nsave_steps = 2\n",
        model()
    );
    folder.write("run.toml", text)
}

fn train(config: &str, output: &str, more: &[&str]) -> Command {
    command(&[&["train", "--config", config, "--output", output], more].concat())
}

/// Everything a run computes: its metrics without the times, and the bytes of its weights.
fn outcome(folder: &Folder, output: &str) -> (Vec<Value>, Vec<u8>) {
    let mut metrics = json_lines(&folder.read(&format!("{output}/metrics.jsonl")));
    for line in &mut metrics {
        let line = line.as_object_mut().unwrap();
        line.retain(|key, _| !["seconds", "tokens_per_second", "host_memory_gib"].contains(&key.as_str()));
    }
    (metrics, fs::read(folder.path(&format!("{output}/model.safetensors"))).unwrap())
}

#[track_caller]
fn assert_same((metrics, weights): &(Vec<Value>, Vec<u8>), (expected, expected_weights): &(Vec<Value>, Vec<u8>)) {
    for (line, expected) in metrics.iter().zip(expected) {
        assert_eq!(line, expected);
    }
    assert_eq!(metrics.len(), expected.len());
    assert!(weights == expected_weights, "the weights differ");
}

/// Whether the child ended by itself before `delay`; otherwise it was killed.
fn ended_before(mut child: Child, delay: Duration) -> bool {
    std::thread::sleep(delay);
    match child.try_wait().unwrap() {
        Some(status) => {
            assert!(status.success(), "a resumed run failed");
            true
        }
        None => {
            child.kill().unwrap();
            child.wait().unwrap();
            false
        }
    }
}

/// Runs `config` to its end again and again, each time killing it at random and resuming, until so many kills are made.
/// Every run must end as `expected`.
fn kill_at_random(folder: &Folder, config: &str, kills_to_make: usize, expected: &(Vec<Value>, Vec<u8>)) {
    let (mut kills, mut runs, mut random) = (0, 0, 1u64);
    while kills < kills_to_make {
        let name = format!("killed-{runs}");
        runs += 1;
        for attempt in 0.. {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Ever longer, so that a slow machine comes to an end too.
            let delay = Duration::from_millis(10 + (random >> 33) % (250 + 20 * attempt));
            let mut resumed = train(config, &folder.path(&name), &["--resume"]);
            if ended_before(resumed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(), delay) {
                break;
            }
            kills += 1;
        }
        assert_same(&outcome(folder, &name), expected);
    }
    println!("{kills} kills in {runs} runs");
}

#[test]
fn runs_killed_at_random_end_as_one_that_was_not() {
    let folder = Folder::new();
    let config = config(&folder, 60);
    finish(train(&config, &folder.path("whole"), &[])).succeeds();
    kill_at_random(&folder, &config, 30, &outcome(&folder, "whole"));
}

#[test]
fn runs_killed_at_random_stop_early_at_the_same_step_with_the_same_best_model() {
    let folder = Folder::new();
    let config = config(&folder, 200);
    let steering = "predict_with_generate = true\nmetric_for_best_model = \"rouge1\"\nearly_stopping_patience = 3\n\
                    load_best_model_at_end = true\ngeneration_max_new_tokens = 8\nmax_generated_records = 4\n\
                    save_total_limit = 1\n";
    fs::write(&config, fs::read_to_string(&config).unwrap() + steering).unwrap();
    let whole = finish(train(&config, &folder.path("whole"), &[])).succeeds();
    assert!(whole.stderr.contains("stopped early"), "{}", whole.stderr);
    kill_at_random(&folder, &config, 10, &outcome(&folder, "whole"));
}

#[cfg(unix)]
#[test]
fn signals_save_and_leave() {
    let folder = Folder::new();
    let config = config(&folder, 300);
    let options = ["--skip-bad-records", "--set", "run.save_steps=1000", "optim.learning_rate=2.3e-3"];
    let expected = {
        finish(train(&config, &folder.path("whole"), &options)).succeeds();
        outcome(&folder, "whole")
    };
    for signal in ["INT", "TERM"] {
        let output = folder.path(signal);
        let mut started = train(&config, &output, &options);
        let mut child = started.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let metrics = folder.path(&format!("{signal}/metrics.jsonl"));
        wait_until(&mut child, || fs::read_to_string(&metrics).is_ok_and(|text| text.lines().count() > 2));
        // As `timeout` does, which signals the process and its group.
        send_signal(child.id(), signal);
        send_signal(child.id(), signal);
        let ended = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{stderr}");
        let settings = format!("{output}/config.toml");
        let goes_on = ["--config", &settings, "--output", &output, "--resume"];
        assert!(stderr.contains("stopped after step") && stderr.contains(&goes_on.join(" ")), "{stderr}");
        assert!(
            !fs::exists(folder.path(&format!("{signal}/model.safetensors"))).unwrap(),
            "the run was to be cut short"
        );
        let resumed = run(&[&["train"][..], &goes_on].concat()).succeeds();
        assert!(!resumed.stderr.contains("other settings"), "{}", resumed.stderr);
        assert_same(&outcome(&folder, signal), &expected);
    }
}

#[test]
fn settings_that_change_on_the_way_are_told_with_both_values() {
    let folder = Folder::new();
    let config = config(&folder, 2);
    let output = folder.path("run");
    finish(train(&config, &output, &[])).succeeds();
    let settings = ["run.max_steps=4", "optim.learning_rate=1e-4", "run.early_stopping_patience=9"];
    let resume = [&["--resume", "--set"], &settings[..]].concat();
    let told = finish(train(&config, &output, &resume)).succeeds().stderr;
    let changes = "optim.learning_rate was 0.001 and is 0.0001, run.early_stopping_patience was not set and is 9, \
                   run.max_steps was 2 and is 4\n";
    assert!(told.contains(&format!("than in {output}/config.toml: {changes}")), "{told}");
    let told = finish(train(&config, &format!("{output}/."), &resume)).succeeds().stderr;
    assert!(!told.contains("other settings"), "a directory is no setting: {told}");
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_used() {
    let folder = Folder::new();
    let config = config(&folder, 8);
    finish(train(&config, &folder.path("whole"), &[])).succeeds();
    for (file, damage) in [
        ("optimizer.safetensors", flip as fn(&str)),
        ("model.safetensors", truncate),
        ("state.json", flip),
        ("config.json", remove),
        ("checksums.json", truncate),
        ("checksums.json", empty),
    ] {
        let output = folder.path(file);
        let _ = fs::remove_dir_all(&output);
        finish(train(&config, &output, &[])).succeeds();
        damage(&format!("{output}/checkpoint-8/{file}"));
        fs::remove_file(format!("{output}/model.safetensors")).unwrap();
        let resumed = finish(train(&config, &output, &["--resume"])).succeeds();
        let named = resumed.stderr.lines().find(|line| line.contains("checkpoint-8"));
        assert!(named.is_some_and(|line| line.contains(file)), "{file} is not named: {}", resumed.stderr);
        assert_same(&outcome(&folder, file), &outcome(&folder, "whole"));
    }
    let output = folder.path("whole");
    flip(&format!("{output}/checkpoint-6/model.safetensors"));
    flip(&format!("{output}/checkpoint-8/model.safetensors"));
    run(&["train", "--config", &config, "--output", &output, "--resume"]).fails_naming(&[&output, "intact"]);
}

fn flip(path: &str) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &str) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn empty(path: &str) {
    fs::write(path, "{}").unwrap();
}

fn remove(path: &str) {
    fs::remove_file(path).unwrap();
}

#[test]
fn a_file_in_the_place_of_a_checkpoint_is_refused_at_the_start() {
    let folder = Folder::new();
    let config = config(&folder, 4);
    let output = folder.path("run");
    finish(train(&config, &output, &["--set", "run.max_steps=2"])).succeeds();
    let file = folder.write("run/checkpoint-9", "");
    finish(train(&config, &output, &["--resume"])).fails_naming(&[&file, "no directory", "move it away"]);
    fs::remove_file(file).unwrap();
    finish(train(&config, &output, &["--resume"])).succeeds();
}

#[cfg(unix)]
#[test]
fn a_full_disk_costs_no_checkpoint() {
    let folder = Folder::new();
    let config = config(&folder, 8);
    finish(train(&config, &folder.path("whole"), &[])).succeeds();
    let output = folder.path("full");
    finish(train(&config, &output, &["--set", "run.max_steps=4", "optim.lr_scheduler_type=constant"])).succeeds();
    let weights = fs::metadata(format!("{output}/checkpoint-4/model.safetensors")).unwrap().len();
    // A limit on the size of files fails writes as a full disk does. Blocks are of 512 bytes.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", weights / 512 / 2);
    let constant = ["--set", "optim.lr_scheduler_type=constant", "--resume"];
    let resumed = train(&config, &output, &constant);
    let mut limited = Command::new("sh");
    limited
        .args(["-c", &script, "sh"])
        .arg(resumed.get_program())
        .args(resumed.get_args())
        .env("EPITOME_CACHE", cache())
        .stdin(Stdio::null());
    finish(limited).fails_naming(&["model.safetensors"]);
    let left: Vec<_> = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".partial")), "{left:?}");
    finish(train(&config, &output, &constant)).succeeds();
    let straight = folder.path("straight");
    finish(train(&config, &straight, &constant[..2])).succeeds();
    // The metrics differ in that the first part of the run validated at its end.
    assert!(outcome(&folder, "full").1 == outcome(&folder, "straight").1, "after the full disk the weights differ");
}
