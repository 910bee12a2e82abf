//! `epitome decode`: what goes in, what comes out, in which order.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{DECODER_POSITIONS, Folder, Run, TEXT, command, finish, json_lines, model, run, run_with_stdin};

#[test]
fn a_text_file_gives_its_summary_on_stdout() {
    let folder = Folder::new();
    let file = folder.write("a.txt", TEXT);
    let summary = run(&["decode", &file, "--model", model()]).succeeds();
    assert!(!summary.stdout.trim().is_empty());
    let piped = run_with_stdin(&["decode", "-", "--model", model()], TEXT).succeeds();
    assert_eq!(piped.stdout, summary.stdout);
    let unnamed = run_with_stdin(&["decode", "--model", model()], TEXT).succeeds();
    assert_eq!(unnamed.stdout, summary.stdout);
}

#[test]
fn several_files_are_told_apart() {
    let folder = Folder::new();
    let (first, second) = (folder.write("a.txt", TEXT), folder.write("b.txt", "Another text."));
    let text = run(&["decode", &first, &second, "--model", model()]).succeeds().stdout;
    assert!(text.starts_with(&format!("==> {first} <==\n")), "{text}");
    assert!(text.contains(&format!("\n==> {second} <==\n")), "{text}");
    let records = run(&["decode", &first, &second, "--model", model(), "--format", "json"]).succeeds().records();
    let ids: Vec<&Value> = records.iter().map(|record| &record["id"]).collect();
    assert_eq!(ids, [&json!(first), &json!(second)]);
}

#[test]
fn records_come_out_in_input_order_with_every_field() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 5);
    let records = run(&["decode", "--input", &input, "--model", model()]).succeeds().records();
    let ids: Vec<&str> = records.iter().map(|record| record["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["r0", "r1", "r2", "r3", "r4"]);
    for record in &records {
        let tokens = record["tokens"].as_array().unwrap();
        assert!(!tokens.is_empty() && tokens.len() < DECODER_POSITIONS, "{record}");
        assert!(record["score"].as_f64().unwrap() < 0.0);
        assert!(record["document_tokens"].as_u64().unwrap() > 2);
        assert_eq!(record["truncated_tokens"], 0);
        assert!(record["summary"].is_string());
        assert!(record.get("sequences").is_none());
    }
}

#[test]
fn batch_mates_and_threads_change_nothing() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 7);
    let decode = |extra: &[&str]| {
        let arguments = [&["decode", "--input", &input, "--model", model(), "--num-beams", "3"], extra].concat();
        let mut records = run(&arguments).succeeds().records();
        // Sums of floats may be taken in another order; the tokens may not differ.
        records.iter_mut().for_each(|record| drop(record.as_object_mut().unwrap().remove("score")));
        records
    };
    let alone = decode(&["--batch-size", "1"]);
    assert_eq!(alone, decode(&["--batch-size", "3"]));
    assert_eq!(alone, decode(&["--batch-size", "7", "--threads", "1"]));
}

#[test]
fn tokenized_records_need_no_tokenizer() {
    let folder = Folder::new();
    let bare = folder.path("model");
    fs::create_dir(&bare).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(format!("{}/{name}", model()), format!("{bare}/{name}")).unwrap();
    }
    let input = folder.write("in.jsonl", r#"{"input_ids": [0, 9, 10, 11, 2], "global_positions": [0, 2]}"#);
    let records = run(&["decode", "--input", &input, "--model", &bare]).succeeds().records();
    assert_eq!(records[0]["id"], "1");
    assert_eq!(records[0]["summary"], "");
    assert_eq!(records[0]["document_tokens"], 5);
    assert!(!records[0]["tokens"].as_array().unwrap().is_empty());
    let text = folder.records("text.jsonl", 1);
    run(&["decode", "--input", &text, "--model", &bare]).fails_naming(&["text.jsonl:1", "tokenizer"]);
    let outside = folder.write("outside.jsonl", r#"{"input_ids": [0, 70000, 2]}"#);
    run(&["decode", "--input", &outside, "--model", &bare]).fails_naming(&["outside.jsonl:1", "70000", "vocabulary"]);
}

#[test]
fn a_document_longer_than_the_position_table_is_read_whole_and_it_is_said_once() {
    let folder = Folder::new();
    let line = json!({"document": TEXT.repeat(5)}).to_string();
    let input = folder.write("in.jsonl", format!("{line}\n{line}\n{{\"document\": \"short\"}}\n"));
    let long = run(&["decode", "--input", &input, "--model", model()]).succeeds();
    let records = long.records();
    assert_eq!(records[0]["positions_tiled"], true);
    assert_eq!(records[0]["truncated_tokens"], 0);
    assert!(records[2].get("positions_tiled").is_none());
    assert_eq!(long.stderr.matches("position table").count(), 1, "{}", long.stderr);
}

#[test]
fn only_max_document_tokens_truncates_and_it_is_said() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 1);
    let whole = run(&["decode", "--input", &input, "--model", model()]).succeeds();
    let tokens = whole.records()[0]["document_tokens"].as_u64().unwrap();
    assert!(whole.stderr.is_empty(), "{}", whole.stderr);
    let cut = run(&["decode", "--input", &input, "--model", model(), "--max-document-tokens", "10"]).succeeds();
    assert_eq!(cut.records()[0]["document_tokens"], 10);
    assert_eq!(cut.records()[0]["truncated_tokens"], tokens - 10);
    assert!(cut.stderr.contains("--max-document-tokens"), "{}", cut.stderr);
}

#[test]
fn an_empty_document_is_a_warning() {
    let folder = Folder::new();
    let input = folder.write("in.jsonl", "{\"id\":\"void\",\"document\":\" \\n\"}\n{\"document\":\"words\"}\n");
    let decoded = run(&["decode", "--input", &input, "--model", model()]).succeeds();
    assert!(decoded.stderr.contains("void") && decoded.stderr.contains("empty"), "{}", decoded.stderr);
    let records = decoded.records();
    assert_eq!((&records[0]["summary"], &records[0]["tokens"]), (&json!(""), &json!([])));
    assert_ne!(records[1]["tokens"], json!([]));
    let file = folder.write("empty.txt", "");
    let text = run(&["decode", &file, "--model", model()]).succeeds();
    assert_eq!(text.stdout, "\n");
    assert!(text.stderr.contains("empty.txt"), "{}", text.stderr);
}

#[test]
fn several_sequences_come_best_first() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 1);
    let options = ["--num-beams", "3", "--num-return-sequences", "3"];
    let records =
        run(&[&["decode", "--input", &input, "--model", model()], &options[..]].concat()).succeeds().records();
    let sequences = records[0]["sequences"].as_array().unwrap();
    assert_eq!(sequences.len(), 3);
    assert_eq!(sequences[0]["tokens"], records[0]["tokens"]);
    let scores: Vec<f64> = sequences.iter().map(|sequence| sequence["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
}

#[test]
fn the_command_line_wins_over_generation_config() {
    let folder = Folder::new();
    let directory = folder.path("model");
    fs::create_dir(&directory).unwrap();
    let config = crate::fixture::write_model(directory.as_ref());
    assert_eq!(config.eos_token_id.as_slice(), [2]);
    fs::write(format!("{directory}/generation_config.json"), r#"{"min_new_tokens": 5, "max_new_tokens": 5}"#).unwrap();
    let input = folder.records("in.jsonl", 1);
    let tokens = |extra: &[&str]| {
        let records =
            run(&[&["decode", "--input", &input, "--model", &directory], extra].concat()).succeeds().records();
        records[0]["tokens"].as_array().unwrap().len()
    };
    assert_eq!(tokens(&[]), 5);
    assert_eq!(tokens(&["--max-new-tokens", "8", "--min-new-tokens", "8"]), 8);
}

#[test]
fn a_summary_may_pass_the_decoders_position_table() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 1);
    let length = (DECODER_POSITIONS + 10).to_string();
    let options = ["--min-new-tokens", &length, "--max-new-tokens", &length];
    let records =
        run(&[&["decode", "--input", &input, "--model", model()], &options[..]].concat()).succeeds().records();
    assert_eq!(records[0]["tokens"].as_array().unwrap().len(), DECODER_POSITIONS + 10);
}

#[test]
fn the_model_may_be_named_by_the_environment() {
    let folder = Folder::new();
    let file = folder.write("a.txt", TEXT);
    let mut with_variable = command(&["decode", &file]);
    with_variable.env("EPITOME_MODEL", model());
    let expected = run(&["decode", &file, "--model", model()]).succeeds().stdout;
    assert_eq!(finish(with_variable).succeeds().stdout, expected);
}

#[test]
fn a_prompt_stands_where_a_query_does_and_before_one() {
    let folder = Folder::new();
    let input = |query: &str| {
        let record = json!({"id": "a", "document": TEXT, "query": query});
        folder.write(&format!("{}.jsonl", query.len()), format!("{record}\n"))
    };
    let decode = |input: &str, extra: &[&str]| {
        run(&[&["decode", "--input", input, "--model", model()], extra].concat()).succeeds().records()
    };
    let prompt = ["--prompt", "digest, 50 words"];
    assert_eq!(decode(&input(""), &prompt), decode(&input("digest, 50 words"), &[]));
    assert_eq!(decode(&input("Who sat?"), &prompt), decode(&input("digest, 50 words\nWho sat?"), &[]));
    assert_ne!(decode(&input(""), &prompt), decode(&input(""), &[]));
    let ids = folder.write("ids.jsonl", r#"{"id": "b", "input_ids": [0, 5, 2]}"#);
    run(&[&["decode", "--input", &ids, "--model", model()][..], &prompt].concat()).fails_naming(&[
        "ids.jsonl:1",
        "record b",
        "--prompt",
    ]);
}

/// Whoever writes records one by one may wait for each summary.
#[test]
fn a_record_from_a_pipe_is_not_kept_until_the_next_comes() {
    let mut command = command(&["decode", "--input", "-", "--model", model(), "--batch-size", "1"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let (told, lines) = mpsc::channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || output.lines().for_each(|line| told.send(line.unwrap()).unwrap()));
    for id in ["first", "second"] {
        writeln!(input, "{}", json!({"id": id, "document": TEXT})).unwrap();
        let line = lines.recv_timeout(Duration::from_secs(60)).expect("a summary before the next record");
        assert_eq!(json_lines(&line)[0]["id"], id);
    }
    drop(input);
    reader.join().unwrap();
    assert!(child.wait().unwrap().success());
}

/// However batches are cut, and whatever has been read ahead: what is said of a record is said once, and nothing of those behind an
/// error.
#[test]
fn records_are_spoken_of_once_and_in_order() {
    let folder = Folder::new();
    let record = |n: usize| match n {
        2 | 5 => format!("{{\"id\":\"void{n}\",\"document\":\" \"}}\n"),
        _ => format!("{{\"id\":\"r{n}\",\"document\":\"Some words, number {n}.\"}}\n"),
    };
    let good: String = (0..7).map(record).collect();
    let input = folder.write("in.jsonl", &good);
    let broken = folder.write(
        "broken.jsonl",
        format!("{}{{\"id\":\"r4\"}}\n{{\"id\":\"r5\"}}\n", (0..4).map(record).collect::<String>()),
    );
    for size in ["1", "2", "3", "7", "20"] {
        let decode = |input: &str, extra: &[&str]| {
            let arguments = ["decode", "--input", input, "--model", model(), "--batch-size", size];
            run(&[&arguments[..], extra].concat())
        };
        let decoded = decode(&input, &[]).succeeds();
        let ids = |run: &Run| run.records().iter().map(|record| record["id"].clone()).collect::<Vec<Value>>();
        assert_eq!(ids(&decoded), ["r0", "r1", "void2", "r3", "r4", "void5", "r6"], "{size}");
        for void in ["void2", "void5"] {
            assert_eq!(decoded.stderr.matches(void).count(), 1, "{size}: {}", decoded.stderr);
        }
        let failed = decode(&broken, &[]);
        assert_eq!((failed.code, ids(&failed)), (1, ["r0", "r1", "void2", "r3"].map(Value::from).to_vec()), "{size}");
        assert!(failed.stderr.contains("broken.jsonl:5") && !failed.stderr.contains(":6"), "{size}: {}", failed.stderr);
        let skipped = decode(&broken, &["--skip-bad-records"]).succeeds();
        for line in ["broken.jsonl:5", "broken.jsonl:6"] {
            assert_eq!(skipped.stderr.matches(line).count(), 1, "{size}: {}", skipped.stderr);
        }
    }
}
