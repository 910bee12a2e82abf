//! What the references of a data set are like: the values to hold a system's summaries against.
//!
//!     zstd -dc test.jsonl.zst | cargo run --release -p epitome-eval --example characteristics
//!
//! Reads JSON Lines from standard input, with `document` or `documents`, and `summary` or `references`, and prints the
//! profile as JSON.

use std::error::Error;
use std::io;

use epitome_eval::{Characteristics, Profiler, SourceDocument};
use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let mut profiler = Profiler::default();
    for line in io::stdin().lines() {
        let record: Value = serde_json::from_str(&line?)?;
        let text = |field: &str| record[field].as_str().map(str::to_owned);
        let texts = |field: &str| -> Option<Vec<String>> {
            let texts = record[field].as_array()?.iter();
            Some(texts.filter_map(Value::as_str).map(str::to_owned).collect())
        };
        let references = texts("references").unwrap_or_else(|| text("summary").into_iter().collect());
        let document = text("document").or_else(|| Some(texts("documents")?.join("\n")));
        let document = document.as_deref().map(SourceDocument::new);
        profiler.add(&Characteristics::of_references(&references, document.as_ref()));
    }
    println!("{}", serde_json::to_string_pretty(&profiler.profile(1000, 0))?);
    Ok(())
}
