//! `epitome evaluate`, of predictions and of a model.

use std::fs;

use serde_json::Value;

use crate::fixture::{Folder, json_lines, model, run, run_with_stdin};

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

#[test]
fn predictions_that_are_whole_stay_until_others_are() {
    let folder = Folder::new();
    let data = fs::read_to_string(folder.records("data.jsonl", 2)).unwrap();
    let output = folder.path("report");
    let options = ["--batch-size", "1", "--max-new-tokens", "6", "--output", &output];
    let evaluate = [&["evaluate", "--data", "-", "--model", model()][..], &options].concat();
    run_with_stdin(&evaluate, &data).succeeds();
    let whole = folder.read("report/predictions.jsonl");
    assert_eq!(whole.lines().count(), 2);
    let fewer = [&evaluate[..], &["--num-beams", "2"]].concat();
    run_with_stdin(&fewer, &(data + "no record\n")).fails_naming(&["<stdin>:3"]);
    assert_eq!(folder.read("report/predictions.jsonl"), whole);
    // What was made is not lost; and nothing that is an input.
    assert_eq!(folder.read("report/predictions.jsonl.partial").lines().count(), 2);
    let input = folder.records("report/predictions.jsonl.partial", 3);
    run(&["evaluate", "--data", &input, "--model", model(), "--output", &output]).misuses_naming(&[&input]);
    assert_eq!(folder.read("report/predictions.jsonl.partial").lines().count(), 3);
}

/// Files of one evaluation.
struct Case {
    folder: Folder,
    references: String,
}

impl Case {
    fn new() -> Self {
        let folder = Folder::new();
        let references = folder.write("references.jsonl", REFERENCES);
        Self { folder, references }
    }

    /// `evaluate` of predictions, each `NAME=FILE` or `FILE`, with the report it writes.
    fn evaluate(&self, predictions: &[String], more: &[&str]) -> Value {
        let output = self.folder.path("report");
        let predictions = predictions.iter().flat_map(|named| ["--predictions", named]);
        let arguments = ["evaluate", "--references", &self.references, "--output", &output].into_iter();
        let arguments = arguments.chain(predictions).chain(more.iter().copied());
        run(&arguments.collect::<Vec<_>>()).succeeds();
        serde_json::from_str(&self.folder.read("report/report.json")).unwrap()
    }
}

#[test]
fn systems_are_compared() {
    let case = Case::new();
    let lines = |a: &str, b: &str| format!("{{\"id\":\"a\",\"summary\":{a:?}}}\n{{\"id\":\"b\",\"summary\":{b:?}}}\n");
    let good = case.folder.write("good.jsonl", lines("the cat sat on the mat", "four five"));
    let bad = case.folder.write("bad.jsonl", lines("a dog", "four"));
    let report = case.evaluate(&[format!("ours={good}"), bad], &["--randomizations", "99"]);
    assert_eq!((&report["systems"][0]["name"], &report["systems"][1]["name"]), (&"ours".into(), &"bad".into()));
    let pair = &report["comparisons"][0];
    assert_eq!((&pair["first"], &pair["second"], &pair["wins"]), (&"ours".into(), &"bad".into(), &2.into()));
    assert!(case.folder.read("report/report.tex").contains("ours"));
    let same = format!("ours={}", case.folder.path("bad.jsonl"));
    let twice = ["--predictions", &same, "--predictions", &same, "--references", &case.references];
    run(&[&["evaluate"][..], &twice].concat()).misuses_naming(&["ours"]);
}

#[test]
fn baselines_need_no_predictions() {
    let folder = Folder::new();
    let data = folder.records("data.jsonl", 3);
    let table = run(&["evaluate", "--references", &data, "--baselines", "lead,tail-2,oracle"]).succeeds().stdout;
    for name in ["lead ", "tail-2 ", "oracle\u{2021} "] {
        assert!(table.lines().any(|line| line.starts_with(name)), "{table}");
    }
    assert!(!table.contains("lexrank"), "{table}");
    assert_eq!(run(&["evaluate", "--references", &data, "--baselines", "leads"]).code, 2);
    run(&["evaluate", "--references", &data, "--baselines", "none"]).fails_naming(&["data.jsonl", "no systems"]);
    let empty = folder.write("empty.jsonl", "");
    run(&["evaluate", "--references", &empty]).fails_naming(&["empty.jsonl", "no records"]);
    run(&["evaluate", "--references", &empty, "--predictions", &empty]).fails_naming(&["empty.jsonl", "no records"]);
}

#[test]
fn of_several_references_the_mean_can_count() {
    let case = Case::new();
    let lines = case.folder.write("lines.txt", "the cat sat on the mat\nfour five\n");
    let best = case.evaluate(std::slice::from_ref(&lines), &[]);
    let mean_of = case.evaluate(&[lines], &["--several-references", "mean"]);
    assert_eq!((mean(&best, "rouge1"), mean(&mean_of, "rouge1")), (1.0, 0.75));
    assert_eq!((&best["reference_texts"], &best["options"]["several_references"]), (&3.into(), &"max".into()));
}

#[test]
fn predictions_of_other_programs_are_read() {
    let case = Case::new();
    let written = [
        ("lines.txt", "the cat\nfour five\n"),
        ("rows.csv", "\u{FEFF}prediction,summary\nthe cat,1\n\"four\nfive\",2\n"),
        ("quoted.tsv", "id\tsummary\nb\t\"four\nfive\"\na\tthe cat\n"),
        ("rows.tsv", "id\tsummary\nb\tfour five\na\tthe cat\n"),
    ];
    for (name, text) in written {
        let report = case.evaluate(&[case.folder.write(name, text)], &[]);
        assert!((mean(&report, "rouge1") - 0.75).abs() < 1e-12, "{name}");
    }
    let evaluate = |name: &str, text: &str| {
        let file = case.folder.write(name, text);
        run(&["evaluate", "--predictions", &file, "--references", &case.references])
    };
    evaluate("short.txt", "the cat\n").fails_naming(&["short.txt", "after 1 lines", "`b`"]);
    evaluate("long.txt", "a\nb\nc\n").fails_naming(&["long.txt", "more lines than the 2 records"]);
    evaluate("no.csv", "id,text\na,b\n").fails_naming(&["no.csv", "`summary`"]);
    evaluate("bad.csv", "id,summary\na,b\nc\n").fails_naming(&["bad.csv", "line 3", "1 cell"]);
    evaluate("cut.csv", "id,summary\r\na,b\r\nb,\"c").fails_naming(&["cut.csv", "line 3", "quote"]);
    evaluate("stranger.csv", "id,summary\na,x\nb,y\nz,z\n").fails_naming(&["stranger", "\"z\""]);
}

#[test]
fn a_model_is_read_at_several_lengths() {
    let folder = Folder::new();
    let data = folder.records("data.jsonl", 3);
    let output = folder.path("report");
    let decoding = ["--model", model(), "--max-new-tokens", "4", "--ablate-length", "8,full"];
    run(&[&["evaluate", "--data", &data, "--output", &output][..], &decoding].concat()).succeeds();
    let report: Value = serde_json::from_str(&folder.read("report/report.json")).unwrap();
    let [short, full] = [&report["ablation"][0], &report["ablation"][1]];
    assert_eq!((&short["max_document_tokens"], &full["max_document_tokens"]), (&8.into(), &Value::Null));
    assert_eq!(short["mean_document_tokens"], 8.0);
    assert!(full["mean_document_tokens"].as_f64().unwrap() > 8.0);
    assert!(full["seconds_per_document"].as_f64().unwrap() > 0.0);
    assert_eq!(report["systems"][1]["name"], full["system"]);
    for (file, limit) in [("predictions-8.jsonl", &["--max-document-tokens", "8"][..]), ("predictions-full.jsonl", &[])]
    {
        let decoded = run(&[&["decode", "--input", &data][..], &decoding[..4], limit].concat()).succeeds().records();
        assert_eq!(json_lines(&folder.read(&format!("report/{file}"))), decoded, "{file}");
    }
}

#[test]
fn skipped_records_are_not_compared() {
    let folder = Folder::new();
    let good = folder.records("data.jsonl", 2);
    let text = std::fs::read_to_string(&good).unwrap();
    // One cannot be read, the other has the id of a good one but no summary.
    let data = folder.write("data.jsonl", format!("{{\n{{\"id\": \"r0\", \"document\": \"words\"}}\n{text}"));
    let arguments = ["evaluate", "--data", &data, "--model", model(), "--max-new-tokens", "4", "--skip-bad-records"];
    let found = run(&arguments).succeeds();
    assert!(found.stderr.contains("skipped 2 bad records"), "{}", found.stderr);
    assert!(found.stdout.contains("2 records;"), "{}", found.stdout);
}

#[test]
fn names_that_cannot_be_told_apart_are_found_before_decoding() {
    let folder = Folder::new();
    let data = folder.records("data.jsonl", 1);
    let output = folder.path("report");
    let evaluate = |more: &[&str]| {
        run(&[&["evaluate", "--data", &data, "--model", model(), "--output", &output][..], more].concat())
    };
    evaluate(&["--ablate-length", "8,8"]).misuses_naming(&["8\""]);
    evaluate(&["--baselines", "lead,lead"]).misuses_naming(&["\"lead\""]);
    assert!(!std::fs::exists(&output).unwrap(), "nothing was decoded");
    evaluate(&["--append-results", &folder.path("missing/results.jsonl")]).fails_naming(&["missing/results.jsonl"]);
    assert!(!std::fs::exists(&output).unwrap(), "nothing was decoded");
}

#[test]
fn results_say_how_a_model_wrote() {
    let folder = Folder::new();
    let data = folder.records("data.jsonl", 1);
    let results = folder.write("results.jsonl", "{\"half\": a line");
    for beams in ["1", "2"] {
        let decoding =
            ["--model", model(), "--num-beams", beams, "--max-new-tokens", "3", "--append-results", &results];
        run(&[&["evaluate", "--data", &data][..], &decoding].concat()).succeeds();
    }
    run(&["results", &results]).fails_naming(&["line 1"]);
    let lines: Vec<String> = folder.read("results.jsonl").lines().skip(1).map(str::to_owned).collect();
    let whole = folder.write("whole.jsonl", lines.join("\n"));
    let table = run(&["results", &whole]).succeeds().stdout;
    assert!(table.contains("num_beams 1") && table.contains("num_beams 2") && table.contains(model()), "{table}");
}

#[test]
fn results_show_every_setting_in_which_they_differ() {
    let folder = Folder::new();
    let data = folder.records("data.jsonl", 1);
    let results = folder.path("results.jsonl");
    let shared = ["evaluate", "--data", &data, "--model", model(), "--max-new-tokens", "3", "--bootstrap", "0"];
    let header = || {
        let table = run(&["results", &results]).succeeds().stdout;
        assert!(!table.contains(" to "), "no interval without resamples: {table}");
        table.lines().next().unwrap_or_default().to_owned()
    };
    let further = ["repetition_penalty", "several_references"];
    for (options, shown) in [
        (&[][..], [false, false]),
        (&["--several-references", "mean"], [false, true]),
        (&["--repetition-penalty", "1.5"], [true, true]),
    ] {
        run(&[&shared[..], &["--append-results", &results], options].concat()).succeeds();
        let header = header();
        assert_eq!(further.map(|name| header.contains(name)), shown, "{header}");
        assert!(!header.contains("extractive"), "all rows have the same: {header}");
    }
}

#[test]
fn results_of_many_runs_are_one_table() {
    let case = Case::new();
    let results = case.folder.path("results.jsonl");
    for (name, text) in [("one", "the cat\nfour five\n"), ("two", "a\nb\n")] {
        let lines = case.folder.write(&format!("{name}.txt"), text);
        case.evaluate(&[lines], &["--append-results", &results, "--baselines", "none"]);
    }
    let table = run(&["results", &results]).succeeds().stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].starts_with("one ") && lines[1].contains("75.00"), "{table}");
    let table = run(&["results", &results, "--system", "two", "--format", "markdown"]).succeeds().stdout;
    assert!(table.starts_with("| system ") && table.lines().count() == 3, "{table}");
    run(&["results", &results, "--system", "three"]).fails_naming(&["no result"]);
    let broken = case.folder.write("broken.jsonl", "{}\n");
    run(&["results", &broken]).fails_naming(&["broken.jsonl, line 1: not a result: missing field"]);
    let torn = case.folder.write("torn.jsonl", case.folder.read("results.jsonl") + "{\"system\"\n");
    let refused = run(&["results", &torn]);
    assert_eq!(refused.stderr.matches("line ").count(), 1, "{}", refused.stderr);
    refused.fails_naming(&["torn.jsonl, line 3: not a result"]);
}
