//! `epitome tokenizer`, `convert`, `inspect` and `bench`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor, safetensors};
use epitome_data::{Record, Tokenizer};
use epitome_decode::{GenerationOptions, Summarizer};
use epitome_kernels::Precision;
use epitome_model::{AttentionWindow, Config, Weights};

use crate::fixture::{Folder, TEXT, command, finish, model, run, write_model};

#[test]
fn a_tokenizer_is_learned_from_records() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 8);
    let output = folder.path("tokenizer");
    run(&["tokenizer", "train", "--input", &input, "--vocab-size", "280", "--output", &output]).succeeds();
    let tokenizer = Tokenizer::load(&output).unwrap();
    assert_eq!(tokenizer.vocab_size(), 280);
    let special = tokenizer.special_tokens();
    assert_eq!((special.bos, special.pad, special.eos, special.unk), (0, 1, 2, Some(3)));
    assert_eq!(tokenizer.decode(&tokenizer.encode(TEXT).unwrap()).unwrap(), TEXT);
    run(&["tokenizer", "train", "--input", &input, "--vocab-size", "100", "--output", &output])
        .misuses_naming(&["100", "too small"]);
}

#[test]
fn inspect_says_what_the_model_is() {
    let text = run(&["inspect", model(), "--tokens", "5000"]).succeeds().stdout;
    for part in ["2 layers, 2 heads", "4, 8", "64", "bos 0, pad 1, eos 2", "5,000", "parameters"] {
        assert!(text.contains(part), "`{part}`: {text}");
    }
    let folder = Folder::new();
    run(&["inspect", &folder.path("missing")]).fails_naming(&["missing"]);
}

#[test]
fn bench_prints_one_line_of_json() {
    for (what, options) in [
        ("encode", &["--tokens", "50"][..]),
        ("generate", &["--tokens", "50", "--beams", "2", "--new-tokens", "6", "--repeat", "2"]),
        ("train", &["--tokens", "50", "--target-tokens", "8"]),
    ] {
        let measured = run(&[&["bench", what, "--model", model(), "--threads", "1"], options].concat()).succeeds();
        let lines = measured.records();
        assert_eq!(lines.len(), 1, "{}", measured.stdout);
        let line = &lines[0];
        assert_eq!(line["what"], what);
        assert_eq!(line["tokens"], 50);
        assert_eq!((&line["dtype"], &line["device"], &line["threads"]), (&"f32".into(), &"cpu".into(), &1.into()));
        assert!(line["seconds"].as_f64().unwrap() >= 0.0 && line["tokens_per_second"].as_f64().unwrap() > 0.0);
        let keys: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = "what tokens dtype device threads seconds tokens_per_second peak_gib";
        assert_eq!(keys.join(" "), expected);
    }
}

#[test]
fn bench_does_with_a_model_that_writes_extracts_and_with_one_from_the_environment() {
    let folder = Folder::new();
    let directory = folder.path("model");
    fs::create_dir(&directory).unwrap();
    write_model(directory.as_ref());
    folder.write("model/generation_config.json", r#"{"extractive": true}"#);
    run(&["bench", "generate", "--model", &directory, "--tokens", "50", "--new-tokens", "6"]).succeeds();
    let train = ["bench", "train", "--tokens", "50", "--target-tokens", "8"];
    let mut with_variable = command(&train);
    with_variable.env("EPITOME_MODEL", &directory);
    finish(with_variable).succeeds();
    let mut with_nothing = command(&train);
    with_nothing.env("EPITOME_MODEL", "");
    for without in [run(&train), finish(with_nothing)] {
        assert_eq!(without.code, 2);
        assert!(without.stderr.contains("EPITOME_MODEL"), "{}", without.stderr);
    }
}

/// Renames the tiny model's tensors as `rename` says and puts two rows in front of its position tables.
fn write_ancestor(directory: &Path, rename: impl Fn(&str) -> Option<String>) -> Config {
    let config = write_model(directory);
    let weights = Weights::load(directory, &config).unwrap();
    let mut tensors: HashMap<String, Tensor> = HashMap::new();
    for (name, tensor) in weights.iter() {
        if let Some(name) = rename(name) {
            let mut tensor = tensor.clone();
            if name.ends_with("embed_positions.weight") {
                let leading = Tensor::full(9f32, (2, config.d_model), &Device::Cpu).unwrap();
                tensor = Tensor::cat(&[&leading, &tensor], 0).unwrap();
            }
            tensors.insert(name, tensor);
        }
    }
    safetensors::save(&tensors, directory.join("model.safetensors")).unwrap();
    config
}

fn rewrite_config(directory: &Path, change: impl Fn(&mut serde_json::Map<String, serde_json::Value>)) {
    let path = directory.join("config.json");
    let mut fields = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut fields);
    fs::write(path, serde_json::to_string(&fields).unwrap()).unwrap();
}

fn values(weights: &Weights, name: &str) -> Vec<f32> {
    let (_, tensor) = weights.iter().find(|(found, _)| *found == name).unwrap_or_else(|| panic!("{name}"));
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Writes a BART model of the tiny model's tensors.
fn write_bart(directory: &Path) -> Config {
    let config = write_ancestor(directory, |name| {
        let name = name.strip_prefix("led.").map_or(name.to_owned(), |inner| format!("model.{inner}"));
        if name.contains("_global.") {
            return None;
        }
        let plain = name
            .replace("longformer_self_attn.query", "q_proj")
            .replace("longformer_self_attn.key", "k_proj")
            .replace("longformer_self_attn.value", "v_proj");
        Some(plain.replace("self_attn.output", "self_attn.out_proj"))
    });
    rewrite_config(directory, |fields| {
        fields.insert("model_type".into(), "bart".into());
        fields.insert("max_position_embeddings".into(), 64.into());
        ["attention_window", "max_encoder_position_embeddings", "max_decoder_position_embeddings"]
            .iter()
            .for_each(|name| drop(fields.shift_remove(*name)));
    });
    config
}

/// A new directory in a folder, with what `write` writes there.
fn directory(folder: &Folder, name: &str, write: impl Fn(&Path) -> Config) -> (String, Config) {
    let path = folder.path(name);
    fs::create_dir(&path).unwrap();
    let config = write(path.as_ref());
    (path, config)
}

#[test]
fn bart_becomes_led() {
    let folder = Folder::new();
    let (from, config) = directory(&folder, "bart", write_bart);
    let (original, _) = directory(&folder, "original", write_model);
    let original = Weights::load(original.as_ref(), &config).unwrap();
    let to = folder.path("led");
    run(&["decode", "--model", &from, "-"]).fails_naming(&["epitome convert"]);
    let options = ["--max-encoder-positions", "150", "--attention-window", "6"];
    run(&[&["convert", "--from", &from, "--output", &to][..], &options[..]].concat()).succeeds();

    let led = Config::load(to.as_ref()).unwrap();
    assert_eq!(led.max_encoder_position_embeddings, 150);
    assert_eq!(led.max_decoder_position_embeddings, config.max_decoder_position_embeddings);
    assert_eq!(led.attention_window, AttentionWindow::Every(6));
    assert!(!led.extra.contains_key("max_position_embeddings"));
    let weights = Weights::load(to.as_ref(), &led).unwrap();
    let attention = "led.encoder.layers.1.self_attn.longformer_self_attn";
    for (local, global) in [("query", "query_global"), ("key", "key_global"), ("value", "value_global")] {
        for part in ["weight", "bias"] {
            let local = values(&weights, &format!("{attention}.{local}.{part}"));
            assert_eq!(local, values(&weights, &format!("{attention}.{global}.{part}")));
        }
    }
    let query = format!("{attention}.query.weight");
    assert_eq!(values(&weights, &query), values(&original, &query));
    let positions = "led.encoder.embed_positions.weight";
    let (tiled, table) = (values(&weights, positions), values(&original, positions));
    assert!(tiled.iter().enumerate().all(|(index, &value)| value == table[index % table.len()]));
    let text = folder.write("a.txt", TEXT);
    run(&["decode", &text, "--model", &to]).succeeds();
    run(&["convert", "--from", &to, "--output", &folder.path("again")]).fails_naming(&["LED model already"]);
}

#[test]
fn a_led_model_is_converted_to_half_its_size() {
    let folder = Folder::new();
    let half = folder.path("half");
    let shrink = ["convert", "--from", model(), "--output", &half, "--dtype", "bf16"];
    run(&[&shrink[..], &["--attention-window", "8"]].concat()).fails_naming(&["LED model already"]);
    run(&shrink).succeeds();
    let size = |directory: &str| fs::metadata(format!("{directory}/model.safetensors")).unwrap().len();
    assert!(size(&half) < size(model()) * 2 / 3);
    let score = |directory: &str| {
        let records = folder.write("scored.jsonl", r#"{"input_ids": [0, 5, 6, 2], "labels": [0, 7, 2]}"#);
        let scored = run(&["score", "--model", directory, "--input", &records]).succeeds().records();
        scored[0]["nll"].as_f64().unwrap()
    };
    assert!((score(&half) / score(model()) - 1.0).abs() < 0.02);
}

/// What could be written and never loaded.
#[test]
fn position_tables_of_another_width_are_not_converted() {
    let folder = Folder::new();
    let (from, config) = directory(&folder, "bart", write_bart);
    let weights = format!("{from}/model.safetensors");
    let tensors = safetensors::load(&weights, &Device::Cpu).unwrap();
    let to = folder.path("led");
    let name = "model.decoder.embed_positions.weight";
    for shape in [vec![26, config.d_model / 2], vec![26 * config.d_model]] {
        let mut wrong = tensors.clone();
        wrong.insert(name.into(), Tensor::ones(shape.clone(), DType::F32, &Device::Cpu).unwrap());
        safetensors::save(&wrong, &weights).unwrap();
        run(&["convert", "--from", &from, "--output", &to]).fails_naming(&[
            "model.safetensors",
            name,
            &format!("{shape:?}"),
        ]);
        assert!(!Path::new(&to).exists(), "something was written");
    }
}

#[test]
fn allenai_models_keep_their_global_projections_and_double_their_windows() {
    let folder = Folder::new();
    let to = folder.path("led");
    let (from, config) = directory(&folder, "allenai", |directory| {
        write_ancestor(directory, |name| {
            Some(name.strip_prefix("led.").map_or(name.to_owned(), |inner| format!("model.{inner}")))
        })
    });
    rewrite_config(from.as_ref(), |fields| {
        fields.insert("model_type".into(), "bart".into());
        fields.insert("attention_window".into(), serde_json::json!([2, 4]));
        fields.insert("attention_dilation".into(), serde_json::json!([1, 1]));
        fields.insert("attention_mode".into(), "sliding_chunks".into());
    });
    run(&["convert", "--from", &from, "--output", &to]).succeeds();
    let led = Config::load(to.as_ref()).unwrap();
    assert_eq!(led.attention_window, config.attention_window);
    assert_eq!(led.max_encoder_position_embeddings, config.max_encoder_position_embeddings);
    // What comes out is the model that the tensors were taken from.
    let text = folder.write("a.txt", TEXT);
    let expected = run(&["decode", &text, "--model", model(), "--format", "json"]).succeeds().stdout;
    assert_eq!(run(&["decode", &text, "--model", &to, "--format", "json"]).succeeds().stdout, expected);
    let endless = (1u64 << 63) + 2;
    rewrite_config(from.as_ref(), |fields| {
        drop(fields.insert("attention_window".into(), [endless, 4].as_slice().into()))
    });
    run(&["convert", "--from", &from, "--output", &folder.path("endless")])
        .fails_naming(&["config.json", "attention_window"]);
}

#[test]
fn relatives_that_led_cannot_express_are_refused_by_name() {
    let folder = Folder::new();
    let (from, _) = directory(&folder, "other", |directory| write_ancestor(directory, |name| Some(name.to_owned())));
    let to = folder.path("led");
    for family in ["mbart", "pegasus", "t5"] {
        rewrite_config(from.as_ref(), |fields| drop(fields.insert("model_type".into(), family.into())));
        run(&["convert", "--from", &from, "--output", &to]).fails_naming(&["config.json", family]);
    }
}

#[test]
fn a_model_in_memory_is_the_model_in_its_directory() {
    let directory = Path::new(model());
    let files: Vec<(&str, Vec<u8>)> = ["config.json", "tokenizer.json", "model.safetensors"]
        .into_iter()
        .map(|name| (name, fs::read(directory.join(name)).unwrap()))
        .collect();
    let file = |name: &str| files.iter().find(|(found, _)| *found == name).map(|(_, bytes)| bytes.as_slice());
    let options = GenerationOptions { max_new_tokens: Some(9), ..GenerationOptions::default() };
    let from_memory =
        Summarizer::from_files(file, Path::new("memory"), &options, Precision::F32, &Device::Cpu).unwrap();
    let from_directory = Summarizer::load(directory, &options, Precision::F32, &Device::Cpu).unwrap();
    let record = Record::from_text("a", TEXT);
    let summaries = [&from_memory, &from_directory].map(|summarizer| {
        let source = summarizer.source(&record, None).unwrap();
        summarizer.summarize(&[source], &mut |_| {}).unwrap()
    });
    assert_eq!(summaries[0], summaries[1]);
    let without_weights = |name: &str| file(name).filter(|_| name != "model.safetensors");
    let error = Summarizer::from_files(without_weights, Path::new("memory"), &options, Precision::F32, &Device::Cpu)
        .unwrap_err();
    assert!(error.to_string().contains("memory/model.safetensors"), "{error}");
}
