//! Passages of documents, and where the tokens of a text lie.

use crate::support::{Random, fixture, record, sample, small_tokenizer};
use epitome_data::{Error, Passage, Record, Source, Tokenizer, read_document};
use serde_json::json;

fn slice(text: &str, passage: &Passage) -> String {
    text.chars().skip(passage.characters.start).take(passage.characters.len()).collect()
}

fn letters(text: &str) -> String {
    text.split_whitespace().collect()
}

/// The source of documents, whose passages are checked to be parts of them, in order, and of the tokens between.
#[track_caller]
fn checked(tokenizer: &Tokenizer, json: serde_json::Value, limit: Option<usize>) -> Source {
    let record = record(&json.to_string());
    let source = Source::with_passages(&record, Some(tokenizer), limit).unwrap();
    let plain = Source::new(&record, Some(tokenizer), limit).unwrap();
    let passages = source.passages.clone().unwrap();
    assert_eq!(Source { passages: None, ..source.clone() }, plain);
    let texts: Vec<String> = match json.get("documents") {
        Some(texts) => serde_json::from_value(texts.clone()).unwrap(),
        None => vec![json["document"].as_str().unwrap().to_owned()],
    };
    let mut end = source.leading_tokens;
    for passage in &passages {
        let text = &texts[passage.document.unwrap_or(0)];
        assert_eq!(slice(text, passage), passage.text);
        assert_eq!(passage.document.is_some(), texts.len() > 1);
        assert_eq!(passage.text.trim(), passage.text);
        assert!(!passage.text.is_empty());
        assert!(end <= passage.tokens.start && passage.tokens.start < passage.tokens.end, "{passages:?}");
        assert!(!source.global_positions.iter().any(|position| passage.tokens.contains(position)));
        end = passage.tokens.end;
    }
    assert!(end < source.input_ids.len());
    for pair in passages.windows(2).filter(|pair| pair[0].document == pair[1].document) {
        assert!(pair[0].characters.end <= pair[1].characters.start, "{passages:?}");
    }
    source
}

fn texts(source: &Source) -> Vec<&str> {
    source.passages.iter().flatten().map(|passage| passage.text.as_str()).collect()
}

#[test]
fn passages_cover_hostile_text_with_right_offsets() {
    let tokenizer = small_tokenizer();
    let mut random = Random(12);
    for _ in 0..300 {
        let text = random.text(200);
        let source = checked(&tokenizer, json!({"document": text}), None);
        assert_eq!(letters(&texts(&source).concat()), letters(&text), "{text:?}");
        let limit = 2 + random.below(40);
        let cut = checked(&tokenizer, json!({"document": text}), Some(limit));
        let joined = letters(&texts(&cut).concat());
        assert!(letters(&text).starts_with(&joined), "{text:?} cut to {limit}: {joined:?}");
    }
}

#[test]
fn a_real_document_is_in_sentences() {
    let tokenizer = small_tokenizer();
    let text = read_document(sample("elife-06664.txt")).unwrap();
    let source = checked(&tokenizer, json!({"document": text}), None);
    assert_eq!(letters(&texts(&source).concat()), letters(&text));
    let passages = source.passages.unwrap();
    let tokens: usize = passages.iter().map(|passage| passage.tokens.len()).sum();
    assert_eq!(tokens + 2, source.input_ids.len());
    let ends = passages.iter().filter(|passage| passage.text.ends_with(['.', '?', ')'])).count();
    assert!(ends * 10 > passages.len() * 8, "{ends} of {} end a sentence", passages.len());
}

#[test]
fn short_sentences_are_joined_and_endless_ones_cut() {
    let tokenizer = small_tokenizer();
    let sentence = "The second sentence has quite a number of words, more than sixteen tokens of a small vocabulary.";
    let text = format!("Heading\n\n{sentence} Short. {sentence} End.");
    let source = checked(&tokenizer, json!({"document": text}), None);
    assert_eq!(texts(&source), [&format!("Heading\n\n{sentence}"), &format!("Short. {sentence}"), "End."]);
    let endless = "number 42 ".repeat(300);
    let source = checked(&tokenizer, json!({"document": endless}), None);
    let passages = source.passages.as_ref().unwrap();
    assert!(passages.len() > 2);
    assert!(passages.iter().all(|passage| passage.tokens.len() < 140 && passage.text.ends_with(['2', 'r'])));
}

#[test]
fn several_documents_separators_and_a_query() {
    for tokenizer in [small_tokenizer(), Tokenizer::load(fixture("document_separator")).unwrap()] {
        let json = json!({"documents": ["Ünë.", "", "Zwei 😀 <doc-sep> drei. ", " "], "query": "What? Is it?"});
        let source = checked(&tokenizer, json, None);
        let separated = tokenizer.special_tokens().document_separator.is_some();
        let wanted = if separated {
            vec![(0, "Ünë."), (2, "Zwei 😀"), (2, "drei.")]
        } else {
            vec![(0, "Ünë."), (2, "Zwei 😀 <doc-sep> drei.")]
        };
        let passages = source.passages.unwrap();
        let found: Vec<_> = passages.iter().map(|one| (one.document.unwrap(), one.text.as_str())).collect();
        assert_eq!(found, wanted);
    }
    let source = checked(&small_tokenizer(), json!({"document": " \n "}), None);
    assert_eq!(source.passages, Some(Vec::new()));
    let source = checked(&small_tokenizer(), json!({"document": "One. </s> Two</s></s>"}), None);
    assert_eq!(texts(&source), ["One.", "Two"], "the end token of a text is in no passage");
}

#[test]
fn token_ids_have_no_passages() {
    let record: Record = record(r#"{"id": "ids", "input_ids": [0, 5, 2]}"#);
    let error = Source::with_passages(&record, Some(&small_tokenizer()), None).unwrap_err();
    assert!(matches!(error, Error::NoPassages { .. }));
    let message = error.to_string();
    assert!(message.contains("records.jsonl:7") && message.contains("`ids`"), "{message}");
    assert!(message.contains("--attribute") && message.contains("--extractive=false"), "{message}");
}

#[test]
fn tokens_end_where_their_text_does() {
    let tokenizer = small_tokenizer();
    let mut random = Random(77);
    for _ in 0..300 {
        let text = random.text(30);
        let mut ids = tokenizer.encode_sequence(&text).unwrap();
        // Sometimes a summary that is cut within a character.
        ids.truncate(ids.len() - random.below(2) * random.below(ids.len()));
        let (decoded, ends) = tokenizer.decode_with_ends(&ids).unwrap();
        assert_eq!(decoded, tokenizer.decode(&ids).unwrap());
        assert_eq!(ends.len(), ids.len());
        let mut before = 0;
        for (index, end) in ends.iter().enumerate() {
            assert_eq!(end.is_none(), matches!(ids[index], 0 | 2), "{text:?}");
            let Some(end) = *end else { continue };
            assert!(before <= end && decoded.is_char_boundary(end));
            let prefix = tokenizer.decode(&ids[..=index]).unwrap();
            let whole = prefix.trim_end_matches('\u{FFFD}');
            assert!(end >= whole.len() && decoded[..end].starts_with(whole), "{text:?} at {index}");
            before = end;
        }
        assert_eq!(before, decoded.len());
    }
}
