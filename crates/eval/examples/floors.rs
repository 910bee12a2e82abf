//! The lead and tail baselines of a data set: what any model has to beat.
//!
//!     zstd -dc test.jsonl.zst | cargo run --release -p epitome-eval --example floors -- [newline|period] [RECORDS]
//!
//! Reads JSON Lines from standard input, with `id`, `document` or `documents`, and `summary` or `references`; splits
//! sentences of the references as told (`period` by default) and stops after that many records.

use std::error::Error;
use std::io::{self, BufRead};

use epitome_eval::{Options, Reference, SentenceSplit, baselines};
use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let sentence_split = arguments.next().map_or(Ok(SentenceSplit::Period), |name| name.parse())?;
    let limit = arguments.next().map_or(Ok(usize::MAX), |number| number.parse())?;
    let options = Options { sentence_split, bootstrap: 0, ..Options::default() };
    let mut references = Vec::new();
    for line in io::stdin().lock().lines().take(limit) {
        references.push(reference(&serde_json::from_str(&line?)?));
    }
    for baseline in baselines(&references, &options)? {
        let scores = baseline.scores.0.iter();
        let scores = scores.map(|(metric, scores)| format!("{metric} {:.1}", 100.0 * scores.f1.mean));
        println!("{}, {} words: {}", baseline.name, baseline.words, scores.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}

fn reference(record: &Value) -> Reference {
    let texts = |field: &str| -> Option<Vec<String>> {
        let texts = record[field].as_array()?.iter();
        Some(texts.filter_map(Value::as_str).map(str::to_owned).collect())
    };
    let text = |field: &str| record[field].as_str().map(str::to_owned);
    Reference {
        id: text("id").unwrap_or_default(),
        references: texts("references").unwrap_or_else(|| text("summary").into_iter().collect()),
        document: text("document").or_else(|| Some(texts("documents")?.join("\n"))),
    }
}
