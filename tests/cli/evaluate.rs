//! `epitome evaluate`, of predictions and of a model.

use serde_json::Value;

use crate::fixture::{Folder, json_lines, model, run};

const REFERENCES: &str = r#"{"id": "a", "summary": "the cat sat on the mat"}
{"id": "b", "references": ["one two three", "four five"], "document": "one two three four"}
"#;

fn mean(report: &Value, metric: &str) -> f64 {
    report["scores"][metric]["f1"]["mean"].as_f64().unwrap()
}

#[test]
fn predictions_and_references_are_joined_by_id() {
    let folder = Folder::new();
    let references = folder.write("references.jsonl", REFERENCES);
    let predictions = folder.write(
        "predictions.jsonl",
        "{\"id\":\"b\",\"summary\":\"four five\"}\n{\"id\":\"a\",\"summary\":\"the cat\"}\n",
    );
    let output = folder.path("report");
    let arguments = ["evaluate", "--predictions", &predictions, "--references", &references, "--output", &output];
    let table = run(&arguments).succeeds().stdout;
    for metric in ["rouge1", "rouge2", "rougeL", "rougeLsum"] {
        assert!(table.to_lowercase().contains(&metric.to_lowercase()), "{table}");
    }
    let report: Value = serde_json::from_str(&folder.read("report/report.json")).unwrap();
    assert_eq!(report["records"], 2);
    // Record a: precision 1, recall 2/6, F1 1/2. Record b: 1.
    assert!((mean(&report, "rouge1") - 0.75).abs() < 1e-12, "{report}");
    for file in ["report.md", "report.html"] {
        assert!(!folder.read(&format!("report/{file}")).is_empty());
    }
}

#[test]
fn missing_and_doubled_ids_are_named() {
    let folder = Folder::new();
    let references = folder.write("references.jsonl", REFERENCES);
    let evaluate = |predictions: &str| {
        let predictions = folder.write("predictions.jsonl", predictions);
        run(&["evaluate", "--predictions", &predictions, "--references", &references])
    };
    let line = |id: &str| format!("{{\"id\":\"{id}\",\"summary\":\"words\"}}\n");
    evaluate(&line("a")).fails_naming(&["\"b\""]);
    evaluate(&(line("a") + &line("b") + &line("a"))).fails_naming(&["\"a\"", "two predictions"]);
    evaluate(&(line("a") + &line("b") + &line("stranger"))).fails_naming(&["stranger"]);
}

#[test]
fn bad_lines_are_named() {
    let folder = Folder::new();
    let references = folder.write("references.jsonl", REFERENCES);
    let evaluate = |predictions: &str| {
        let predictions = folder.write("predictions.jsonl", predictions);
        run(&["evaluate", "--predictions", &predictions, "--references", &references])
    };
    evaluate("{\"id\":\"a\",\"summary\":\"x\"}\n{\"id\":\n").fails_naming(&["predictions.jsonl:2"]);
    evaluate("{\"id\":\"a\"}\n").fails_naming(&["predictions.jsonl:1", "summary"]);
    let missing = folder.path("missing.jsonl");
    run(&["evaluate", "--predictions", &missing, "--references", &references]).fails_naming(&[&missing]);
}

#[test]
fn a_model_is_decoded_and_evaluated() {
    let folder = Folder::new();
    let data = folder.records("data.jsonl", 4);
    let output = folder.path("report");
    let decoding = ["--model", model(), "--num-beams", "2", "--max-new-tokens", "6"];
    let arguments = ["evaluate", "--data", &data, "--output", &output, "--bootstrap", "10", "--stemmer"];
    run(&[&arguments[..], &decoding[..]].concat()).succeeds();
    let report: Value = serde_json::from_str(&folder.read("report/report.json")).unwrap();
    assert_eq!(report["records"], 4);
    assert_eq!(report["options"]["stemmer"], true);
    let predictions = json_lines(&folder.read("report/predictions.jsonl"));
    assert_eq!(predictions.len(), 4);
    let decoded = run(&[&["decode", "--input", &data][..], &decoding[..]].concat()).succeeds().records();
    assert_eq!(predictions, decoded);
}
