//! Fields of `config.json` that `transformers` does not read beside a `generation_config.json`.

use serde_json::{Value, json};

use crate::GenerationOptions;

/// The fields that change a search, with the other name for the same where there is one, and the default of `transformers`.
fn fields() -> [(&'static str, &'static str, Value); 15] {
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
    ]
}

/// A warning if `of_model` decides fields that no layer above it sets, in another way than the defaults.
pub(crate) fn unread(of_model: &GenerationOptions, above: &[&GenerationOptions]) -> Option<String> {
    let json = |options: &GenerationOptions| serde_json::to_value(options).expect("options have only string keys");
    let (here, above) = (json(of_model), above.iter().map(|layer| json(layer)).collect::<Vec<_>>());
    let decides = |(name, other, default): (&str, &str, Value)| {
        let value = here.get(name).filter(|value| **value != default)?;
        let is_set = above.iter().any(|layer| layer.get(name).is_some() || layer.get(other).is_some());
        (!is_set).then(|| format!("{name}={value}"))
    };
    let names: Vec<String> = fields().into_iter().filter_map(decides).collect();
    (!names.is_empty()).then(|| {
        format!(
            "{}: sets {}, which transformers does not read beside a generation_config.json; name it there to have the same \
             summaries",
            of_model.origin,
            names.join(", ")
        )
    })
}
