//! What the files beside a vocabulary say of its special tokens, read as `PreTrainedTokenizerBase.from_pretrained` does.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tokenizers::AddedToken;

use super::load::{Fields, read_optional_object};
use super::{ADDED_TOKENS, CLEAN_UP, CONFIG, SPECIAL_TOKENS_MAP};
use crate::error::{Error, Result};

/// The fields that name one special token, in the order in which missing tokens get their ids, and LED's names.
const NAMED: [(&str, &str); 7] = [
    ("bos_token", "<s>"),
    ("eos_token", "</s>"),
    ("unk_token", "<unk>"),
    ("sep_token", "</s>"),
    ("pad_token", "<pad>"),
    ("cls_token", "<s>"),
    ("mask_token", "<mask>"),
];
/// The special tokens beside those.
const ADDITIONAL: &str = "additional_special_tokens";

/// How a directory spells the special tokens.
pub(super) struct Names {
    pub(super) bos: String,
    pub(super) pad: String,
    pub(super) eos: String,
    pub(super) unk: String,
    pub(super) mask: String,
}

impl Names {
    fn of(fields: &Fields) -> Self {
        let name = |field: &str| {
            let default = || NAMED.iter().find(|(named, _)| *named == field).map_or("", |(_, default)| default);
            fields.get(field).and_then(content).unwrap_or_else(default).to_owned()
        };
        Self {
            bos: name("bos_token"),
            pad: name("pad_token"),
            eos: name("eos_token"),
            unk: name("unk_token"),
            mask: name("mask_token"),
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::of(&Fields::new())
    }
}

/// What `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` add to a vocabulary.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) names: Names,
    pub(super) add_prefix_space: bool,
    /// Whether decoding cleans up the spaces of its text.
    pub(super) clean_up: bool,
    /// The fields that name special tokens, and others.
    fields: Fields,
    /// Tokens whose ids the files give.
    added: BTreeMap<u32, AddedToken>,
    /// Whether `added` is all there is to know of added tokens, so that it wins over `tokenizer.json`.
    complete: bool,
}

impl Settings {
    /// `added_tokens_decoder` in `tokenizer_config.json` makes the two other files unread, as in `transformers`; they are
    /// what earlier versions wrote.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let mut fields = read_optional_object(&directory.join(CONFIG))?;
        let decoder = fields.get("added_tokens_decoder").and_then(Value::as_object).cloned();
        let complete = decoder.is_some();
        let added = match decoder {
            Some(decoder) => decoded_tokens(&decoder, &directory.join(CONFIG))?,
            None => {
                merge_map(&mut fields, read_optional_object(&directory.join(SPECIAL_TOKENS_MAP))?);
                legacy_tokens(&fields, &directory.join(ADDED_TOKENS))?
            }
        };
        let is_set = |name: &str| fields.get(name).and_then(Value::as_bool).unwrap_or(false);
        let (add_prefix_space, clean_up) = (is_set("add_prefix_space"), is_set(CLEAN_UP));
        Ok(Self { names: Names::of(&fields), add_prefix_space, clean_up, fields, added, complete })
    }

    /// Gives a tokenizer the tokens that it lacks, and those that it has the properties that the files give: those with an id
    /// in the order of these, then special tokens with the next ids.
    pub(super) fn add_tokens(&self, inner: &mut tokenizers::Tokenizer, path: &Path) -> Result<()> {
        let present = inner.get_added_tokens_decoder();
        let mut known = self.added.clone();
        if !self.complete {
            known.extend(present.iter().map(|(&id, token)| (id, token.clone())));
        }
        let special = self.special_tokens(&known, |name| present.values().any(|token| token.content == name));
        let changed = |token: &AddedToken| !present.values().any(|present| present == token);
        let with_id = known.into_values().filter(changed).map(|token| {
            let is_special = token.special || is_named(&self.fields, &token.content);
            token.special(is_special)
        });
        inner.add_tokens(with_id.chain(special)).map_err(|error| Error::tokenizer(path, error))?;
        match self.added.iter().find(|(id, token)| inner.token_to_id(&token.content) != Some(**id)) {
            Some((id, token)) => {
                let message = format!("the added token `{}` cannot have id {id}: ids must have no gaps", token.content);
                Err(Error::tokenizer(path, message))
            }
            None => Ok(()),
        }
    }

    /// The special tokens to be added after those with an id. A token given by its name alone is added only if it is new.
    fn special_tokens(&self, known: &BTreeMap<u32, AddedToken>, is_present: impl Fn(&str) -> bool) -> Vec<AddedToken> {
        let known = |name: &str| known.values().find(|token| token.content == name);
        let by_name = |name: &str| (known(name).is_none() && !is_present(name)).then(|| AddedToken::from(name, true));
        let named = NAMED.iter().filter_map(|&(field, default)| match self.fields.get(field) {
            Some(Value::Null) => None,
            Some(value) if content(value).and_then(known).is_some() => None,
            Some(value) if value.is_object() => special(value),
            // LED's mask is like a word, with the space before it.
            value if field == "mask_token" => {
                let name = value.and_then(content).unwrap_or(default);
                Some(AddedToken::from(name, true).lstrip(true).normalized(true))
            }
            value => by_name(value.and_then(content).unwrap_or(default)),
        });
        let additional = self.fields.get(ADDITIONAL).and_then(Value::as_array).into_iter().flatten();
        let additional = additional.filter_map(|value| match value {
            Value::String(name) => by_name(name),
            value => special(value),
        });
        named.chain(additional).collect()
    }
}

/// A token is written as a string, or as an object with its properties.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content").and_then(Value::as_str))
}

/// The added token that an object describes, with the defaults of `AddedToken`.
fn described(token: &Value) -> Option<AddedToken> {
    let flag = |name: &str| token.get(name).and_then(Value::as_bool);
    let added = AddedToken::from(content(token)?, flag("special").unwrap_or(false));
    let normalized = flag("normalized").unwrap_or(added.normalized);
    Some(
        added
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .single_word(flag("single_word").unwrap_or(false))
            .normalized(normalized),
    )
}

fn special(token: &Value) -> Option<AddedToken> {
    described(token).map(|token| token.special(true))
}

/// Whether a token is one of the special tokens that the fields name, or LED names where they do not.
fn is_named(fields: &Fields, token: &str) -> bool {
    let named = NAMED.iter().any(|&(field, default)| match fields.get(field) {
        Some(value) => content(value) == Some(token),
        None => default == token,
    });
    let mut additional = fields.get(ADDITIONAL).and_then(Value::as_array).into_iter().flatten();
    named || additional.any(|value| content(value) == Some(token))
}

/// What `special_tokens_map.json` names wins over `tokenizer_config.json`; further special tokens are those of both.
fn merge_map(fields: &mut Fields, map: Fields) {
    for (field, value) in map {
        match (fields.get_mut(&field), value) {
            (Some(Value::Array(tokens)), Value::Array(more)) if field == ADDITIONAL => {
                let new: Vec<Value> = more.into_iter().filter(|token| !tokens.contains(token)).collect();
                tokens.extend(new);
            }
            (_, value) => {
                fields.insert(field, value);
            }
        }
    }
}

/// The entries of `added_tokens_decoder`: an id each, and the token's properties.
fn decoded_tokens(decoder: &Fields, path: &Path) -> Result<BTreeMap<u32, AddedToken>> {
    let token = |(id, token): (&String, &Value)| {
        let entry = id.parse().ok().zip(described(token));
        let wrong = || format!("`added_tokens_decoder`: `{id}` must be a token id with an object that has `content`");
        entry.ok_or_else(|| Error::tokenizer(path, wrong()))
    };
    decoder.iter().map(token).collect()
}

/// The entries of `added_tokens.json`: a token each, and its id.
fn legacy_tokens(fields: &Fields, path: &Path) -> Result<BTreeMap<u32, AddedToken>> {
    let tokens = read_optional_object(path)?;
    let token = |(token, id): (&String, &Value)| {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| Error::tokenizer(path, format!("the id of `{token}` is not a whole number")))?;
        Ok((id, AddedToken::from(token.as_str(), is_named(fields, token))))
    };
    tokens.iter().map(token).collect()
}
