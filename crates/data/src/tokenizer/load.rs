//! A model directory in, a tokenizer out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::PreTokenizerWrapper;

use super::layout::{AddedToken, tokenizer_json};
use super::{
    ADDED_TOKENS, CONFIG, DOCUMENT_SEPARATOR, MERGES, SPECIAL_TOKENS_MAP, SpecialTokens, TOKENIZER, Tokenizer, VOCAB,
};
use crate::error::{Error, Result};

type Fields = Map<String, Value>;

pub(super) fn exists(directory: &Path) -> bool {
    let holds = |name| directory.join(name).is_file();
    holds(TOKENIZER) || (holds(VOCAB) && holds(MERGES))
}

pub(super) fn load(directory: &Path) -> Result<Tokenizer> {
    if !exists(directory) {
        return Err(Error::NoTokenizer(directory.to_owned()));
    }
    let settings = Settings::read(directory)?;
    let path = directory.join(TOKENIZER);
    if !path.is_file() {
        return load_vocab_and_merges(directory, &settings);
    }
    let inner = tokenizers::Tokenizer::from_bytes(read(&path)?).map_err(|error| Error::tokenizer(&path, error))?;
    Tokenizer::assemble(inner, &settings.names, settings.add_prefix_space, &path)
}

/// Reads a `tokenizer.json` in memory, with the settings of a directory that holds nothing else.
pub(super) fn from_bytes(bytes: &[u8], origin: &Path) -> Result<Tokenizer> {
    let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| Error::tokenizer(origin, error))?;
    Tokenizer::assemble(inner, &Names::default(), false, origin)
}

impl Tokenizer {
    /// Drops truncation and padding, applies the directory's prefix-space setting and finds the special tokens.
    pub(super) fn assemble(
        mut inner: tokenizers::Tokenizer,
        names: &Names,
        add_prefix_space: bool,
        path: &Path,
    ) -> Result<Self> {
        let failed = |error| Error::tokenizer(path, error);
        inner.with_truncation(None).map_err(failed)?;
        inner.with_padding(None);
        // `transformers` lets tokenizer_config.json (default: false) win over what tokenizer.json says.
        if let Some(PreTokenizerWrapper::ByteLevel(byte_level)) = inner.get_pre_tokenizer().cloned() {
            inner.with_pre_tokenizer(Some(byte_level.add_prefix_space(add_prefix_space)));
        }
        let required = |name: &str| {
            inner
                .token_to_id(name)
                .ok_or_else(|| Error::tokenizer(path, format!("the vocabulary has no token `{name}`")))
        };
        let special = SpecialTokens {
            bos: required(&names.bos)?,
            pad: required(&names.pad)?,
            eos: required(&names.eos)?,
            unk: inner.token_to_id(&names.unk),
            mask: inner.token_to_id(&names.mask),
            document_separator: inner.token_to_id(DOCUMENT_SEPARATOR),
        };
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0);
        Ok(Self { inner, special, vocab_size: largest as usize + 1 })
    }
}

/// How a directory spells the special tokens.
pub(super) struct Names {
    pub(super) bos: String,
    pub(super) pad: String,
    pub(super) eos: String,
    pub(super) unk: String,
    pub(super) mask: String,
}

impl Default for Names {
    fn default() -> Self {
        let name = str::to_owned;
        Self { bos: name("<s>"), pad: name("<pad>"), eos: name("</s>"), unk: name("<unk>"), mask: name("<mask>") }
    }
}

/// What `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` add to a vocabulary.
#[derive(Default)]
struct Settings {
    names: Names,
    add_prefix_space: bool,
    /// Properties of tokens by content, as far as the files give them.
    properties: BTreeMap<String, Fields>,
    /// Special tokens beside the five with a name.
    additional: Vec<String>,
    /// Ids of tokens outside the vocabulary.
    added: BTreeMap<u32, String>,
}

impl Settings {
    fn read(directory: &Path) -> Result<Self> {
        let mut settings = Self::default();
        let map = read_optional_object(&directory.join(SPECIAL_TOKENS_MAP))?;
        let config = read_optional_object(&directory.join(CONFIG))?;
        for fields in [&map, &config] {
            settings.name_tokens(fields);
        }
        settings.add_prefix_space = config.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
        for (token, id) in &read_optional_object(&directory.join(ADDED_TOKENS))? {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| {
                Error::tokenizer(directory.join(ADDED_TOKENS), format!("the id of `{token}` is not a whole number"))
            })?;
            settings.added.insert(id, token.clone());
        }
        if let Some(Value::Object(decoder)) = config.get("added_tokens_decoder") {
            for (id, token) in decoder {
                if let (Ok(id), Some(content)) = (id.parse(), content(token)) {
                    settings.added.insert(id, content.to_owned());
                    settings.remember(token);
                }
            }
        }
        Ok(settings)
    }

    fn name_tokens(&mut self, fields: &Fields) {
        let names = &mut self.names;
        let slots = [
            ("bos_token", &mut names.bos),
            ("pad_token", &mut names.pad),
            ("eos_token", &mut names.eos),
            ("unk_token", &mut names.unk),
            ("mask_token", &mut names.mask),
        ];
        for (field, slot) in slots {
            if let Some(name) = fields.get(field).and_then(content) {
                *slot = name.to_owned();
            }
        }
        for (field, value) in fields {
            if field.ends_with("_token") {
                self.remember(value);
            }
        }
        if let Some(Value::Array(tokens)) = fields.get("additional_special_tokens") {
            for token in tokens {
                self.remember(token);
                self.additional.extend(content(token).map(str::to_owned));
            }
        }
    }

    fn remember(&mut self, token: &Value) {
        if let (Some(content), Value::Object(fields)) = (content(token), token) {
            self.properties.insert(content.to_owned(), fields.clone());
        }
    }

    fn is_special(&self, token: &str) -> bool {
        let names = &self.names;
        [&names.bos, &names.pad, &names.eos, &names.unk, &names.mask].into_iter().any(|name| name == token)
            || self.additional.iter().any(|name| name == token)
    }

    /// The added-vocabulary entry of a token, with the properties the files give and LED's defaults for the rest.
    fn added_token(&self, id: u32, content: &str) -> AddedToken {
        let mut token = AddedToken::special(id, content);
        token.special = self.is_special(content);
        token.lstrip = content == self.names.mask;
        token.normalized = token.lstrip || !token.special;
        if let Some(fields) = self.properties.get(content) {
            let flag = |name: &str, default| fields.get(name).and_then(Value::as_bool).unwrap_or(default);
            token.lstrip = flag("lstrip", token.lstrip);
            token.rstrip = flag("rstrip", false);
            token.single_word = flag("single_word", false);
            token.normalized = flag("normalized", token.normalized);
            token.special = flag("special", token.special) || token.special;
        }
        token
    }
}

/// A token is written as a string, or as an object with its properties.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content").and_then(Value::as_str))
}

fn load_vocab_and_merges(directory: &Path, settings: &Settings) -> Result<Tokenizer> {
    let path = directory.join(VOCAB);
    let vocab = read_object(&path)?;
    let merges = read_merges(&directory.join(MERGES))?;
    let id = |name: &str| vocab.get(name).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    let names = &settings.names;
    let mut added = BTreeMap::new();
    let named = [&names.bos, &names.pad, &names.eos, &names.unk, &names.mask];
    for name in named.into_iter().chain(&settings.additional) {
        if let Some(id) = id(name) {
            added.insert(id, settings.added_token(id, name));
        }
    }
    for (&id, name) in &settings.added {
        added.insert(id, settings.added_token(id, name));
    }
    let added: Vec<AddedToken> = added.into_values().collect();
    let end = |name: &str| id(name).ok_or_else(|| Error::tokenizer(&path, format!("no token `{name}`")));
    let (bos, eos) = ((names.bos.as_str(), end(&names.bos)?), (names.eos.as_str(), end(&names.eos)?));
    let json = tokenizer_json(vocab, &merges, &added, bos, eos, settings.add_prefix_space);
    let inner = tokenizers::Tokenizer::from_bytes(json.to_string()).map_err(|error| Error::tokenizer(&path, error))?;
    if let Some(token) = added.iter().find(|token| inner.token_to_id(&token.content) != Some(token.id)) {
        let message = format!("the added token `{}` cannot have id {}: ids must have no gaps", token.content, token.id);
        return Err(Error::tokenizer(directory, message));
    }
    Tokenizer::assemble(inner, names, settings.add_prefix_space, &path)
}

/// One merge a line, two tokens with a space between; a first line with the version is optional.
fn read_merges(path: &Path) -> Result<Vec<(String, String)>> {
    let bytes = read(path)?;
    let text = String::from_utf8(bytes).map_err(|error| Error::tokenizer(path, error))?;
    let mut merges = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || (index == 0 && line.starts_with("#version")) {
            continue;
        }
        let wrong = || Error::tokenizer(path, format!("line {}: expected two tokens, found `{line}`", index + 1));
        let (left, right) = line.split_once(' ').ok_or_else(wrong)?;
        if left.is_empty() || right.is_empty() || right.contains(' ') {
            return Err(wrong());
        }
        merges.push((left.to_owned(), right.to_owned()));
    }
    Ok(merges)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error::io("read", path, error))
}

fn read_object(path: &Path) -> Result<Fields> {
    match serde_json::from_slice(&read(path)?) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Error::tokenizer(path, "expected a JSON object")),
        Err(error) => Err(Error::tokenizer(path, format!("not valid JSON: {error}"))),
    }
}

fn read_optional_object(path: &Path) -> Result<Fields> {
    if path.is_file() { read_object(path) } else { Ok(Fields::new()) }
}
