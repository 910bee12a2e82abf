//! Memory does not grow with the data set. A program of its own, so that nothing else counts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};

use epitome_data::{ExampleSource, FieldNames, Limits, Targets, TokenCache};

const EXAMPLES: usize = 200_000;
const TOKENS: usize = 64;

/// The most memory this process has had, in bytes, where the system tells.
fn peak() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? * 1024)
}

#[test]
fn a_large_store_takes_a_few_bytes_an_example() {
    let Some(before) = peak() else { return };
    let directory = tempfile::tempdir().unwrap();
    let records = directory.path().join("records.jsonl");
    let mut file = BufWriter::new(File::create(&records).unwrap());
    for number in 0..EXAMPLES {
        let ids: Vec<String> = (0..TOKENS).map(|place| ((number * 31 + place * 7) % 50_000).to_string()).collect();
        writeln!(file, "{{\"input_ids\": [{}], \"labels\": [0, {number}, 2]}}", ids.join(",")).unwrap();
    }
    file.into_inner().unwrap();
    let source = ExampleSource {
        skip_bad_records: false,
        paths: &[records.to_str().unwrap().to_owned()],
        fields: &FieldNames::default(),
        max_records: None,
        tokenizer: None,
        limits: Limits::default(),
        targets: Targets::Required,
    };
    let cache = directory.path().join("cache");
    let store = TokenCache::new(Some(&cache)).examples(&source).unwrap().examples;
    let stored: u64 = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    let (made, mut index) = (peak().unwrap(), 0);
    for _ in 0..EXAMPLES {
        // A step that shares no factor with the number of examples reaches all of them, out of order.
        index = (index + 77_777) % EXAMPLES;
        let example = store.get(index).unwrap();
        assert_eq!((example.labels[1], example.input_ids.len()), (index as i64, TOKENS));
    }
    let read = peak().unwrap();
    let mib = |bytes: usize| bytes / (1 << 20);
    println!(
        "{EXAMPLES} examples in {} MiB: {} MiB before, {} after making, {} after reading all",
        mib(stored as usize),
        mib(before),
        mib(made),
        mib(read)
    );
    assert!(stored > 60 << 20, "{stored}");
    assert!(read - before < 24 << 20, "{} MiB more", mib(read - before));
}
