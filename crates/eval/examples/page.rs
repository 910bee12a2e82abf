//! A report to look at: the beginnings and ends of documents as the summaries of two systems.
//!
//!     zstd -dc test.jsonl.zst | cargo run --release -p epitome-eval --example page -- DIRECTORY [RECORDS]
//!
//! Reads JSON Lines from standard input, with `id`, `document` or `documents`, and `summary` or `references`, and writes the
//! files of the report into the directory. The sentences of the first system come with made-up attributions.

use std::error::Error;
use std::io::{self, BufRead};
use std::path::PathBuf;

use epitome_eval::{Options, Prediction, Predictions, Reference, evaluate_streams};
use epitome_sentences::sentences;
use serde_json::{Value, json};

/// Words of a summary.
const WORDS: usize = 150;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("a directory is missing")?);
    let limit = arguments.next().map_or(Ok(usize::MAX), |number| number.parse())?;
    let mut references = Vec::new();
    for line in io::stdin().lock().lines().take(limit) {
        references.push(reference(&serde_json::from_str(&line?)?));
    }
    let system = |name: &str, summarize: fn(&Reference) -> Prediction| Predictions {
        name: name.to_owned(),
        stream: Box::new(references.iter().map(summarize).map(Ok).collect::<Vec<_>>().into_iter()),
    };
    let systems = vec![system("beginning", beginning), system("end", end)];
    let open = || Ok(Box::new(references.iter().cloned().map(Ok)) as Box<dyn Iterator<Item = _> + Send>);
    evaluate_streams(systems, &open, &Options::default())?.write(&directory)?;
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
        documents: texts("documents").unwrap_or_else(|| text("document").into_iter().collect()),
    }
}

/// The first sentences of the first document, each with itself and the next one as passages.
fn beginning(reference: &Reference) -> Prediction {
    let document = reference.documents.first().map_or("", String::as_str);
    let all = sentences(document);
    let mut taken = 0;
    let chosen = all.iter().take_while(|sentence| {
        let before = taken;
        taken += sentence.split_whitespace().count();
        before < WORDS
    });
    let chosen: Vec<&str> = chosen.copied().collect();
    let characters = |text: &str| text.chars().count();
    let place = |text: &str| document.find(text).map(|byte| characters(&document[..byte]));
    let mut start = 0;
    let attribution: Vec<Value> = chosen
        .iter()
        .enumerate()
        .map(|(index, sentence)| {
            let passage = |text: &str, weight: f64| {
                let start = place(text)?;
                Some(json!({"start": start, "end": start + characters(text), "weight": weight, "overlap": 0.5, "text": text}))
            };
            let next = all.get(index + 1).and_then(|next| passage(next, 0.12));
            let passages: Vec<Value> = passage(sentence, 0.61).into_iter().chain(next).collect();
            let from = start;
            start += characters(sentence) + 1;
            json!({"sentence": sentence, "start": from, "end": start - 1, "passages": passages})
        })
        .collect();
    Prediction {
        id: reference.id.clone(),
        summary: chosen.join(" "),
        is_cut: Some(false),
        attribution: Some(Value::Array(attribution)),
    }
}

/// The last words of the last document.
fn end(reference: &Reference) -> Prediction {
    let document = reference.documents.last().map_or("", String::as_str);
    let words: Vec<&str> = document.split_whitespace().collect();
    let summary = words[words.len().saturating_sub(WORDS)..].join(" ");
    Prediction { id: reference.id.clone(), summary, is_cut: Some(true), attribution: None }
}
