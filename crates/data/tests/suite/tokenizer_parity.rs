//! The same ids and the same texts as `transformers`' LEDTokenizerFast; `fixtures/make.py` says how they were made.

use crate::support::{Random, fixture, small_tokenizer};
use epitome_data::Tokenizer;
use serde_json::Value;

fn cases(name: &str) -> Value {
    let all = std::fs::read(fixture("tokenizer_cases.json")).unwrap();
    let all: Value = serde_json::from_slice(&all).unwrap();
    match all[name]["same_as"].as_str() {
        Some(other) => all[other].clone(),
        None => all[name].clone(),
    }
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

#[track_caller]
fn check(name: &str) {
    let tokenizer = Tokenizer::load(fixture(name)).unwrap();
    let cases = cases(name);
    let (encode, decode) = (cases["encode"].as_array().unwrap(), cases["decode"].as_array().unwrap());
    assert!(encode.len() > 150 && decode.len() > 300, "{} and {} cases", encode.len(), decode.len());
    for case in encode {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode_sequence(text).unwrap(), ids(&case["ids"]), "{name}: ids of {text:?}");
    }
    for case in decode {
        let ids = ids(&case["ids"]);
        assert_eq!(tokenizer.decode(&ids).unwrap(), case["text"], "{name}: text of {ids:?}");
        let with_special = tokenizer.decode_with_special_tokens(&ids).unwrap();
        assert_eq!(with_special, case["with_special"], "{name}: text of {ids:?} with special tokens");
    }
}

#[test]
fn tokenizer_json() {
    check("tokenizer");
}

#[test]
fn vocab_and_merges() {
    check("vocab_and_merges");
}

#[test]
fn document_separator_in_added_tokens() {
    check("document_separator");
    let tokenizer = Tokenizer::load(fixture("document_separator")).unwrap();
    assert_eq!(tokenizer.special_tokens().document_separator, Some(700));
    assert_eq!(tokenizer.vocab_size(), 701);
}

#[test]
fn special_tokens_have_leds_ids() {
    for name in ["tokenizer", "vocab_and_merges"] {
        let tokenizer = Tokenizer::load(fixture(name)).unwrap();
        let special = tokenizer.special_tokens();
        assert_eq!((special.bos, special.pad, special.eos), (0, 1, 2));
        assert_eq!((special.unk, special.mask, special.document_separator), (Some(3), Some(699), None));
        assert_eq!(tokenizer.vocab_size(), 700);
        assert_eq!(tokenizer.token_to_id("<mask>"), Some(699));
        assert_eq!(tokenizer.id_to_token(2).as_deref(), Some("</s>"));
        assert_eq!(tokenizer.token_to_id("no such token"), None);
    }
}

#[test]
fn nothing_is_truncated_or_padded_although_the_file_asks_for_it() {
    let json = std::fs::read_to_string(fixture("tokenizer/tokenizer.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["truncation"].is_object() && json["padding"].is_object(), "the fixture must ask for both");
    let tokenizer = small_tokenizer();
    let (one, many) = (tokenizer.encode("word\n").unwrap(), tokenizer.encode(&"word\n".repeat(5_000)).unwrap());
    assert!(many == one.repeat(5_000), "{} tokens", many.len());
    assert_eq!(tokenizer.encode_sequence("").unwrap(), [0, 2]);
}

#[test]
fn text_without_special_tokens_comes_back_unchanged() {
    let tokenizers = ["tokenizer", "vocab_and_merges"].map(|name| Tokenizer::load(fixture(name)).unwrap());
    let mut random = Random(1);
    for _ in 0..2_000 {
        let text = random.text(30);
        let [first, second] = tokenizers.each_ref().map(|tokenizer| tokenizer.encode(&text).unwrap());
        assert_eq!(first, second, "ids of {text:?}");
        assert_eq!(tokenizers[0].decode(&first).unwrap(), text);
    }
}

#[test]
fn any_ids_decode_to_valid_text() {
    let tokenizer = small_tokenizer();
    let mut random = Random(2);
    for _ in 0..2_000 {
        let ids: Vec<u32> = (0..random.below(20)).map(|_| random.below(1_000) as u32).collect();
        let text = tokenizer.decode(&ids).unwrap();
        assert!(!text.contains("</s>"), "{ids:?} gave {text:?}");
    }
}
