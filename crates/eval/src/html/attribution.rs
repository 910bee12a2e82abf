//! The passages that the sentences of a summary rest on.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::offsets::Offsets;

/// A sentence and its passages in UTF-16 code units, as the page's script reads them.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Sentence {
    start: usize,
    end: usize,
    passages: Vec<Passage>,
    /// The passage that has the most words in common with the sentence.
    best_overlap: Option<Passage>,
}

/// A part of the documents joined by line breaks.
#[derive(Debug, PartialEq, Serialize)]
struct Passage {
    start: usize,
    end: usize,
    weight: Option<f64>,
    overlap: Option<f64>,
}

/// As `epitome decode --attribute` writes it: offsets in characters, those of passages into their own document.
#[derive(Deserialize)]
struct Given {
    start: usize,
    end: usize,
    #[serde(default)]
    passages: Vec<GivenPassage>,
    best_overlap: Option<GivenPassage>,
}

#[derive(Deserialize)]
struct GivenPassage {
    #[serde(default)]
    document: usize,
    start: usize,
    end: usize,
    weight: Option<f64>,
    overlap: Option<f64>,
}

/// The documents of a record, joined by line breaks.
pub(super) struct Joined<'a> {
    pub(super) offsets: &'a Offsets,
    /// First character and one behind the last of each document.
    pub(super) documents: &'a [(usize, usize)],
}

/// The sentences of an attribution, in order. What does not have the form, lies outside of the texts or overlaps the sentence
/// before is left out: predictions may come from anywhere.
pub(super) fn sentences(attribution: &Value, summary: &Offsets, joined: &Joined<'_>) -> Vec<Sentence> {
    let given = attribution.as_array().into_iter().flatten().filter_map(|value| Given::deserialize(value).ok());
    let mut sentences: Vec<Sentence> = Vec::new();
    for given in given {
        let range = summary.of_character(given.start).zip(summary.of_character(given.end));
        let after = sentences.last().map_or(0, |last| last.end);
        if let Some((start, end)) = range
            && after <= start
            && start < end
        {
            let passages = given.passages.iter().filter_map(|passage| joined.passage(passage)).collect();
            let best_overlap = given.best_overlap.and_then(|passage| joined.passage(&passage));
            sentences.push(Sentence { start, end, passages, best_overlap });
        }
    }
    sentences
}

impl Joined<'_> {
    fn passage(&self, given: &GivenPassage) -> Option<Passage> {
        let &(first, last) = self.documents.get(given.document)?;
        let place = |character: usize| {
            let character = first.checked_add(character).filter(|&character| character <= last)?;
            self.offsets.of_character(character)
        };
        let (start, end) = (place(given.start)?, place(given.end)?);
        (start < end).then_some(Passage { start, end, weight: given.weight, overlap: given.overlap })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(attribution: &Value) -> Vec<Sentence> {
        // Two documents of 4 and 5 characters, the first of which takes 5 code units.
        let (summary, document) = (Offsets::new("\u{1F600}b. cd."), Offsets::new("a\u{1F600}cd\nefghi"));
        sentences(attribution, &summary, &Joined { offsets: &document, documents: &[(0, 4), (5, 10)] })
    }

    #[test]
    fn offsets_become_code_units_of_the_joined_documents() {
        let attribution = json!([
            {"sentence": "\u{1F600}b.", "start": 0, "end": 3, "passages": [
                {"document": 1, "start": 1, "end": 5, "weight": 0.5, "overlap": 0.25, "text": "fghi"},
                {"start": 1, "end": 4, "weight": 0.25}
            ]},
            {"start": 4, "end": 7, "best_overlap": {"start": 0, "end": 1, "overlap": 1}}
        ]);
        let passage = |start, end, weight, overlap| Passage { start, end, weight, overlap };
        let expected = [
            Sentence {
                start: 0,
                end: 4,
                passages: vec![passage(7, 11, Some(0.5), Some(0.25)), passage(1, 5, Some(0.25), None)],
                best_overlap: None,
            },
            Sentence { start: 5, end: 8, passages: vec![], best_overlap: Some(passage(0, 1, None, Some(1.0))) },
        ];
        assert_eq!(found(&attribution), expected);
    }

    #[test]
    fn what_is_malformed_is_left_out() {
        for attribution in [
            json!("text"),
            json!({"start": 0, "end": 2}),
            json!([1, null, {"start": -1, "end": 2}, {"start": 2, "end": 1}, {"start": 0, "end": 8}, {"end": 1}]),
            json!([{"start": 0, "end": 1, "passages": "many"}]),
        ] {
            assert_eq!(found(&attribution), [], "{attribution}");
        }
        let far = json!([{"start": 0, "end": 3, "passages": [
            {"document": 2, "start": 0, "end": 1}, {"start": 3, "end": 5}, {"start": 1, "end": 1},
            {"start": 1, "end": u64::MAX}
        ]}, {"start": 2, "end": 4}]);
        let expected = [Sentence { start: 0, end: 4, passages: vec![], best_overlap: None }];
        assert_eq!(found(&far), expected, "passages outside of their document, and a sentence that begins in another");
    }
}
