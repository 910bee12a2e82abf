//! What the page shows of one record.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Serialize;

use super::attribution::{Joined, Sentence, sentences};
use super::base64::write_base64;
use super::offsets::Offsets;
use crate::{Prediction, Reference, SourceDocument};

/// One record as the page's script reads it: JSON, as raw DEFLATE (RFC 1951).
#[derive(Clone, PartialEq)]
pub(crate) struct ShownRecord {
    deflated: Vec<u8>,
}

/// All offsets are UTF-16 code units.
#[derive(Serialize)]
struct Record<'a> {
    /// All documents, joined by line breaks.
    document: &'a str,
    /// Where each document starts.
    starts: Vec<usize>,
    references: Vec<Text<'a>>,
    systems: Vec<Text<'a>>,
}

/// A summary or reference.
#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
    /// Start and end of what is copied, and start and end of its source in the document.
    copied: Vec<[usize; 4]>,
    sentences: Vec<Sentence>,
    is_cut: bool,
}

impl ShownRecord {
    /// `document` is made of the documents of `reference`.
    pub(crate) fn new(reference: &Reference, predictions: &[Prediction], document: Option<&SourceDocument>) -> Self {
        let joined = reference.document().unwrap_or_default();
        let source = Source { document, offsets: Offsets::new(&joined), documents: documents(&reference.documents) };
        let references = reference.references.iter().map(|text| source.text(text, &Prediction::default()));
        let systems = predictions.iter().map(|prediction| source.text(&prediction.summary, prediction));
        let record = Record {
            document: &joined,
            starts: source.documents.iter().filter_map(|&(first, _)| source.offsets.of_character(first)).collect(),
            references: references.collect(),
            systems: systems.collect(),
        };
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        serde_json::to_writer(&mut encoder, &record).expect("strings and numbers always serialize into memory");
        Self { deflated: encoder.finish().expect("memory can be written") }
    }

    /// Writes the record in base64.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write_base64(&self.deflated, out)
    }
}

impl std::fmt::Debug for ShownRecord {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "ShownRecord({} bytes)", self.deflated.len())
    }
}

/// What the texts of a record are compared with.
struct Source<'a> {
    document: Option<&'a SourceDocument>,
    offsets: Offsets,
    /// First character and one behind the last of each document.
    documents: Vec<(usize, usize)>,
}

impl Source<'_> {
    fn text<'a>(&self, text: &'a str, prediction: &Prediction) -> Text<'a> {
        let offsets = Offsets::new(text);
        let alignments = self.document.map_or_else(Vec::new, |document| document.alignments(text));
        let copied = alignments.iter().map(|found| {
            let (summary, document) = (&found.summary, &found.document);
            let [start, end] = [summary.start, summary.end].map(|byte| offsets.of_byte(byte));
            let [from, to] = [document.start, document.end].map(|byte| self.offsets.of_byte(byte));
            [start, end, from, to]
        });
        let joined = Joined { offsets: &self.offsets, documents: &self.documents };
        let attribution = prediction.attribution.as_ref();
        Text {
            text,
            copied: copied.collect(),
            sentences: attribution.map_or_else(Vec::new, |found| sentences(found, &offsets, &joined)),
            is_cut: prediction.is_cut == Some(true),
        }
    }
}

/// First character and one behind the last of each of `documents`, joined by line breaks.
fn documents(documents: &[String]) -> Vec<(usize, usize)> {
    let mut next = 0;
    let place = |document: &String| {
        let first = next;
        next += document.chars().count() + 1;
        (first, next - 1)
    };
    documents.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::DeflateDecoder;
    use serde_json::{Value, json};

    use super::*;

    fn shown(reference: &Reference, predictions: &[Prediction]) -> Value {
        let document = reference.document();
        let document = document.as_deref().map(SourceDocument::new);
        let record = ShownRecord::new(reference, predictions, document.as_ref());
        let mut text = String::new();
        DeflateDecoder::new(record.deflated.as_slice()).read_to_string(&mut text).expect("raw DEFLATE of UTF-8");
        serde_json::from_str(&text).expect("JSON")
    }

    #[test]
    fn offsets_are_code_units() {
        let reference = Reference {
            id: "a".into(),
            references: vec!["A dog.".into()],
            documents: vec!["\u{1F600} first </script>".into(), "\u{1F600} The cat sat down.".into()],
        };
        let prediction = Prediction {
            id: "a".into(),
            summary: "\u{1D54F}: the cat sat".into(),
            is_cut: Some(true),
            attribution: Some(json!([{"start": 3, "end": 14, "passages": [
                {"document": 1, "start": 2, "end": 9, "weight": 0.5}
            ]}])),
        };
        let json = shown(&reference, &[prediction]);
        assert_eq!(json["document"], "\u{1F600} first </script>\n\u{1F600} The cat sat down.");
        assert_eq!(json["starts"], json!([0, 19]));
        assert_eq!(json["references"], json!([{"text": "A dog.", "copied": [], "sentences": [], "is_cut": false}]));
        let system = &json["systems"][0];
        assert_eq!((&system["copied"], &system["is_cut"]), (&json!([[4, 15, 22, 33]]), &json!(true)));
        let passage = json!({"start": 22, "end": 29, "weight": 0.5, "overlap": null});
        assert_eq!(system["sentences"], json!([{"start": 4, "end": 15, "passages": [passage], "best_overlap": null}]));
        let units: Vec<u16> = json["document"].as_str().expect("a text").encode_utf16().collect();
        assert_eq!(String::from_utf16(&units[22..33]).expect("whole characters"), "The cat sat");
    }

    #[test]
    fn without_documents_there_are_texts_only() {
        let reference = Reference { id: "a".into(), references: vec!["x".into(), String::new()], documents: vec![] };
        let attribution = Some(json!([{"start": 0, "end": 1, "passages": [{"start": 0, "end": 1}]}]));
        let json = shown(&reference, &[Prediction { summary: "y".into(), attribution, ..Prediction::default() }]);
        assert_eq!((&json["document"], &json["starts"]), (&json!(""), &json!([])));
        assert_eq!(json["references"].as_array().map(Vec::len), Some(2));
        assert_eq!(json["systems"][0]["sentences"][0]["passages"], json!([]));
    }
}
