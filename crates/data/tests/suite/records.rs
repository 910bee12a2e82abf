//! Reading records: every accepted form, and every kind of bad line with the message a person gets.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::support::record;
use epitome_data::{Content, Error, Record, RecordReader, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

const TWO: &str = "{\"id\": \"a\", \"document\": \"one\"}\n{\"id\": \"b\", \"document\": \"two\"}\n";

fn read(bytes: impl Into<Vec<u8>>) -> Vec<Result<Record>> {
    RecordReader::from_reader(std::io::Cursor::new(bytes.into()), "in.jsonl").unwrap().collect()
}

#[track_caller]
fn ids(records: impl IntoIterator<Item = Result<Record>>) -> Vec<String> {
    records.into_iter().map(|record| record.unwrap().id).collect()
}

/// The message for a bad line, which must not end the reading.
#[track_caller]
fn message(line: &str) -> String {
    let records = read(format!("{TWO}{line}\n{{\"id\": \"after\", \"document\": \"\"}}\n"));
    assert_eq!(records.len(), 4, "the reader must go on after {line}");
    assert_eq!(records[3].as_ref().unwrap().id, "after");
    let error = records[2].as_ref().unwrap_err();
    assert!(error.is_bad_record());
    let message = error.to_string();
    message.strip_prefix("in.jsonl:3: ").expect("the place comes first").to_owned()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A frame with a window of 2^`window_log` bytes, which is written into its header.
fn zstd_frame(bytes: &[u8], window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn text(record: &Record) -> (&[String], Option<&str>) {
    match &record.content {
        Content::Text { documents, query } => (documents, query.as_deref()),
        Content::Tokens { .. } => panic!("not text: {record:?}"),
    }
}

#[test]
fn fields_of_a_text_record() {
    let full = record(
        r#"{"id": "x", "documents": ["a", "b"], "query": "why?", "summary": "s", "references": ["s", "t"], "year": 2020}"#,
    );
    assert_eq!((full.id.as_str(), full.summary.as_deref()), ("x", Some("s")));
    assert_eq!(text(&full), (&["a".to_owned(), "b".to_owned()][..], Some("why?")));
    assert_eq!(full.targets(), ["s", "t"]);
    assert_eq!(full.into_texts(), ["why?", "a", "b", "s"]);

    let small = record(r#"{"document": "a", "summary": null, "references": null}"#);
    assert_eq!((small.id.as_str(), small.summary.as_deref()), ("7", None));
    assert_eq!(text(&small), (&["a".to_owned()][..], None));
    assert!(small.targets().is_empty());
    assert_eq!(record(r#"{"document": "a", "summary": "s"}"#).targets(), ["s"]);
}

#[test]
fn ids_may_be_numbers_and_default_to_the_line() {
    let lines = "{\"id\": 5, \"document\": \"\"}\n\n{\"document\": \"\"}\n{\"id\": 1.5, \"document\": \"\"}\n{\"id\": null, \"document\": \"\"}\n";
    assert_eq!(ids(read(lines)), ["5", "3", "1.5", "5"]);
}

#[test]
fn tokenized_records_as_given() {
    let tokens = record(r#"{"input_ids": [0, 9, 2], "labels": [0, 7, -100, 2], "document": "ignored"}"#);
    let expected =
        Content::Tokens { input_ids: vec![0, 9, 2], global_positions: vec![0], labels: Some(vec![0, 7, -100, 2]) };
    assert_eq!(tokens.content, expected);
    assert!(tokens.is_tokenized() && !tokens.is_empty());
    let tokens = record(r#"{"input_ids": [4294967295, 1], "global_positions": [1, 0, 1]}"#);
    let expected = Content::Tokens { input_ids: vec![u32::MAX, 1], global_positions: vec![0, 1], labels: None };
    assert_eq!(tokens.content, expected);
    let none = record(r#"{"input_ids": [5], "global_positions": []}"#);
    assert!(matches!(none.content, Content::Tokens { global_positions, .. } if global_positions.is_empty()));
}

#[test]
fn empty_documents_are_records() {
    for line in
        [r#"{"document": ""}"#, r#"{"document": " \n\t"}"#, r#"{"documents": []}"#, r#"{"documents": ["", " "]}"#]
    {
        assert!(record(line).is_empty(), "{line}");
    }
    assert!(!record(r#"{"documents": ["", "a"]}"#).is_empty());
}

#[test]
fn line_ends_blank_lines_and_byte_order_mark() {
    assert_eq!(ids(read(TWO)), ["a", "b"]);
    assert_eq!(ids(read(TWO.trim_end())), ["a", "b"]);
    assert_eq!(ids(read(TWO.replace('\n', "\r\n"))), ["a", "b"]);
    assert_eq!(ids(read(format!("\u{feff}{TWO}"))), ["a", "b"]);
    assert_eq!(ids(read(TWO.replace('\n', "\n\n  \r\n\n"))), ["a", "b"]);
    assert!(read("").is_empty());
    assert!(read("\n\r\n  \n").is_empty());
    assert!(read("\u{feff}").is_empty());
}

#[test]
fn json_errors() {
    assert!(message("{\"document\": \"open").starts_with("not valid JSON: EOF while parsing a string (column "));
    assert!(message("{'document': 'single quotes'}").contains("column 2"));
    assert!(message("{\"document\": \"a\"} trailing").contains("trailing characters (column 19)"));
    assert!(message("{\"document\": \"\\ud800\"}").starts_with("not valid JSON"));
    assert_eq!(message("[1]"), "a record must be a JSON object, found a list");
    assert_eq!(message("\"text\""), "a record must be a JSON object, found a string");
}

#[test]
fn missing_and_contradicting_fields() {
    let none =
        "no `document`, `documents` or `input_ids`; if it has another name, give that with `data.fields` or --field";
    assert_eq!(message("{}"), none);
    assert_eq!(message(r#"{"document": null}"#), none);
    assert!(message(r#"{"document": "a", "documents": ["b"]}"#).contains("keep exactly one"));
    assert_eq!(message(r#"{"input_ids": []}"#), "`input_ids` is empty");
}

#[test]
fn wrong_types() {
    let cases = [
        (r#"{"document": 5}"#, "`document` must be a string, found 5"),
        (r#"{"document": ["a"]}"#, "`document` must be a string, found a list"),
        (r#"{"documents": "a"}"#, "`documents` must be a list, found a string"),
        (r#"{"documents": ["a", 1]}"#, "`documents[1]` must be a string, found 1"),
        (r#"{"document": "", "summary": {}}"#, "`summary` must be a string, found an object"),
        (r#"{"document": "", "query": true}"#, "`query` must be a string, found a boolean"),
        (r#"{"document": "", "references": "r"}"#, "`references` must be a list, found a string"),
        (r#"{"document": "", "references": [null]}"#, "`references[0]` must be a string, found null"),
        (
            r#"{"id": 100000000000000000000, "document": ""}"#,
            "`id` must be a string where a number would be too large to be held exactly, found 1e+20",
        ),
        (r#"{"id": [], "document": ""}"#, "`id` must be a string or a number, found a list"),
        (r#"{"input_ids": 1}"#, "`input_ids` must be a list, found 1"),
        (
            r#"{"input_ids": [1, -1]}"#,
            "`input_ids[1]` must be a token id (a whole number from 0 to 4294967295), found -1",
        ),
        (r#"{"input_ids": [1.5]}"#, "found 1.5"),
        (r#"{"input_ids": [4294967296]}"#, "found 4294967296"),
        (r#"{"input_ids": [1], "labels": [-2]}"#, "`labels[0]` must be a token id or -100, found -2"),
        (r#"{"input_ids": [1], "labels": ["a"]}"#, "`labels[0]` must be a token id or -100, found a string"),
        (
            r#"{"input_ids": [1], "global_positions": [-1]}"#,
            "`global_positions[0]` must be a whole number from 0, found -1",
        ),
    ];
    for (line, expected) in cases {
        let message = message(line);
        assert!(message.contains(expected), "{line}: {message}");
    }
}

#[test]
fn global_position_out_of_range() {
    let expected = "global position 3 is out of range: `input_ids` has 3 tokens, counted from 0";
    assert_eq!(message(r#"{"input_ids": [1, 2, 3], "global_positions": [3]}"#), expected);
}

#[test]
fn invalid_utf8_names_the_byte() {
    let records = read(&b"{\"document\": \"ab\xff\"}\n{\"document\": \"fine\"}"[..]);
    let message = records[0].as_ref().unwrap_err().to_string();
    assert!(message.starts_with("in.jsonl:1: not valid UTF-8 at byte 16 "), "{message}");
    assert!(records[1].is_ok());
}

#[test]
fn bad_records_can_be_put_aside() {
    let bytes = format!("{TWO}bad\n{TWO}{{}}\n");
    let mut reader =
        RecordReader::from_reader(std::io::Cursor::new(bytes), "in.jsonl").unwrap().skipping_bad_records(true);
    assert_eq!(ids(reader.by_ref()), ["a", "b", "a", "b"]);
    let skipped: Vec<String> = reader.skipped().iter().map(ToString::to_string).collect();
    assert_eq!(skipped.len(), 2);
    assert!(skipped[0].starts_with("in.jsonl:3: ") && skipped[1].starts_with("in.jsonl:6: "), "{skipped:?}");
}

#[test]
fn compressed_files_are_told_by_their_first_bytes() {
    assert_eq!(ids(read(gzip(TWO.as_bytes()))), ["a", "b"]);
    assert_eq!(ids(read(zstd_frame(TWO.as_bytes(), 20))), ["a", "b"]);
    let lines: Vec<&str> = TWO.lines().collect();
    // Members and frames may even meet inside a line.
    let (start, end) = TWO.split_at(lines[0].len() + 5);
    assert_eq!(ids(read([gzip(start.as_bytes()), gzip(end.as_bytes())].concat())), ["a", "b"]);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"any"].concat();
    let frames = [skippable.clone(), zstd_frame(start.as_bytes(), 20), skippable, zstd_frame(end.as_bytes(), 20)];
    assert_eq!(ids(read(frames.concat())), ["a", "b"]);
}

#[test]
fn zstd_windows_above_the_default_limit() {
    // Above 2^27 a decoder refuses unless told otherwise.
    for window_log in [27, 28, 30] {
        let frame = zstd_frame(TWO.as_bytes(), window_log);
        assert_eq!(ids(read(frame)), ["a", "b"], "window 2^{window_log}");
    }
}

#[test]
fn truncated_and_damaged_files_are_fatal_and_named() {
    let long = TWO.repeat(2_000);
    let (gz, zst) = (gzip(long.as_bytes()), zstd_frame(long.as_bytes(), 20));
    for (bytes, format) in [(gz, "gzip"), (zst, "zstd")] {
        let records = read(&bytes[..bytes.len() - 5]);
        let (last, before) = records.split_last().unwrap();
        let error = last.as_ref().unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }) && !error.is_bad_record());
        let expected = format!("in.jsonl: the {format} data is truncated after ");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(before.iter().all(Result::is_ok));

        let mut damaged = bytes.clone();
        let middle = damaged.len() / 2;
        damaged[middle..].fill(0xaa);
        let last = read(damaged).pop().unwrap().unwrap_err().to_string();
        assert!(last.starts_with(&format!("in.jsonl: the {format} data is ")), "{last}");
    }
}

fn write(directory: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn several_files_and_patterns() {
    let directory = tempfile::tempdir().unwrap();
    let one = |id: &str| format!("{{\"id\": \"{id}\", \"document\": \"\"}}");
    write(directory.path(), "b1.jsonl", one("b1"));
    write(directory.path(), "a2.jsonl.gz", gzip(one("a2").as_bytes()));
    write(directory.path(), "a1.jsonl.zst", zstd_frame(one("a1").as_bytes(), 20));
    write(directory.path(), "with [brackets].jsonl", one("literal"));
    let open = |names: &[&str]| RecordReader::open_all(names.iter().map(|name| directory.path().join(name)));
    assert_eq!(ids(open(&["b1.jsonl", "a*"]).unwrap()), ["b1", "a1", "a2"]);
    assert_eq!(ids(open(&["?1.jsonl*"]).unwrap()), ["a1", "b1"]);
    assert_eq!(ids(open(&["with [brackets].jsonl"]).unwrap()), ["literal"]);
    assert_eq!(
        open(&["c*"]).err().unwrap().to_string(),
        format!("no file matches `{}/c*`", directory.path().display())
    );
    // A missing second file is reported before the first is read.
    let message = open(&["b1.jsonl", "missing.jsonl"]).err().unwrap().to_string();
    assert!(message.starts_with("cannot open ") && message.contains("missing.jsonl"), "{message}");
}

#[test]
fn line_numbers_start_again_in_each_file() {
    let directory = tempfile::tempdir().unwrap();
    let paths = [write(directory.path(), "1", TWO), write(directory.path(), "2", format!("{TWO}oops"))];
    let last = RecordReader::open_all(&paths).unwrap().last().unwrap().unwrap_err();
    assert!(last.to_string().starts_with(&format!("{}:3: ", paths[1].display())), "{last}");
}

#[test]
fn missing_file_and_directory() {
    let directory = tempfile::tempdir().unwrap();
    let message = RecordReader::open(directory.path().join("no.jsonl")).err().unwrap().to_string();
    assert!(message.contains("no.jsonl"), "{message}");
    let message = RecordReader::open(directory.path()).err().unwrap().to_string();
    assert!(message.starts_with("cannot open ") && message.contains("directory"), "{message}");
}
