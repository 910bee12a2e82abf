//! Trains a tokenizer on files of records and measures training, encoding and decoding.
//!
//!     cargo run --release -p epitome-data --example tokenizer_speed -- VOCAB_SIZE OUTPUT_DIR RECORDS...
//!
//! Prints seconds, megabytes a second and, on Linux, the peak memory of the process so far.

use std::time::Instant;

use epitome_data::{RecordReader, Tokenizer, TrainerOptions};

/// Words of the long document whose encoding is timed.
const LONG_DOCUMENT_WORDS: usize = 200_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [vocab_size, output, records @ ..] = arguments.as_slice() else {
        return Err("usage: tokenizer_speed VOCAB_SIZE OUTPUT_DIR RECORDS...".into());
    };

    let start = Instant::now();
    let mut bytes = 0;
    let texts = RecordReader::open_all(records)?.flat_map(|record| match record {
        Ok(record) => record.into_texts().into_iter().map(Ok).collect::<Vec<_>>(),
        Err(error) => vec![Err(error)],
    });
    let texts = texts.inspect(|text| bytes += text.as_ref().map_or(0, String::len));
    let tokenizer = Tokenizer::train(texts, &TrainerOptions::new(vocab_size.parse()?))?;
    println!("trained {} entries on {bytes} bytes", tokenizer.vocab_size());
    report("training", start, bytes);
    tokenizer.save(output)?;

    let tokenizer = Tokenizer::load(output)?;
    let text = long_text(records)?;
    let start = Instant::now();
    let ids = tokenizer.encode_sequence(&text)?;
    report("encoding one long document", start, text.len());
    let start = Instant::now();
    let decoded = tokenizer.decode(&ids)?;
    report("decoding it", start, text.len());
    println!("{LONG_DOCUMENT_WORDS} words, {} tokens, round trip {}", ids.len(), decoded == text);
    Ok(())
}

fn long_text(records: &[String]) -> Result<String, Box<dyn std::error::Error>> {
    let mut text = String::new();
    let mut words = 0;
    for record in RecordReader::open_all(records)? {
        for document in record?.into_texts() {
            for word in document.split_inclusive(' ').take(LONG_DOCUMENT_WORDS - words) {
                words += 1;
                text.push_str(word);
            }
        }
        if words == LONG_DOCUMENT_WORDS {
            break;
        }
    }
    Ok(text)
}

fn report(what: &str, start: Instant, bytes: usize) {
    let seconds = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map_or("unknown", str::trim);
    println!("{what}: {seconds:.2} s, {:.1} MB/s, peak memory {peak}", bytes as f64 / 1e6 / seconds);
}
