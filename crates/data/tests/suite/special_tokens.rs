//! Special tokens that files beside the vocabulary name, with the ids that `transformers` 4.57.6 gives them.

use std::fs;
use std::path::Path;

use crate::support::fixture;
use epitome_data::Tokenizer;
use serde_json::{Value, json};

const TOKENIZER_JSON: &[&str] = &["tokenizer/tokenizer.json"];
const VOCAB_AND_MERGES: &[&str] = &["vocab_and_merges/vocab.json", "vocab_and_merges/merges.txt"];
const SEPARATOR: &str = "<doc-sep>";

fn separator() -> Value {
    json!({ "content": SEPARATOR, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true })
}

/// The tokenizer of a directory with some files of the fixtures and others of the given contents.
fn load(vocabulary: &[&str], files: &[(&str, Value)]) -> Tokenizer {
    let directory = tempfile::tempdir().unwrap();
    for path in vocabulary {
        fs::copy(fixture(path), directory.path().join(Path::new(path).file_name().unwrap())).unwrap();
    }
    for (name, content) in files {
        fs::write(directory.path().join(name), content.to_string()).unwrap();
    }
    Tokenizer::load(directory.path()).unwrap()
}

/// The separator has an id of its own, the next one, in both forms of a vocabulary; and decoding leaves it out or not.
#[track_caller]
fn adds(files: &[(&str, Value)], special: bool) {
    for vocabulary in [TOKENIZER_JSON, VOCAB_AND_MERGES] {
        let tokenizer = load(vocabulary, files);
        assert_eq!(tokenizer.special_tokens().document_separator, Some(700), "{vocabulary:?}");
        assert_eq!(tokenizer.vocab_size(), 701);
        assert_eq!(tokenizer.ordinary_vocab_size() < 701, special);
        assert!(tokenizer.encode("a <doc-sep> b").unwrap().contains(&700));
        assert_eq!(tokenizer.decode(&[700]).unwrap(), if special { "" } else { SEPARATOR });
    }
}

#[track_caller]
fn ignores(files: &[(&str, Value)]) {
    for vocabulary in [TOKENIZER_JSON, VOCAB_AND_MERGES] {
        let tokenizer = load(vocabulary, files);
        assert_eq!(tokenizer.special_tokens().document_separator, None, "{vocabulary:?}");
        assert_eq!(tokenizer.vocab_size(), 700);
    }
}

#[test]
fn additional_special_tokens_of_the_config() {
    adds(&[("tokenizer_config.json", json!({ "additional_special_tokens": [SEPARATOR] }))], true);
    let config = json!({ "additional_special_tokens": [SEPARATOR], "added_tokens_decoder": {} });
    adds(&[("tokenizer_config.json", config)], true);
}

#[test]
fn additional_special_tokens_of_the_map() {
    let map = ("special_tokens_map.json", json!({ "additional_special_tokens": [SEPARATOR] }));
    adds(std::slice::from_ref(&map), true);
    let other = json!({ "additional_special_tokens": ["<other>"] });
    let both = load(TOKENIZER_JSON, &[map.clone(), ("tokenizer_config.json", other)]);
    assert_eq!([both.token_to_id("<other>"), both.token_to_id(SEPARATOR)], [Some(700), Some(701)]);
    // A config that lists all added tokens makes the map unread.
    ignores(&[map, ("tokenizer_config.json", json!({ "added_tokens_decoder": {} }))]);
}

#[test]
fn added_tokens_decoder_of_the_config() {
    adds(&[("tokenizer_config.json", json!({ "added_tokens_decoder": { "700": separator() } }))], true);
}

#[test]
fn added_tokens_file_unless_the_config_lists_them() {
    let file = ("added_tokens.json", json!({ SEPARATOR: 700 }));
    adds(std::slice::from_ref(&file), false);
    adds(&[file.clone(), ("tokenizer_config.json", json!({}))], false);
    let map = ("special_tokens_map.json", json!({ "additional_special_tokens": [SEPARATOR] }));
    adds(&[file.clone(), map], true);
    ignores(&[file, ("tokenizer_config.json", json!({ "added_tokens_decoder": {} }))]);
}

#[test]
fn mask_that_the_vocabulary_lacks() {
    let mut vocab: Value = serde_json::from_slice(&fs::read(fixture("vocab_and_merges/vocab.json")).unwrap()).unwrap();
    let removed = vocab.as_object_mut().unwrap().remove("<mask>");
    assert_eq!(removed, Some(json!(699)));
    let tokenizer = load(&["vocab_and_merges/merges.txt"], &[("vocab.json", vocab)]);
    assert_eq!(tokenizer.special_tokens().mask, Some(699));
    assert_eq!(tokenizer.encode("a <mask>").unwrap(), [tokenizer.token_to_id("a").unwrap(), 699]);
}

#[test]
fn added_token_without_content() {
    let directory = tempfile::tempdir().unwrap();
    fs::copy(fixture("tokenizer/tokenizer.json"), directory.path().join("tokenizer.json")).unwrap();
    let config = json!({ "added_tokens_decoder": { "700": { "lstrip": true } } });
    fs::write(directory.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let message = Tokenizer::load(directory.path()).unwrap_err().to_string();
    assert!(message.contains("tokenizer_config.json") && message.contains("`700`"), "{message}");
}
