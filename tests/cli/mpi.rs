//! Several processes under `mpirun` do the work of one.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{Folder, Run, cache, command, json_lines, model, run, send_signal, wait_until};
use crate::processes::{has_children, newest_process, open_files, processes};

/// The program in `processes` processes.
fn mpirun(processes: usize, arguments: &[&str]) -> Command {
    launch(processes, &command(arguments))
}

/// Any program with its arguments in `processes` processes.
pub(crate) fn launch(processes: usize, program: &Command) -> Command {
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["-np", &processes.to_string(), "--oversubscribe", "--bind-to", "none"]);
    // Continuous integration often runs as root.
    mpirun
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env_remove("EPITOME_MODEL")
        .env("EPITOME_CACHE", cache());
    mpirun.arg(program.get_program()).args(program.get_args()).stdin(Stdio::null());
    mpirun
}

fn together(processes: usize, arguments: &[&str]) -> Run {
    wait_for(mpirun(processes, arguments))
}

/// What a run gave. Now and then the `mpirun` of Open MPI 4.1 does not end after it has aborted a run: it waits for a thread
/// of its own, long after the processes are gone. Then it is ended here, as one that failed.
pub(crate) fn wait_for(mut mpirun: Command) -> Run {
    let mut child = mpirun.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdout, stderr) = (read_all(child.stdout.take().unwrap()), read_all(child.stderr.take().unwrap()));
    let mut last_with_processes = Instant::now();
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code().unwrap();
        }
        if has_children(child.id()) {
            last_with_processes = Instant::now();
        } else if last_with_processes.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            child.wait().unwrap();
            break 1;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    Run { code, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn read_all(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    })
}

/// A run whose records are tokens, of which only some have a global position: an update has a global token in some
/// processes only, or in none.
pub(crate) fn config(folder: &Folder, steps: usize, save_steps: usize) -> String {
    let record = |index: usize| {
        let ids: Vec<usize> = (0..10 + index % 7).map(|token| 5 + (token * 31 + index * 17) % 200).collect();
        let global: &[usize] = if index.is_multiple_of(3) { &[0] } else { &[] };
        json!({"id": format!("t{index}"), "input_ids": ids, "labels": [0, 5 + index, 9, 2], "global_positions": global})
    };
    let lines: Vec<String> = (0..10).map(|index| record(index).to_string()).collect();
    let records = folder.write("tokens.jsonl", lines.join("\n"));
    let text = format!(
        "[model]\npath = {:?}\ndropout = 0.1\n\n[data]\ntrain = {records:?}\nvalidation = {records:?}\n\n\
         [optim]\nlearning_rate = 1e-3\n\n[run]\nmax_steps = {steps}\ngradient_accumulation_steps = 3\nlogging_steps = 1\n\
         eval_steps = {save_steps}\nsave_steps = {save_steps}\n",
        model()
    );
    folder.write("run.toml", text)
}

/// Losses and validation losses in order.
pub(crate) fn numbers(folder: &Folder, run: &str) -> Vec<f64> {
    let number = |line: &Value, key: &str| line.get(key).and_then(Value::as_f64);
    let lines = json_lines(&folder.read(&format!("{run}/metrics.jsonl")));
    let keys = ["loss", "validation_loss"];
    lines.iter().flat_map(|line| keys.iter().filter_map(|key| number(line, key)).collect::<Vec<_>>()).collect()
}

#[test]
fn an_output_is_resumed_as_it_was_begun_by_any_number_of_processes() {
    let folder = Folder::new();
    let records = fs::read_to_string(folder.records("good.jsonl", 6)).unwrap();
    let input = folder.write("in.jsonl", format!("{records}no record\n"));
    let output = folder.path("out.jsonl");
    let decode = ["decode", "--input", &input, "--model", model(), "--output", &output, "--batch-size", "1"];
    together(2, &decode).names("in.jsonl:7");
    together(2, &[&decode[..], &["--resume", "--num-beams", "2"]].concat()).names("num_beams was 1 and is 2");
    fs::write(&input, records).unwrap();
    run(&[&decode[..], &["--resume"]].concat()).succeeds();
    assert_eq!(json_lines(&folder.read("out.jsonl")).len(), 6);
    assert!(!fs::exists(format!("{output}.decoding.json")).unwrap(), "the output is complete");
}

#[test]
fn training_gives_the_losses_of_one_process() {
    let folder = Folder::new();
    let config = config(&folder, 8, 2);
    let alone = folder.path("alone");
    run(&["train", "--config", &config, "--output", &alone]).succeeds();
    let expected = numbers(&folder, "alone");
    assert_eq!(expected.len(), 12, "8 losses, 4 validations");
    for processes in [2, 3] {
        let name = format!("together-{processes}");
        together(processes, &["train", "--config", &config, "--output", &folder.path(&name)]).succeeds();
        for (found, expected) in numbers(&folder, &name).iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5 * expected, "{processes} processes: {found} for {expected}");
        }
        assert_eq!(numbers(&folder, &name).len(), expected.len());
    }
    together(2, &["train", "--config", &config, "--output", &alone]).names("already holds a run");
    together(4, &["train", "--config", &config, "--output", &folder.path("four")]).names("gradient_accumulation_steps");
}

#[test]
fn a_run_is_continued_by_another_number_of_processes() {
    let folder = Folder::new();
    let config = config(&folder, 8, 2);
    let parts = folder.path("parts");
    let constant = ["--set", "optim.lr_scheduler_type=constant"];
    let train = [&["train", "--config", &config, "--output", &parts][..], &constant].concat();
    together(2, &[&train[..], &["--set", "run.max_steps=4"]].concat()).succeeds();
    run(&[&train[..], &["--resume"]].concat()).succeeds();
    let whole = folder.path("whole");
    run(&[&["train", "--config", &config, "--output", &whole][..], &constant].concat()).succeeds();
    let (found, expected) = (numbers(&folder, "parts"), numbers(&folder, "whole"));
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-5 * expected));
}

#[test]
fn processes_agree_on_the_scores_of_summaries_and_stop_together() {
    let folder = Folder::new();
    let config = config(&folder, 100, 2);
    folder.write("tokens.jsonl", folder.read("tokens.jsonl") + "\nno record\n");
    let settings =
        ["run.predict_with_generate=true", "run.metric_for_best_model=rouge1", "run.early_stopping_patience=2"];
    let more = [
        "run.early_stopping_threshold=1.0",
        "run.generation_max_new_tokens=8",
        "run.load_best_model_at_end=true",
        "data.skip_bad_records=true",
    ];
    let train = |processes: usize, output: &str| {
        let output = folder.path(output);
        let arguments = [&["train", "--config", &config, "--output", &output, "--set"][..], &settings, &more].concat();
        let run = if processes == 1 { run(&arguments) } else { together(processes, &arguments) };
        // The first validation stays the best by more than the threshold, so patience ends with the third.
        let run = run.succeeds();
        assert!(run.stdout.starts_with("6 steps, best validation rouge1"));
        run.stderr.matches("tokens.jsonl:11: ").count()
    };
    let said = train(1, "alone");
    assert!(said > 0, "a bad record is not listed");
    let scores = |output: &str| {
        let lines = json_lines(&folder.read(&format!("{output}/metrics.jsonl")));
        lines.iter().filter_map(|line| line.get("validation_rouge1")?.as_f64()).collect::<Vec<_>>()
    };
    for processes in [2, 3] {
        assert_eq!(train(processes, "together"), said, "one process says what is skipped");
        assert_eq!(scores("together"), scores("alone"), "{processes} processes");
        fs::remove_dir_all(folder.path("together")).unwrap();
    }
}

#[test]
fn a_killed_process_ends_the_run_with_its_checkpoint_intact() {
    let folder = Folder::new();
    let config = config(&folder, 400, 20);
    let output = folder.path("run");
    let mut started = mpirun(2, &["train", "--config", &config, "--output", &output]);
    let mut running = started.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(&mut running, || fs::exists(format!("{output}/checkpoint-20/state.json")).unwrap());
    send_signal(newest_process(&output), "KILL");
    let ended = running.wait_with_output().unwrap();
    assert!(!ended.status.success());
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(stderr.contains("signal 9"), "{stderr}");
    let resumed = together(2, &["train", "--config", &config, "--output", &output, "--resume"]);
    let stderr = resumed.succeeds().stderr;
    assert!(!stderr.contains("warning"), "{stderr}");
    let first: usize = stderr.split("steps ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap();
    assert!(first > 20, "{stderr}");
}

#[test]
fn processes_that_do_not_begin_alike_are_refused() {
    let folder = Folder::new();
    let config = config(&folder, 8, 2);
    let (own, other) = (folder.path("own"), folder.path("other"));
    run(&["train", "--config", &config, "--output", &own]).succeeds();
    let mixed = |first: &[&str], second: &[&str]| {
        let train = ["train", "--config", &config, "--output"];
        let (mut mixed, second) = (mpirun(1, &[&train, first].concat()), command(&[&train, second].concat()));
        mixed.args([":", "-np", "1"]).arg(second.get_program()).args(second.get_args());
        wait_for(mixed)
    };
    // The second process sees another directory, without checkpoints.
    fs::create_dir(&other).unwrap();
    mixed(&[&own, "--resume"], &[&other, "--resume"]).names("process 1 begins with step 0");
    // Here it sees other records, and as many.
    let records = folder.write("others.jsonl", folder.read("tokens.jsonl").replace("9,2]", "8,2]"));
    let others = format!("data.train={records}");
    mixed(&[&other], &[&other, "--set", &others]).names("process 1 begins with step 0, 10 records of the hash");
}

#[test]
fn one_process_of_a_machine_makes_the_tokens() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 3000);
    let (output, cache) = (folder.path("run"), folder.path("cache"));
    let text = format!(
        "[model]\npath = {:?}\n\n[data]\ntrain = {records:?}\ncache_dir = {cache:?}\n\n\
         [run]\nmax_steps = 400\ngradient_accumulation_steps = 3\nsave_steps = 20\n",
        model()
    );
    let mut started = mpirun(3, &["train", "--config", &folder.write("run.toml", text), "--output", &output]);
    let mut running = started.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(&mut running, || fs::exists(format!("{output}/checkpoint-20")).unwrap());
    let tokens: Vec<String> = processes(&output).flat_map(open_files).filter(|name| name.contains(".tokens")).collect();
    let left: Vec<_> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    send_signal(running.id(), "TERM");
    running.wait().unwrap();
    // Whoever makes them again replaces the file that another has open.
    assert_eq!(left.len(), 1);
    assert_eq!(tokens, vec![left[0].to_str().unwrap(); 3]);
}

#[test]
fn records_that_are_wrong_end_the_processes_that_wait_for_their_tokens() {
    let folder = Folder::new();
    let records = folder.write("bad.jsonl", "{\"document\": \"words\", \"summary\": \"few\"}\n{\"document\": 1.5}\n");
    let text = format!(
        "[model]\npath = {:?}\n\n[data]\ntrain = {records:?}\n\n[run]\ngradient_accumulation_steps = 3\n",
        model()
    );
    let config = folder.write("run.toml", text);
    together(3, &["train", "--config", &config, "--output", &folder.path("run")]).names("bad.jsonl:2");
}

#[test]
fn decoding_and_evaluation_give_what_one_process_gives() {
    let folder = Folder::new();
    let records = folder.records("records.jsonl", 11);
    let decode = ["decode", "--model", model(), "--input", &records];
    let expected = run(&decode).succeeds().stdout;
    for (processes, size) in [(2, "3"), (3, "2"), (4, "8")] {
        let found = together(processes, &[&decode[..], &["--batch-size", size]].concat()).succeeds().stdout;
        assert_eq!(found, expected, "{processes} processes, {size} a batch");
    }
    let attribute = [&decode[..], &["--attribute", "--num-beams", "2", "--num-return-sequences", "2"]].concat();
    assert_eq!(together(3, &attribute).succeeds().stdout, run(&attribute).succeeds().stdout);
    let evaluate = ["evaluate", "--model", model(), "--data", &records];
    assert_eq!(together(2, &evaluate).succeeds().stdout, run(&evaluate).succeeds().stdout);
    let texts = folder.write("bad.jsonl", "{\"id\": \"a\", \"document\": \"words\"}\n{\"id\": 1.5}\n");
    together(2, &["decode", "--model", model(), "--input", &texts]).names("bad.jsonl:2");
    together(2, &["inspect", model()]).names("only decode, evaluate and train");
}

impl Run {
    /// Fails with an error that says `what`, among what `mpirun` says of it.
    #[track_caller]
    fn names(self, what: &str) {
        assert_ne!(self.code, 0);
        let named = self.stderr.lines().any(|line| line.starts_with("epitome: error: ") && line.contains(what));
        assert!(named, "`{what}` is not named: {}", self.stderr);
    }
}
