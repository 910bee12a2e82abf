//! Settings that decide here and that `transformers` would not read.
//!
//! Here a field comes from `generation_config.json` where that has it, else from `config.json`. `transformers` reads it from one of
//! the two only: from `config.json` if the other file was made from it (`_from_model_config`, which `save_pretrained` writes where
//! nobody configured generation) and it sets a field of generation, else from `generation_config.json`.

use serde_json::{Map, Value, json};

use crate::GenerationOptions;

/// What `transformers` makes of the fields that `config.json` had before there were `generation_config.json`s
/// (`PretrainedConfig._get_global_generation_defaults`), where it finds none.
fn defaults() -> Value {
    json!({
        "max_length": 20, "min_length": 0, "do_sample": false, "early_stopping": false, "num_beams": 1, "temperature": 1.0,
        "top_k": 50, "top_p": 1.0, "typical_p": 1.0, "repetition_penalty": 1.0, "length_penalty": 1.0,
        "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "bad_words_ids": null, "num_return_sequences": 1,
        "output_scores": false, "return_dict_in_generate": false, "forced_bos_token_id": null, "forced_eos_token_id": null,
        "remove_invalid_values": false, "exponential_decay_length_penalty": null, "suppress_tokens": null,
        "begin_suppress_tokens": null, "num_beam_groups": 1, "diversity_penalty": 0.0,
    })
}

/// The fields that change a search here, with the other name for the same where there is one.
const FIELDS: [(&str, &str); 17] = [
    ("max_length", "max_new_tokens"),
    ("max_new_tokens", "max_length"),
    ("min_length", "min_new_tokens"),
    ("min_new_tokens", "min_length"),
    ("num_beams", ""),
    ("length_penalty", ""),
    ("early_stopping", ""),
    ("no_repeat_ngram_size", ""),
    ("encoder_no_repeat_ngram_size", ""),
    ("repetition_penalty", ""),
    ("encoder_repetition_penalty", ""),
    ("bad_words_ids", ""),
    ("forced_bos_token_id", ""),
    ("forced_eos_token_id", ""),
    ("decoder_start_token_id", ""),
    ("eos_token_id", ""),
    ("num_return_sequences", ""),
];

/// A warning if `saved`, of a `generation_config.json`, or `of_model`, of a `config.json`, decides a field that `options` leaves
/// open in another way than what `transformers` reads.
pub(crate) fn unread(
    options: &GenerationOptions,
    saved: &GenerationOptions,
    of_model: &GenerationOptions,
) -> Option<String> {
    let is_from_model = saved.extra.get("_from_model_config") == Some(&Value::Bool(true));
    let [options_json, saved_json, of_model_json] = [options, saved, of_model].map(fields);
    if is_from_model && sets_generation(&of_model_json) {
        let names = differing(&saved_json, &of_model_json, &[&options_json])?;
        return Some(format!(
            "{}: sets {names}, but `_from_model_config` there makes transformers read {} in its place; remove that entry \
             to have the same summaries",
            saved.origin, of_model.origin
        ));
    }
    let names = differing(&of_model_json, &saved_json, &[&options_json, &saved_json])?;
    Some(format!(
        "{}: gives {names}, which transformers does not read beside a generation_config.json; name it there to have the \
         same summaries",
        of_model.origin
    ))
}

fn fields(options: &GenerationOptions) -> Map<String, Value> {
    match serde_json::to_value(options).expect("options have only string keys") {
        Value::Object(fields) => fields,
        _ => unreachable!("a struct is an object"),
    }
}

/// Whether a `config.json` sets a field of generation to something else than its default.
fn sets_generation(of_model: &Map<String, Value>) -> bool {
    let defaults = defaults();
    let is_set = |(name, value): (&String, &Value)| {
        !value.is_null() && defaults.get(name).is_some_and(|default| !is_same(value, default))
    };
    of_model.iter().any(is_set)
}

/// The fields of `unread` that no layer `above` sets and for which `read` has something else, if there are any.
fn differing(unread: &Map<String, Value>, read: &Map<String, Value>, above: &[&Map<String, Value>]) -> Option<String> {
    let mut defaults = defaults();
    defaults["encoder_repetition_penalty"] = json!(1.0);
    // A decoder that is not told where to start does so at what begins a text.
    defaults["decoder_start_token_id"] = read.get("bos_token_id").cloned().unwrap_or_default();
    let decides = |(name, other): (&str, &str)| {
        let value = unread.get(name)?;
        let is_set = above.iter().any(|layer| layer.contains_key(name) || layer.contains_key(other));
        let in_its_place = read.get(name).or(defaults.get(name)).unwrap_or(&Value::Null);
        (!is_set && !is_same(value, in_its_place)).then(|| format!("{name}={value}"))
    };
    let names: Vec<String> = FIELDS.into_iter().filter_map(decides).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Whether two values mean the same: `1` is `1.0`, and a list of one is what it holds.
fn is_same(one: &Value, other: &Value) -> bool {
    let [one, other] = [one, other].map(|value| match value.as_array().map(Vec::as_slice) {
        Some([alone]) => alone,
        _ => value,
    });
    one == other || one.as_f64().is_some_and(|one| other.as_f64() == Some(one))
}
