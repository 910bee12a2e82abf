//! A tokenizer in, the files that `transformers` expects of an LED model out.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::layout::AddedToken;
use super::{
    ADDED_TOKENS, CLEAN_UP, CONFIG, DOCUMENT_SEPARATOR, MERGES, SPECIAL_TOKENS_MAP, TOKENIZER, Tokenizer, VOCAB,
};
use crate::error::{Error, Result};

pub(super) fn save(tokenizer: &Tokenizer, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(|error| Error::io("create", directory, error))?;
    let json = tokenizer.inner.to_string(true).map_err(super::failed)?;
    let parsed: Value = serde_json::from_str(&json).map_err(|error| Error::Tokenization(error.to_string()))?;
    let added = added_tokens(tokenizer);
    write(&directory.join(VOCAB), &parsed["model"]["vocab"].to_string())?;
    write(&directory.join(MERGES), &merges_text(&parsed["model"]["merges"]))?;
    write_json(&directory.join(CONFIG), &tokenizer_config(tokenizer, &added, &parsed))?;
    write_json(&directory.join(SPECIAL_TOKENS_MAP), &Value::Object(special_tokens_map(tokenizer, &added)))?;
    write_added_tokens(&directory.join(ADDED_TOKENS), &added, &parsed["model"]["vocab"])?;
    // Last, because it alone is enough to load: a directory that holds it is complete.
    write(&directory.join(TOKENIZER), &json)
}

fn added_tokens(tokenizer: &Tokenizer) -> Vec<AddedToken> {
    let decoder = tokenizer.inner.get_added_tokens_decoder();
    let mut added: Vec<AddedToken> = decoder
        .into_iter()
        .map(|(id, token)| AddedToken {
            id,
            content: token.content,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            single_word: token.single_word,
            normalized: token.normalized,
            special: token.special,
        })
        .collect();
    added.sort_by_key(|token| token.id);
    added
}

fn merges_text(merges: &Value) -> String {
    let mut text = String::from("#version: 0.2\n");
    for merge in merges.as_array().into_iter().flatten() {
        let tokens: Vec<&str> = match merge {
            Value::Array(pair) => pair.iter().filter_map(Value::as_str).collect(),
            other => other.as_str().into_iter().collect(),
        };
        text.push_str(&tokens.join(" "));
        text.push('\n');
    }
    text
}

fn special_tokens_map(tokenizer: &Tokenizer, added: &[AddedToken]) -> Map<String, Value> {
    let special = tokenizer.special;
    let named = [
        ("bos_token", Some(special.bos)),
        ("cls_token", Some(special.bos)),
        ("eos_token", Some(special.eos)),
        ("mask_token", special.mask),
        ("pad_token", Some(special.pad)),
        ("sep_token", Some(special.eos)),
        ("unk_token", special.unk),
    ];
    let mut map = Map::new();
    for (name, id) in named {
        let Some(content) = id.and_then(|id| tokenizer.id_to_token(id)) else { continue };
        let value = match added.iter().find(|token| token.content == content) {
            Some(token) if token.lstrip || token.rstrip => {
                let mut properties = token.properties();
                properties.remove("special");
                Value::Object(properties)
            }
            _ => json!(content),
        };
        map.insert(name.to_owned(), value);
    }
    if special.document_separator.is_some() {
        map.insert("additional_special_tokens".to_owned(), json!([DOCUMENT_SEPARATOR]));
    }
    map
}

fn tokenizer_config(tokenizer: &Tokenizer, added: &[AddedToken], parsed: &Value) -> Value {
    let add_prefix_space = parsed["pre_tokenizer"]["add_prefix_space"].as_bool().unwrap_or(false);
    let mut config = Map::new();
    config.insert("add_prefix_space".to_owned(), json!(add_prefix_space));
    let decoder = added.iter().map(|token| (token.id.to_string(), Value::Object(token.properties())));
    config.insert("added_tokens_decoder".to_owned(), Value::Object(decoder.collect()));
    for (name, value) in special_tokens_map(tokenizer, added) {
        let value = value.get("content").cloned().unwrap_or(value);
        config.insert(name, value);
    }
    config.insert(CLEAN_UP.to_owned(), json!(tokenizer.clean_up));
    config.insert("errors".to_owned(), json!("replace"));
    config.insert("tokenizer_class".to_owned(), json!("LEDTokenizer"));
    config.insert("trim_offsets".to_owned(), json!(true));
    Value::Object(config)
}

/// `added_tokens.json` holds the tokens outside the vocabulary; without such tokens there is no such file.
fn write_added_tokens(path: &Path, added: &[AddedToken], vocab: &Value) -> Result<()> {
    let outside = added.iter().filter(|token| vocab.get(&token.content).is_none());
    let outside: Map<String, Value> = outside.map(|token| (token.content.clone(), json!(token.id))).collect();
    if outside.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
            _ => Ok(()),
        };
    }
    write_json(path, &Value::Object(outside))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    write(path, &format!("{value:#}\n"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    epitome_files::replace_content(path, text).map_err(|error| Error::io("write", path, error))
}
