//! Records from Parquet files: the same as from JSON Lines, and damage is named.

use std::fs;
use std::path::PathBuf;

use epitome_data::{Content, Error, Record, RecordReader, Result};
use parquet::basic::{Compression, ZstdLevel};
use tempfile::TempDir;

use crate::support::{Column, Random, parquet};

const PLAIN: Compression = Compression::UNCOMPRESSED;

fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    fs::write(&path, bytes).unwrap();
    (directory, path)
}

fn read(bytes: &[u8]) -> Vec<Result<Record>> {
    let (_directory, path) = file(bytes);
    RecordReader::open(path).unwrap().collect()
}

fn texts<'a>(texts: &[Option<&'a str>]) -> Column<'a> {
    Column::Texts(texts.iter().map(|text| text.map(str::as_bytes)).collect())
}

#[test]
fn rows_are_the_records_that_lines_would_be() {
    let columns = [
        ("id", texts(&[Some("a"), None, Some("c"), None])),
        ("extra", Column::Numbers(vec![Some(1); 4])),
        ("document", texts(&[Some("one\u{0}é😀"), None, None, Some("")])),
        ("documents", Column::TextLists(vec![None, Some(vec![Some("x"), Some("y")]), None, None])),
        ("references", Column::TextLists(vec![None, Some(vec![]), None, Some(vec![Some("r")])])),
        ("summary", texts(&[Some("s"), None, None, None])),
        ("input_ids", Column::NumberLists(vec![None, None, Some(vec![Some(0), Some(9), Some(2)]), None])),
        ("labels", Column::NumberLists(vec![None, None, Some(vec![Some(-100), Some(2)]), None])),
    ];
    let lines = r#"{"id": "a", "document": "one\u0000é😀", "summary": "s"}
        {"documents": ["x", "y"], "references": []}
        {"id": "c", "input_ids": [0, 9, 2], "labels": [-100, 2]}
        {"document": "", "references": ["r"]}"#;
    let expected: Vec<Record> =
        RecordReader::from_reader(lines.as_bytes(), "lines").unwrap().collect::<Result<_>>().unwrap();
    let zstd = Compression::ZSTD(ZstdLevel::try_new(3).unwrap());
    let (gzip, brotli) = (Compression::GZIP(Default::default()), Compression::BROTLI(Default::default()));
    for compression in [PLAIN, zstd, gzip, brotli, Compression::SNAPPY, Compression::LZ4_RAW] {
        for group in [1, 3, 4] {
            let found = read(&parquet(&columns, (4, group), compression));
            assert_eq!(found.len(), 4);
            for (row, (found, expected)) in found.into_iter().zip(&expected).enumerate() {
                let found = found.unwrap();
                assert!(found.location.to_string().ends_with(&format!("records: row {}", row + 1)));
                assert_eq!(Record { location: expected.location.clone(), ..found }, *expected);
            }
        }
    }
}

#[test]
fn long_columns_come_in_order() {
    let numbers: Vec<String> = (0..1000).map(|number| number.to_string().repeat(50)).collect();
    let cells: Vec<Option<&str>> = numbers.iter().map(|text| Some(text.as_str())).collect();
    let lists = (0..1000).map(|length| Some(vec![Some("r"); length % 70])).collect();
    let columns = [("document", texts(&cells)), ("references", Column::TextLists(lists))];
    let records = read(&parquet(&columns, (1000, 300), Compression::SNAPPY));
    for (row, record) in records.into_iter().enumerate() {
        let record = record.unwrap();
        assert_eq!(record.id, (row + 1).to_string());
        assert_eq!(record.references.len(), row % 70);
        assert_eq!(record.content, Content::Text { documents: vec![numbers[row].clone()], query: None });
    }
}

#[test]
fn bad_rows_are_named_and_passed_over() {
    let columns = [
        ("document", Column::Texts(vec![Some(b"a"), Some(b"b\xff"), Some(b"c"), None, Some(b"e")])),
        ("references", Column::TextLists(vec![None, None, Some(vec![Some("r"), None]), None, None])),
    ];
    let bytes = parquet(&columns, (5, 5), PLAIN);
    let (_directory, path) = file(&bytes);
    let mut reader = RecordReader::open(&path).unwrap().skipping_bad_records(true);
    let ids: Vec<String> = reader.by_ref().map(|record| record.unwrap().id).collect();
    assert_eq!(ids, ["1", "5"]);
    let problems: Vec<String> = reader.skipped().iter().map(Error::to_string).collect();
    let name = path.display();
    assert_eq!(problems[0], format!("{name}: row 2: `document` is not valid UTF-8 at byte 1"));
    assert_eq!(problems[1], format!("{name}: row 3: `references[1]` must be a string, found null"));
    assert!(problems[2].starts_with(&format!("{name}: row 4: no `document`")), "{}", problems[2]);
}

#[test]
fn columns_of_other_types_are_named() {
    let error = |column| {
        let columns = [("document", texts(&[Some("a")])), ("summary", column)];
        read(&parquet(&columns, (1, 1), PLAIN)).remove(0).unwrap_err().to_string()
    };
    assert!(error(Column::Numbers(vec![Some(3)])).contains("row 1: `summary` must be a string, found 3"));
    assert!(error(Column::TextLists(vec![Some(vec![])])).contains("`summary` must be a string, found a list"));
    let nothing = parquet(&[("text", texts(&[Some("a")]))], (1, 1), PLAIN);
    assert!(read(&nothing).remove(0).unwrap_err().to_string().contains("row 1: no `document`"));
}

#[test]
fn parquet_needs_a_file() {
    let bytes = parquet(&[("document", texts(&[Some("a")]))], (1, 1), PLAIN);
    let error = RecordReader::from_reader(std::io::Cursor::new(bytes), "<stdin>").err().unwrap().to_string();
    assert!(error.starts_with("<stdin>: Parquet can be read from a file only"), "{error}");
}

#[test]
fn damaged_files_give_one_error_that_names_them() {
    let long: String = (0..400).map(|word| format!("word {word} ")).collect();
    let columns = [
        ("document", texts(&[Some("first"), Some(&long), Some("third")])),
        ("references", Column::TextLists(vec![None, Some(vec![Some("x"), Some("y")]), None])),
    ];
    let bytes = parquet(&columns, (3, 2), Compression::SNAPPY);
    let mut random = Random(3);
    let mut failed = 0;
    for round in 0..2_000 {
        let mut damaged = bytes.clone();
        if round % 4 == 0 {
            damaged.truncate(5 + random.below(bytes.len() - 5));
        } else {
            damaged[4 + random.below(bytes.len() - 4)] ^= 1 << random.below(8);
        }
        let (_directory, path) = file(&damaged);
        let name = path.display().to_string();
        let error = match RecordReader::open(&path) {
            Err(error) => error,
            Ok(reader) => match reader.filter_map(Result::err).find(|error| !error.is_bad_record()) {
                Some(error) => error,
                None => continue,
            },
        };
        let message = error.to_string();
        assert!(message.starts_with(&name) && !message.contains('\n'), "{message}");
        failed += 1;
    }
    assert!(failed > 1_000, "{failed} of 2000");
}
