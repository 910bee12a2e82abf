//! Fields of `config.json` that `transformers` does not read beside a `generation_config.json`.

use serde_json::{Value, json};

use crate::GenerationOptions;

/// The fields that change a search, with the other name for the same where there is one, and what `transformers` takes in their
/// place. A decoder that is not told where to start does so at what begins a text, `bos`.
fn fields(bos: Value) -> [(&'static str, &'static str, Value); 17] {
    [
        ("max_length", "max_new_tokens", json!(20)),
        ("max_new_tokens", "max_length", Value::Null),
        ("min_length", "min_new_tokens", json!(0)),
        ("min_new_tokens", "min_length", Value::Null),
        ("num_beams", "", json!(1)),
        ("length_penalty", "", json!(1.0)),
        ("early_stopping", "", json!(false)),
        ("no_repeat_ngram_size", "", json!(0)),
        ("encoder_no_repeat_ngram_size", "", json!(0)),
        ("repetition_penalty", "", json!(1.0)),
        ("encoder_repetition_penalty", "", json!(1.0)),
        ("bad_words_ids", "", Value::Null),
        ("forced_bos_token_id", "", Value::Null),
        ("forced_eos_token_id", "", Value::Null),
        ("num_return_sequences", "", json!(1)),
        ("decoder_start_token_id", "", bos),
        ("eos_token_id", "", Value::Null),
    ]
}

/// A warning if `of_model`, of a `config.json`, decides a field that neither `options` nor `saved`, of a `generation_config.json`,
/// set, in another way than `transformers` does then.
pub(crate) fn unread(
    options: &GenerationOptions,
    saved: &GenerationOptions,
    of_model: &GenerationOptions,
) -> Option<String> {
    let json = |options: &GenerationOptions| serde_json::to_value(options).expect("options have only string keys");
    let (here, above) = (json(of_model), [json(options), json(saved)]);
    let bos = above[1].get("bos_token_id").cloned().unwrap_or_default();
    let decides = |(name, other, default): (&str, &str, Value)| {
        let value = here.get(name).filter(|value| **value != default)?;
        let is_set = above.iter().any(|layer| layer.get(name).is_some() || layer.get(other).is_some());
        (!is_set).then(|| format!("{name}={value}"))
    };
    let names: Vec<String> = fields(bos).into_iter().filter_map(decides).collect();
    // `save_pretrained` marks so what it made from `config.json`, which version 4 went on to read.
    let is_from_model = saved.extra.get("_from_model_config") == Some(&Value::Bool(true));
    (!names.is_empty()).then(|| {
        format!(
            "{}: gives {}, which transformers{} does not read beside a generation_config.json; name it there to have the same \
             summaries",
            of_model.origin,
            names.join(", "),
            if is_from_model { " from version 5 on" } else { "" }
        )
    })
}
