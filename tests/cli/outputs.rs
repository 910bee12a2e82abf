//! What becomes of results and messages where they cannot be written, or where something is there already.
#![cfg(unix)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::fixture::{Folder, TEXT, command, finish, model, run};

/// The exit code of the program where the disk that standard error goes to is full.
#[cfg(target_os = "linux")]
fn unheard(arguments: &[&str]) -> Option<i32> {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    command(arguments).stderr(full).output().unwrap().status.code()
}

#[cfg(target_os = "linux")]
#[test]
fn a_message_that_cannot_be_written_ends_no_work() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 4);
    let recipe = format!("[model]\npath = {:?}\n[data]\ntrain = {records:?}\n[run]\nmax_steps = 2\n", model());
    let recipe = folder.write("run.toml", recipe);
    assert_eq!(unheard(&["train", "--config", &recipe, "--output", &folder.path("run")]), Some(0));
    assert!(folder.read("run/metrics.jsonl").contains("\"step\":2"));
    let warned = folder.write("in.jsonl", "{\"document\": \"\"}\nnot json\n{\"document\": \"text\"}\n");
    let output = folder.path("out.jsonl");
    let decode = ["decode", "--input", &warned, "--model", model(), "--output", &output, "--skip-bad-records"];
    assert_eq!(unheard(&decode), Some(0));
    assert_eq!(folder.read("out.jsonl").lines().count(), 2);
    assert_eq!(unheard(&["score", "--input", &records, "--model", model(), "--output", &output]), Some(0));
    assert_eq!(unheard(&["inspect", &folder.path("missing")]), Some(1));
    assert_eq!(unheard(&["evaluate"]), Some(2));
}

#[test]
fn models_may_be_read_by_whoever_may_read_other_files() {
    let folder = Folder::new();
    let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode();
    let expected = mode(&folder.write("plain", ""));
    let bart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/bart");
    run(&["convert", "--from", bart, "--output", &folder.path("led")]).succeeds();
    let records = folder.records("train.jsonl", 4);
    let recipe = format!(
        "[model]\npath = {:?}\n[data]\ntrain = {records:?}\n[optim]\nema_decay = 0.9\n[run]\nmax_steps = 1\n",
        model()
    );
    let recipe = folder.write("run.toml", recipe);
    run(&["train", "--config", &recipe, "--output", &folder.path("run")]).succeeds();
    for directory in ["led", "run", "run/checkpoint-1"] {
        for entry in fs::read_dir(folder.path(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                assert_eq!(mode(path.to_str().unwrap()), expected, "{}", path.display());
            }
        }
    }
}

#[test]
fn a_report_is_written_though_nobody_reads_the_table() {
    let folder = Folder::new();
    let records = folder.records("in.jsonl", 3);
    let (output, results) = (folder.path("report"), folder.path("results.jsonl"));
    let arguments = ["evaluate", "--predictions", &records, "--references", &records, "--output", &output];
    let mut evaluate = command(&[&arguments[..], &["--append-results", &results]].concat());
    let mut child = evaluate.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for name in ["report/report.json", "report/report.html", "results.jsonl"] {
        assert!(!folder.read(name).is_empty(), "{name}");
    }
}

#[test]
fn a_table_is_printed_though_the_report_cannot_be_written() {
    let folder = Folder::new();
    let records = folder.records("in.jsonl", 3);
    let output = folder.write("file", "");
    let evaluated = run(&["evaluate", "--predictions", &records, "--references", &records, "--output", &output]);
    assert!(evaluated.stdout.contains("rouge1"), "{}", evaluated.stdout);
    evaluated.fails_naming(&[&output]);
}

#[test]
fn a_dash_is_standard_output() {
    let folder = Folder::new();
    let (text, records) = (folder.write("a.txt", TEXT), folder.records("in.jsonl", 2));
    for arguments in [&["decode", &text][..], &["decode", "--input", &records], &["score", "--input", &records]] {
        let arguments = [arguments, &["--model", model()]].concat();
        let mut dashed = command(&[&arguments[..], &["--output", "-"]].concat());
        dashed.current_dir(folder.path(""));
        let printed = finish(dashed).succeeds().stdout;
        assert!(!printed.is_empty() && printed == run(&arguments).stdout, "{arguments:?}");
    }
    assert!(!fs::exists(folder.path("-")).unwrap());
}

#[test]
fn a_run_that_fails_before_its_first_result_leaves_the_output() {
    let folder = Folder::new();
    let output = folder.write("out", "precious\n");
    let bad = folder.write("bad.jsonl", "not json\n");
    for command in [&["score"][..], &["decode"], &["decode", "--format", "text"]] {
        let arguments = ["--input", &bad, "--model", model(), "--output", &output];
        run(&[command, &arguments].concat()).fails_naming(&["bad.jsonl:1"]);
        assert_eq!(folder.read("out"), "precious\n", "{command:?}");
        assert!(!fs::exists(folder.path("out.decoding.json")).unwrap());
    }
    let missing = folder.path("missing/out");
    run(&["decode", "--input", &bad, "--model", model(), "--output", &missing]).fails_naming(&[&missing]);
    let text = folder.write("a.txt", TEXT);
    run(&["decode", &text, "--model", model(), "--output", &output]).succeeds();
    assert!(!folder.read("out").contains("precious"));
    let empty = folder.write("empty.jsonl", "");
    run(&["decode", "--input", &empty, "--model", model(), "--output", &output]).succeeds();
    assert_eq!(folder.read("out"), "");
}
