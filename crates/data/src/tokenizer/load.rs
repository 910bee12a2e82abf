//! A model directory in, a tokenizer out.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::PreTokenizerWrapper;

use super::layout::tokenizer_json;
use super::settings::{Names, Settings};
use super::{DOCUMENT_SEPARATOR, MERGES, SpecialTokens, TOKENIZER, Tokenizer, VOCAB};
use crate::error::{Error, Result};

pub(super) type Fields = Map<String, Value>;

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
    if path.is_file() {
        return with_settings(from_json(read(&path)?, &path)?, &settings, &path);
    }
    let path = directory.join(VOCAB);
    with_settings(from_json(vocab_and_merges(directory, &settings)?, &path)?, &settings, &path)
}

/// Reads a `tokenizer.json` in memory, with the settings of a directory that holds nothing else.
pub(super) fn from_bytes(bytes: &[u8], origin: &Path) -> Result<Tokenizer> {
    with_settings(from_json(bytes, origin)?, &Settings::default(), origin)
}

fn from_json(json: impl AsRef<[u8]>, path: &Path) -> Result<tokenizers::Tokenizer> {
    tokenizers::Tokenizer::from_bytes(json).map_err(|error| Error::tokenizer(path, error))
}

fn with_settings(mut inner: tokenizers::Tokenizer, settings: &Settings, path: &Path) -> Result<Tokenizer> {
    settings.add_tokens(&mut inner, path)?;
    let tokenizer = Tokenizer::assemble(inner, &settings.names, settings.add_prefix_space, path)?;
    Ok(Tokenizer { clean_up: settings.clean_up, ..tokenizer })
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
        Ok(Self { inner, special, vocab_size: largest as usize + 1, clean_up: false })
    }
}

/// The `tokenizer.json` of a vocabulary with its merges, without added tokens.
fn vocab_and_merges(directory: &Path, settings: &Settings) -> Result<String> {
    let path = directory.join(VOCAB);
    let vocab = read_object(&path)?;
    let merges = read_merges(&directory.join(MERGES))?;
    let end = |name: &str| {
        let id = vocab.get(name).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| Error::tokenizer(&path, format!("no token `{name}`")))
    };
    let names = &settings.names;
    let (bos, eos) = ((names.bos.as_str(), end(&names.bos)?), (names.eos.as_str(), end(&names.eos)?));
    Ok(tokenizer_json(vocab, &merges, &[], bos, eos, settings.add_prefix_space).to_string())
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

pub(super) fn read_optional_object(path: &Path) -> Result<Fields> {
    if path.is_file() { read_object(path) } else { Ok(Fields::new()) }
}
