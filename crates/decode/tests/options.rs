//! Layers of generation options: precedence, defaults, contradictions, and files as they are found on the hub.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use epitome_decode::{EarlyStopping, Error, GenerationConfig, GenerationOptions, TokenIds};

const POSITIONS: usize = 1024;

fn layer(name: &str, json: &str) -> GenerationOptions {
    GenerationOptions::from_json(json, Path::new(name)).unwrap()
}

/// Command line, `generation_config.json`, `config.json`.
fn resolve(layers: [&str; 3]) -> Result<(GenerationConfig, Vec<String>), Error> {
    let [command_line, generation_config, config] = layers;
    let layers = [
        layer("the command line", command_line),
        layer("generation_config.json", generation_config),
        layer("config.json", config),
    ];
    GenerationConfig::resolve(&[&layers[0], &layers[1], &layers[2]], POSITIONS)
}

#[track_caller]
fn resolved(layers: [&str; 3]) -> GenerationConfig {
    let (config, warnings) = resolve(layers).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    config
}

/// The generation part of a LED `config.json` from before `generation_config.json` existed.
const OLD_CONFIG: &str = r#"{
    "model_type": "led", "attention_window": [1024, 1024], "max_decoder_position_embeddings": 1024, "dropout": 0.1,
    "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "decoder_start_token_id": 2, "vocab_size": 50265,
    "early_stopping": true, "length_penalty": 2.0, "max_length": 512, "min_length": 100, "no_repeat_ngram_size": 3,
    "num_beams": 4, "task_specific_params": {"summarization": {"num_beams": 9}}, "use_cache": true
}"#;

#[test]
fn without_layers_the_defaults_of_transformers_and_the_position_table() {
    let (config, _) = GenerationConfig::resolve(&[], POSITIONS).unwrap();
    assert_eq!((config.max_length, config.max_new_tokens(), config.min_length), (POSITIONS, POSITIONS - 1, 0));
    assert_eq!((config.num_beams, config.num_return_sequences), (1, 1));
    assert_eq!((config.length_penalty, config.early_stopping), (1.0, EarlyStopping::False));
    assert_eq!((config.no_repeat_ngram_size, config.encoder_no_repeat_ngram_size), (0, 0));
    assert_eq!((config.repetition_penalty, config.encoder_repetition_penalty), (1.0, 1.0));
    assert_eq!((config.forced_bos_token_id, config.forced_eos_token_id.len()), (None, 0));
    assert_eq!((config.decoder_start_token_id, config.eos_token_id.as_slice()), (2, &[2][..]));
}

#[test]
fn a_config_json_of_the_hub_is_a_layer() {
    let config = resolved(["{}", "{}", OLD_CONFIG]);
    assert_eq!((config.num_beams, config.max_length, config.min_length), (4, 512, 100));
    assert_eq!((config.length_penalty, config.early_stopping), (2.0, EarlyStopping::True));
    assert_eq!(config.no_repeat_ngram_size, 3);
}

#[test]
fn each_field_comes_from_the_strongest_layer_that_has_it() {
    let config = resolved([
        r#"{"num_beams": 2, "early_stopping": "never"}"#,
        r#"{"num_beams": 6, "length_penalty": 0.8, "eos_token_id": [2, 7], "no_repeat_ngram_size": null}"#,
        OLD_CONFIG,
    ]);
    assert_eq!((config.num_beams, config.early_stopping), (2, EarlyStopping::Never));
    assert_eq!((config.length_penalty, config.eos_token_id.as_slice()), (0.8, &[2, 7][..]));
    assert_eq!(config.no_repeat_ngram_size, 3, "null says nothing");
    assert_eq!((config.max_length, config.min_length), (512, 100));
}

#[test]
fn new_tokens_outrank_lengths_of_their_layer_and_of_weaker_ones() {
    let limits = |command_line, generation_config, config| {
        let config = resolved([command_line, generation_config, config]);
        (config.min_length, config.max_length)
    };
    assert_eq!(limits(r#"{"max_length": 50, "max_new_tokens": 20}"#, "{}", "{}"), (0, 21));
    assert_eq!(limits(r#"{"min_length": 5, "min_new_tokens": 7}"#, "{}", "{}"), (8, POSITIONS));
    assert_eq!(limits(r#"{"max_length": 50}"#, r#"{"max_new_tokens": 20}"#, "{}"), (0, 50));
    assert_eq!(limits(r#"{"min_length": 3}"#, r#"{"min_new_tokens": 20}"#, OLD_CONFIG), (3, 512));
    assert_eq!(limits("{}", r#"{"max_new_tokens": 200}"#, OLD_CONFIG), (100, 201));
    assert_eq!(limits(r#"{"max_length": 5000}"#, "{}", OLD_CONFIG), (100, 5000));
}

#[test]
fn the_decoder_starts_at_bos_only_where_nothing_else_is_said() {
    assert_eq!(resolved(["{}", r#"{"bos_token_id": 5}"#, "{}"]).decoder_start_token_id, 5);
    assert_eq!(resolved(["{}", r#"{"bos_token_id": 5}"#, OLD_CONFIG]).decoder_start_token_id, 2);
    assert_eq!(resolved(["{}", r#"{"decoder_start_token_id": 0}"#, OLD_CONFIG]).decoder_start_token_id, 0);
}

#[test]
fn where_one_token_is_needed_a_list_of_one_will_do() {
    let config = resolved(["{}", r#"{"decoder_start_token_id": [3], "forced_bos_token_id": [5]}"#, OLD_CONFIG]);
    assert_eq!((config.decoder_start_token_id, config.forced_bos_token_id), (3, Some(5)));
    let config = resolved(["{}", "{}", r#"{"decoder_start_token_id": [3], "forced_bos_token_id": [5]}"#]);
    assert_eq!((config.decoder_start_token_id, config.forced_bos_token_id), (3, Some(5)));
    for option in ["decoder_start_token_id", "forced_bos_token_id"] {
        let json = format!(r#"{{"num_beams": 2, "{option}": [2, 3]}}"#);
        let message = GenerationOptions::from_json(&json, Path::new("file")).unwrap_err().to_string();
        assert!(message.contains(&format!("{option}: names 2 tokens where one is needed")), "{message}");
    }
}

/// What is resolved for a model whose `config.json` and `generation_config.json`, if it has one, hold that.
fn for_model(model: &str, saved: Option<&str>) -> (GenerationConfig, Vec<String>) {
    let model = epitome_model::Config::from_json(model, Path::new("config.json")).unwrap();
    let saved = saved.map(|saved| layer("generation_config.json", saved));
    let options = layer("the command line", "{}");
    GenerationConfig::for_model(&options, saved.as_ref(), &model, Path::new("config.json")).unwrap()
}

#[test]
fn tokens_that_config_json_says_are_none() {
    let tokens = |model: &str, saved: Option<&str>| {
        let (config, _) = for_model(model, saved);
        (config.decoder_start_token_id, config.eos_token_id)
    };
    let nulls = r#"{"decoder_start_token_id": null, "bos_token_id": 7, "eos_token_id": null}"#;
    assert_eq!(tokens(nulls, None), (7, vec![]));
    assert_eq!(tokens(nulls, Some(r#"{"bos_token_id": 8}"#)), (8, vec![]));
    assert_eq!(tokens(nulls, Some(r#"{"decoder_start_token_id": 9, "eos_token_id": 4}"#)), (9, vec![4]));
    assert_eq!(tokens("{}", None), (2, vec![2]));
}

#[track_caller]
fn refused(command_line: &str, generation_config: &str, parts: &[&str]) {
    let message = resolve([command_line, generation_config, OLD_CONFIG]).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
}

#[test]
fn contradictions_name_the_option_and_where_it_comes_from() {
    refused(r#"{"num_beams": 0}"#, "{}", &["num_beams", "the command line", "at least one"]);
    refused(
        "{}",
        r#"{"num_return_sequences": 5}"#,
        &["num_return_sequences", "generation_config.json", "num_beams is 4"],
    );
    refused(r#"{"num_beams": 1, "num_return_sequences": 2}"#, "{}", &["num_return_sequences", "num_beams is 1"]);
    refused(r#"{"num_return_sequences": 0}"#, "{}", &["num_return_sequences"]);
    refused(r#"{"max_new_tokens": 0}"#, "{}", &["max_new_tokens", "the command line"]);
    refused(r#"{"max_length": 1}"#, "{}", &["max_length", "no room"]);
    refused(
        r#"{"min_length": 600}"#,
        "{}",
        &["min_length", "the command line", "max_length (from config.json) allows 512"],
    );
    refused("{}", r#"{"min_new_tokens": 30, "max_length": 20}"#, &["min_new_tokens", "31", "max_length", "20"]);
    refused(r#"{"repetition_penalty": 0}"#, "{}", &["repetition_penalty", "greater than 0"]);
    refused(r#"{"encoder_repetition_penalty": -1}"#, "{}", &["encoder_repetition_penalty", "greater than 0"]);
    refused(r#"{"bad_words_ids": [[1], []]}"#, "{}", &["bad_words_ids", "empty list"]);
}

/// The user asks for less than the model's own least length: the user's limit holds, as in `transformers`.
#[test]
fn a_weaker_least_length_gives_way_with_a_warning() {
    let (config, warnings) = resolve([r#"{"max_length": 60}"#, "{}", OLD_CONFIG]).unwrap();
    assert_eq!((config.min_length, config.max_length), (60, 60));
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("min_length (from config.json)"), "{warnings:?}");
}

#[test]
fn what_is_not_supported_is_named_and_what_is_irrelevant_is_not() {
    let (_, warnings) = resolve([
        "{}",
        r#"{"do_sample": true, "num_beam_groups": 2, "penalty_alpha": 0.6, "suppress_tokens": [5], "temperature": 0.7}"#,
        r#"{"do_sample": false, "num_beam_groups": 1, "diversity_penalty": 0.0, "suppress_tokens": null,
            "begin_suppress_tokens": [], "guidance_scale": 1.0, "transformers_version": "4.57.6"}"#,
    ])
    .unwrap();
    let named = ["do_sample=true", "num_beam_groups=2", "penalty_alpha=0.6", "suppress_tokens=[5]"];
    assert_eq!(warnings.len(), named.len(), "{warnings:?}");
    for (warning, name) in warnings.iter().zip(named) {
        assert!(warning.starts_with("generation_config.json: ") && warning.contains(name), "{warning}");
    }
}

#[test]
fn a_wrong_type_names_the_file_and_the_line() {
    let read = |json| GenerationOptions::from_json(json, Path::new("model/generation_config.json"));
    let message = read("{\n  \"num_beams\": \"four\"\n}").unwrap_err().to_string();
    assert!(message.contains("model/generation_config.json") && message.contains("line 2"), "{message}");
    let message = read(r#"{"early_stopping": "sometimes"}"#).unwrap_err().to_string();
    assert!(message.contains("early_stopping: must be true, false or \"never\", not \"sometimes\""), "{message}");
    for (json, expected) in [
        (r#"{"num_beams": -1}"#, "num_beams: invalid value: integer `-1`"),
        (r#"{"num_beams": 4, "eos_token_id": "</s>"}"#, "eos_token_id: expected a token id or a list of token ids"),
        ("{\"num_beams\": 4,\n", "line 2"),
    ] {
        let message = read(json).unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} does not say {expected:?}");
    }
    let message = GenerationOptions::read(Path::new("no/such/file.json")).unwrap_err().to_string();
    assert!(message.contains("no/such/file.json"), "{message}");
}

#[test]
fn options_survive_writing_and_reading() {
    let json = r#"{"max_new_tokens": 9, "early_stopping": "never", "eos_token_id": [2, 3], "forced_eos_token_id": 2,
        "num_beams": 3, "some_field_of_tomorrow": {"a": [1]}}"#;
    let options = layer("file", json);
    assert_eq!(options.eos_token_id, Some(TokenIds::Many(vec![2, 3])));
    let written = serde_json::to_value(&options).unwrap();
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(json).unwrap());
    assert_eq!(layer("file", &written.to_string()), options);
}

#[test]
fn early_stopping_is_parsed_as_on_the_command_line() {
    assert_eq!("true".parse(), Ok(EarlyStopping::True));
    assert_eq!("false".parse(), Ok(EarlyStopping::False));
    assert_eq!("never".parse(), Ok(EarlyStopping::Never));
    assert!("maybe".parse::<EarlyStopping>().unwrap_err().contains("true, false or never"));
}

#[test]
fn rules_that_would_break_a_passage_have_no_effect_on_extracts() {
    let (config, warnings) = resolve([r#"{"extractive": true}"#, r#"{"prompt": "extract"}"#, OLD_CONFIG]).unwrap();
    assert!(config.extractive);
    assert_eq!(config.prompt, "extract");
    assert_eq!(warnings, ["no_repeat_ngram_size has no effect on extractive summaries"]);
    let (config, _) =
        resolve([r#"{"extractive": false, "prompt": ""}"#, r#"{"extractive": true, "prompt": "a"}"#, "{}"]).unwrap();
    assert!(!config.extractive && config.prompt.is_empty());
    let (config, _) =
        resolve(["{}", r#"{"extractive": true, "bos_token_id": 8, "decoder_start_token_id": 2}"#, "{}"]).unwrap();
    let message = config.check_vocabulary(8).unwrap_err().to_string();
    assert!(message.contains("bos_token_id names token 8"), "{message}");
}

#[test]
fn no_more_beams_than_the_vocabulary_has_entries() {
    let model = epitome_model::Config { vocab_size: 100, ..epitome_model::Config::default() };
    let resolve = |json: &str| {
        let layer = layer("generation_config.json", json);
        GenerationConfig::for_model(&GenerationOptions::default(), Some(&layer), &model, Path::new("config.json"))
    };
    assert_eq!(resolve(r#"{"num_beams": 100}"#).unwrap().0.num_beams, 100);
    for options in [r#"{"num_beams": 101}"#, r#"{"num_beams": 1000000000000}"#] {
        let message = resolve(options).unwrap_err().to_string();
        assert!(message.starts_with("num_beams (from generation_config.json)"), "{message}");
        assert!(message.ends_with("the vocabulary has entries, 100"), "{message}");
    }
}

#[test]
fn fields_of_config_json_that_transformers_would_not_read_are_named() {
    let fields =
        r#"{"num_beams": 4, "length_penalty": 1.0, "max_length": 142, "min_length": 56, "repetition_penalty": 1.5}"#;
    let model = epitome_model::Config::from_json(fields, Path::new("config.json")).unwrap();
    let warnings = |options: &str, saved: Option<&str>| {
        let saved = saved.map(|saved| layer("generation_config.json", saved));
        let options = layer("the command line", options);
        GenerationConfig::for_model(&options, saved.as_ref(), &model, Path::new("config.json")).unwrap().1
    };
    let saved = r#"{"max_new_tokens": 100, "decoder_start_token_id": 2, "eos_token_id": [2]}"#;
    let [warning] = warnings(r#"{"num_beams": 2}"#, Some(saved)).try_into().unwrap();
    assert!(warning.starts_with("config.json: gives min_length=56, repetition_penalty=1.5, which"), "{warning}");
    assert_eq!(warnings("{}", None), [""; 0]);
    let saved = r#"{"num_beams": 1, "max_length": 60, "min_length": 9, "repetition_penalty": 1.0, "bos_token_id": 2,
        "eos_token_id": 2}"#;
    assert_eq!(warnings("{}", Some(saved)), [""; 0]);
}

/// `transformers` then starts at what begins a text, and ends nowhere.
#[test]
fn tokens_of_config_json_that_transformers_would_not_read_are_named() {
    let named = |model: &str, saved: &str| for_model(model, Some(saved)).1.join("; ");
    let warning = named("{}", r#"{"bos_token_id": 0, "decoder_start_token_id": null, "eos_token_id": null}"#);
    assert!(warning.starts_with("config.json: gives decoder_start_token_id=2, eos_token_id=2, which"), "{warning}");
    assert_eq!(named("{}", r#"{"bos_token_id": 2, "eos_token_id": 3}"#), "");
    assert_eq!(named(r#"{"decoder_start_token_id": null, "eos_token_id": null}"#, r#"{"bos_token_id": 0}"#), "");
}

/// `save_pretrained` marks what it made of `config.json`, which version 4 of `transformers` went on to read.
#[test]
fn what_only_new_versions_do_not_read_is_said_of_them() {
    let saved = r#"{"_from_model_config": true, "decoder_start_token_id": 2, "eos_token_id": 2}"#;
    let [warning] = for_model(r#"{"num_beams": 4}"#, Some(saved)).1.try_into().unwrap();
    assert!(warning.contains("gives num_beams=4, which transformers from version 5 on does not read"), "{warning}");
    assert_eq!(for_model("{}", Some(saved)).1, [""; 0]);
}
