//! Fields under other names.

use std::collections::BTreeMap;

use epitome_data::{Content, FieldNames, Record, RecordReader, Result};

fn names(pairs: &[(&str, &str)]) -> std::result::Result<FieldNames, String> {
    let pairs = pairs.iter().map(|&(field, name)| (field.to_owned(), name.to_owned()));
    FieldNames::try_from(pairs.collect::<BTreeMap<_, _>>())
}

fn read(line: &'static str, pairs: &[(&str, &str)]) -> Result<Record> {
    let reader = RecordReader::from_reader(line.as_bytes(), "in.jsonl").unwrap();
    reader.with_field_names(names(pairs).unwrap()).next().unwrap()
}

fn document(record: &Record) -> &str {
    let Content::Text { documents, .. } = &record.content else { panic!("{record:?}") };
    &documents[0]
}

#[test]
fn fields_are_read_from_where_the_names_say() {
    let record = read(
        r#"{"article": "a", "abstract": "b", "document": 7, "key": 3}"#,
        &[("document", "article"), ("summary", "abstract"), ("id", "key")],
    );
    let record = record.unwrap();
    assert_eq!((document(&record), record.summary.as_deref(), record.id.as_str()), ("a", Some("b"), "3"));
}

#[test]
fn a_name_that_is_given_away_is_no_longer_the_field() {
    let line = r#"{"document": "a", "summary": "b"}"#;
    let record = read(line, &[("document", "summary"), ("summary", "document")]).unwrap();
    assert_eq!((document(&record), record.summary.as_deref()), ("b", Some("a")));
    let record = read(line, &[("document", "summary")]).unwrap();
    assert_eq!((document(&record), record.summary.as_deref()), ("b", None));
}

#[test]
fn a_record_without_the_name_is_bad_and_null_is_absent() {
    let message = |line, pairs: &[(&str, &str)]| {
        let error = read(line, pairs).unwrap_err();
        assert!(error.is_bad_record());
        error.to_string()
    };
    let article = [("document", "article")];
    assert_eq!(
        message(r#"{"document": "a"}"#, &article),
        "in.jsonl:1: no `article`, which `document` is to be read from"
    );
    assert!(message(r#"{"article": null}"#, &article).contains("no `article`, `documents` or `input_ids`"));
    assert!(message(r#"{"article": 5}"#, &article).contains("`article` must be a string, found 5"));
    let record = read(r#"{"document": "a", "abstract": null}"#, &[("summary", "abstract")]).unwrap();
    assert_eq!(record.summary, None);
}

#[test]
fn names_that_cannot_be_are_refused() {
    assert!(names(&[("text", "article")]).unwrap_err().contains("no field `text`"));
    let twice = names(&[("document", "text"), ("summary", "text")]).unwrap_err();
    assert_eq!(twice, "`text` cannot be both `document` and `summary`");
}
