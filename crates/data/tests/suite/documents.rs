//! Plain-text documents: encodings, compression and files that are not text.

use std::io::Write;

use crate::support::sample;
use epitome_data::{Result, read_document};

fn document(bytes: &[u8]) -> Result<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("doc.txt");
    std::fs::write(&path, bytes).unwrap();
    read_document(&path)
}

#[track_caller]
fn refused(bytes: &[u8], expected: &str) {
    let message = document(bytes).unwrap_err().to_string();
    assert!(message.contains("doc.txt: ") && message.contains(expected), "{message:?} does not say {expected:?}");
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

const TEXT: &str = "Grüße, 日本 😀\r\n\tsecond line\n";

#[test]
fn utf8_with_and_without_mark() {
    assert_eq!(document(TEXT.as_bytes()).unwrap(), TEXT);
    assert_eq!(document(format!("\u{feff}{TEXT}").as_bytes()).unwrap(), TEXT);
    assert_eq!(document(b"").unwrap(), "");
    assert_eq!(document(b"\xef\xbb\xbf").unwrap(), "");
}

#[test]
fn utf16_of_both_orders() {
    let marked = format!("\u{feff}{TEXT}");
    assert_eq!(document(&utf16(&marked, u16::to_le_bytes)).unwrap(), TEXT);
    assert_eq!(document(&utf16(&marked, u16::to_be_bytes)).unwrap(), TEXT);
}

#[test]
fn compressed_documents() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(TEXT.as_bytes()).unwrap();
    assert_eq!(document(&gzip.finish().unwrap()).unwrap(), TEXT);
    let zstd = zstd::encode_all(TEXT.as_bytes(), 3).unwrap();
    assert_eq!(document(&zstd).unwrap(), TEXT);
    refused(&zstd[..zstd.len() - 2], "the zstd data is truncated");
}

#[test]
fn wrong_bytes_are_named() {
    refused(b"abc\xffdef", "not valid UTF-8 at byte 3;");
    refused(b"\xef\xbb\xbfab\xc3", "not valid UTF-8 at byte 5;");
    // "a", then half a surrogate pair, then "b".
    refused(b"\xff\xfea\0\x3d\xd8b\0", "not valid UTF-16LE at byte 4;");
    refused(b"\xfe\xff\0a\0", "not valid UTF-16BE at byte 4;");
    refused("caf\u{e9}".chars().map(|c| c as u8).collect::<Vec<u8>>().as_slice(), "not valid UTF-8 at byte 3;");
}

#[test]
fn files_that_are_not_text() {
    refused(b"text\0with NUL", "not a text file (it holds NUL bytes)");
    refused(&utf16("\u{feff}a\0b", u16::to_le_bytes), "not a text file (it holds NUL characters)");
    refused(b"%PDF-1.7\n%\xe2\xe3", "PDF");
    refused(b"PK\x03\x04\x14\0", "zip archive");
    refused(b"\x7fELF\x02\x01\x01\0", "not a text file");
}

#[test]
fn missing_document() {
    let message = read_document("no/such/document.txt").unwrap_err().to_string();
    assert!(message.starts_with("cannot open no/such/document.txt: "), "{message}");
}

#[test]
fn sample_documents_are_readable_and_one_is_long() {
    let mut longest = 0;
    let mut count = 0;
    for entry in std::fs::read_dir(sample("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let words = read_document(&path).unwrap().split_whitespace().count();
            assert!(words > 1_000, "{} has {words} words", path.display());
            longest = longest.max(words);
            count += 1;
        }
    }
    assert!(count >= 4 && longest >= 10_000, "{count} documents, the longest of {longest} words");
}

#[test]
fn records_are_told_by_their_name() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a.jsonl", "a.JSONL", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"] {
        let path = directory.path().join(name);
        std::fs::write(&path, r#"{"document": "words"}"#).unwrap();
        let message = read_document(&path).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("--input"), "{message}");
    }
    let text = directory.path().join("jsonl.txt");
    std::fs::write(&text, "about JSON Lines").unwrap();
    assert_eq!(read_document(&text).unwrap(), "about JSON Lines");
}
