//! The JSON form of an LED tokenizer, shared by what is loaded from `vocab.json`, what is trained and what is saved.

use serde_json::{Map, Value, json};

/// An entry of the added vocabulary: matched in the text before BPE.
#[derive(Clone, Debug)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
    /// Takes the white space before it along.
    pub(super) lstrip: bool,
    pub(super) rstrip: bool,
    pub(super) single_word: bool,
    pub(super) normalized: bool,
    /// Left out by decoding.
    pub(super) special: bool,
}

impl AddedToken {
    /// A special token as LED has it: `<mask>` takes the space before it along, no other does.
    pub(super) fn special(id: u32, content: &str) -> Self {
        let lstrip = content == "<mask>";
        Self {
            id,
            content: content.to_owned(),
            lstrip,
            rstrip: false,
            single_word: false,
            normalized: lstrip,
            special: true,
        }
    }

    /// The token without its id, as `tokenizer_config.json` and `special_tokens_map.json` hold it.
    pub(super) fn properties(&self) -> Map<String, Value> {
        let properties = [
            ("content", json!(self.content)),
            ("lstrip", json!(self.lstrip)),
            ("normalized", json!(self.normalized)),
            ("rstrip", json!(self.rstrip)),
            ("single_word", json!(self.single_word)),
            ("special", json!(self.special)),
        ];
        properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn to_json(&self) -> Value {
        let mut fields = self.properties();
        fields.insert("id".to_owned(), json!(self.id));
        Value::Object(fields)
    }
}

/// The contents of `tokenizer.json` for a byte-level BPE with the GPT-2 pattern and `<s> ... </s>` around a sequence.
pub(super) fn tokenizer_json(
    vocab: Map<String, Value>,
    merges: &[(String, String)],
    added: &[AddedToken],
    bos: (&str, u32),
    eos: (&str, u32),
    add_prefix_space: bool,
) -> Value {
    let mut added: Vec<&AddedToken> = added.iter().collect();
    added.sort_by_key(|token| token.id);
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.into_iter().map(AddedToken::to_json).collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": true
        },
        "post_processor": {
            "type": "RobertaProcessing", "sep": eos, "cls": bos,
            "trim_offsets": true, "add_prefix_space": add_prefix_space
        },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": "", "end_of_word_suffix": "",
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges
        }
    })
}
