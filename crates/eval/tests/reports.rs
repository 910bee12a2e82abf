//! The forms of a report: table, JSON, Markdown, HTML, files.

use std::fs;

use epitome_eval::{Options, Prediction, Reference, Report, evaluate};
use serde_json::Value;

fn report() -> Report {
    let ids = ["one", "<b>|two"];
    let predictions =
        ids.map(|id| Prediction { id: id.into(), summary: "the cat sat".into(), ..Prediction::default() });
    let references = ids.map(|id| Reference {
        id: id.into(),
        references: vec!["the cat sat down".into()],
        documents: vec!["The cat came in. It sat down.".into()],
    });
    evaluate(&predictions, &references, &Options::default()).expect("ids match")
}

#[test]
fn json_has_what_is_promised() {
    let json: Value = serde_json::from_str(&report().json()).expect("valid JSON");
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json["records"], 2);
    let options = serde_json::json!({
        "stemmer": false, "sentence_split": "newline", "bootstrap": 1000, "seed": 0,
        "several_references": "max", "baselines": ["lead", "tail", "random", "lexrank", "oracle"],
        "randomizations": 10_000, "shown_records": 1000
    });
    assert_eq!(json["options"], options);
    let metrics: Vec<&String> = json["scores"].as_object().expect("an object").keys().collect();
    assert_eq!(metrics, ["rouge1", "rouge2", "rougeL", "rougeLsum"]);
    for metric in metrics {
        for part in ["precision", "recall", "f1"] {
            for value in ["mean", "low", "mid", "high"] {
                let number = json["scores"][metric][part][value].as_f64().expect("a number");
                assert!((0.0..=1.0).contains(&number), "{metric} {part} {value}");
            }
        }
    }
    assert_eq!(json["scores"]["rouge1"]["recall"]["mean"], 0.75);
    assert_eq!(json["per_record"][1]["id"], "<b>|two");
    assert_eq!(json["per_record"][1]["systems"]["predictions"]["rouge1"]["precision"], 1.0);
    assert_eq!(json["schema"], epitome_eval::SCHEMA);
    assert_eq!(json["systems"][0]["scores"], json["scores"]);
    assert_eq!(json["systems"][0]["profile"]["measures"]["coverage"]["records"], 2);
    assert_eq!(json["systems"][0]["by_document_length"]["rougeL"][1]["shortest"], 7);
    assert_eq!(json["comparisons"][0]["second"], "lead");
    assert_eq!(json["documents"]["mean"], 7.0);
    assert_eq!(json["baselines"][0]["name"], "lead");
    assert_eq!(json["references"]["words"]["mean"], 4.0);
}

#[test]
fn table_is_aligned_and_says_how_it_was_made() {
    let table = report().table();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("system ") && lines[0].ends_with("rougeLsum"), "{}", lines[0]);
    assert!(lines[1].starts_with("predictions ") && lines[1].contains("85.71"), "{}", lines[1]);
    assert!(lines[2].starts_with("lead ") && lines[6].starts_with("oracle\u{2021} "), "{table}");
    assert!(lines[..7].iter().all(|line| line.chars().count() == lines[0].chars().count()), "{table}");
    assert!(table.contains("without stemming; sentence split: newline (a sentence a line)."), "{table}");
    assert!(table.contains("1000 paired bootstrap resamples of the records, seed 0"), "{table}");
}

#[test]
fn markdown_rows_have_the_columns_of_their_header() {
    let markdown = report().markdown();
    let columns = |line: &str| line.replace("\\|", "").matches('|').count();
    let mut tables = 0;
    let mut previous = "";
    for line in markdown.lines() {
        if line.starts_with('|') && previous.starts_with('|') {
            assert_eq!(columns(line), columns(previous), "{line}");
        }
        tables += usize::from(line.starts_with("|---"));
        previous = line;
    }
    assert_eq!(tables, 6);
}

#[test]
fn files_are_written_and_replaced() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = directory.path().join("new").join("run");
    let report = report();
    report.write(&output).expect("the directory is writable");
    fs::write(output.join("report.md"), "old").expect("writable");
    report.write(&output).expect("files are replaced");
    assert_eq!(fs::read_to_string(output.join("report.json")).expect("written"), report.json());
    assert_eq!(fs::read_to_string(output.join("report.md")).expect("written"), report.markdown());
    assert_eq!(fs::read_to_string(output.join("report.html")).expect("written"), report.html());
    assert!(fs::read_to_string(output.join("report.tex")).expect("written").contains("\\toprule"));
    assert_eq!(fs::read_dir(&output).expect("readable").count(), 4, "nothing unfinished stays");
}

#[test]
fn unwritable_output_names_the_path() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    fs::write(&file, "").expect("writable");
    let error = report().write(&file).expect_err("a file is not a directory");
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    let taken = directory.path().join("taken");
    fs::create_dir_all(taken.join("report.md")).expect("writable");
    let error = report().write(&taken).expect_err("a directory cannot be replaced by a file");
    assert!(error.to_string().contains("report.md"), "{error}");
    assert!(!taken.join("report.md.partial").exists());
}
