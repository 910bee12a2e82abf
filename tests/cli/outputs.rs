//! What becomes of results and messages where they cannot be written, or where something is there already.
#![cfg(unix)]

use std::fs::OpenOptions;

use crate::fixture::{Folder, command, model};

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
