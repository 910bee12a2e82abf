//! Model directories with something missing or wrong in their tokenizer files.

use std::fs;
use std::path::Path;

use crate::support::fixture;
use epitome_data::Tokenizer;

#[track_caller]
fn refused(directory: &Path, expected: &[&str]) {
    let message = Tokenizer::load(directory).unwrap_err().to_string();
    for part in expected {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

fn copy(from: &str, names: &[&str], to: &Path) {
    for name in names {
        fs::copy(fixture(from).join(name), to.join(name)).unwrap();
    }
}

#[test]
fn empty_directory() {
    let directory = tempfile::tempdir().unwrap();
    assert!(!Tokenizer::exists(directory.path()));
    refused(directory.path(), &["tokenizer.json", "vocab.json", "merges.txt"]);
    copy("vocab_and_merges", &["vocab.json"], directory.path());
    assert!(!Tokenizer::exists(directory.path()));
    refused(directory.path(), &["no tokenizer here"]);
}

#[test]
fn tokenizer_json_that_is_not_json() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("tokenizer.json"), "{\"version\": ").unwrap();
    refused(directory.path(), &["tokenizer.json"]);
}

#[test]
fn vocabulary_without_special_tokens() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("vocab.json"), "{\"a\": 0, \"b\": 1}").unwrap();
    fs::write(directory.path().join("merges.txt"), "").unwrap();
    refused(directory.path(), &["vocab.json", "`<s>`"]);
}

#[test]
fn merge_that_is_not_two_tokens() {
    let directory = tempfile::tempdir().unwrap();
    copy("vocab_and_merges", &["vocab.json"], directory.path());
    fs::write(directory.path().join("merges.txt"), "#version: 0.2\nt h\nthree to kens\n").unwrap();
    refused(directory.path(), &["merges.txt", "line 3", "three to kens"]);
}

#[test]
fn merge_of_unknown_tokens() {
    let directory = tempfile::tempdir().unwrap();
    copy("vocab_and_merges", &["vocab.json"], directory.path());
    fs::write(directory.path().join("merges.txt"), "nosuch token\n").unwrap();
    refused(directory.path(), &["vocab.json", "nosuch"]);
}

#[test]
fn added_token_with_a_gap_before_it() {
    let directory = tempfile::tempdir().unwrap();
    copy("vocab_and_merges", &["vocab.json", "merges.txt"], directory.path());
    fs::write(directory.path().join("added_tokens.json"), "{\"<doc-sep>\": 800}").unwrap();
    refused(directory.path(), &["<doc-sep>", "800"]);
    fs::write(directory.path().join("added_tokens.json"), "{\"<doc-sep>\": -1}").unwrap();
    refused(directory.path(), &["added_tokens.json", "<doc-sep>"]);
}

#[test]
fn document_separator_from_added_tokens_alone() {
    let directory = tempfile::tempdir().unwrap();
    copy("vocab_and_merges", &["vocab.json", "merges.txt"], directory.path());
    fs::write(directory.path().join("added_tokens.json"), "{\"<doc-sep>\": 700}").unwrap();
    let tokenizer = Tokenizer::load(directory.path()).unwrap();
    assert_eq!(tokenizer.special_tokens().document_separator, Some(700));
    assert_eq!(tokenizer.encode("<doc-sep>").unwrap(), [700]);
}

#[test]
fn prefix_space_as_tokenizer_config_says() {
    let directory = tempfile::tempdir().unwrap();
    copy("tokenizer", &["tokenizer.json"], directory.path());
    let without = Tokenizer::load(directory.path()).unwrap();
    fs::write(directory.path().join("tokenizer_config.json"), "{\"add_prefix_space\": true}").unwrap();
    let with = Tokenizer::load(directory.path()).unwrap();
    assert_ne!(without.encode("the").unwrap(), without.encode(" the").unwrap());
    assert_eq!(with.encode("the").unwrap(), without.encode(" the").unwrap());
}

#[test]
fn tokenizer_json_from_memory() {
    let bytes = fs::read(fixture("tokenizer/tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::from_bytes(&bytes, Path::new("bundled")).unwrap();
    let text = "read from <mask> memory ".repeat(20);
    assert_eq!(tokenizer.encode(&text).unwrap(), crate::support::small_tokenizer().encode(&text).unwrap());
    let message = Tokenizer::from_bytes(&bytes[..100], Path::new("bundled")).unwrap_err().to_string();
    assert!(message.starts_with("bundled: "), "{message}");
}

#[test]
fn spaces_cleaned_up_where_tokenizer_config_says() {
    let directory = tempfile::tempdir().unwrap();
    copy("tokenizer", &["tokenizer.json"], directory.path());
    let ids = Tokenizer::load(directory.path()).unwrap().encode("It is n't , I 'm sure .").unwrap();
    let text = |directory: &Path| Tokenizer::load(directory).unwrap().decode_with_ends(&ids).unwrap();
    assert_eq!(text(directory.path()).0, "It is n't , I 'm sure .");
    fs::write(directory.path().join("tokenizer_config.json"), "{\"clean_up_tokenization_spaces\": true}").unwrap();
    let (cleaned, ends) = text(directory.path());
    assert_eq!(cleaned, "It isn't, I'm sure.");
    assert_eq!(ends.last(), Some(&Some(cleaned.len())));
    let tokenizer = Tokenizer::load(directory.path()).unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), cleaned);
    let saved = tempfile::tempdir().unwrap();
    tokenizer.save(saved.path()).unwrap();
    assert_eq!(text(saved.path()).0, cleaned);
}
