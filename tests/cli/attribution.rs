//! `epitome decode --attribute`: passages that the sentences of a summary rest on.

use std::fs;
use std::path::Path;

use epitome_data::{Tokenizer, TrainerOptions};
use epitome_model::{AttentionWindow, Config, ParameterKind, ParameterShape, SavedDtype, Weights};
use serde_json::{Value, json};

use crate::fixture::{ENCODER_POSITIONS, Folder, TEXT, model, run};

/// What [`write_copier`]'s model always writes.
const SUMMARY: &str = "Cats chase grey mice! Birds build warm nests.";

const FILLER: &str = "Grüße 😀 — nothing of this is of any use to somebody who wants to know about it, they say.";

/// Writes a model that always writes [`SUMMARY`], and looks at the places of a document that hold the token it has read
/// last. Embeddings are the unit vectors; a layer norm leaves them as good as they are. In cross-attention queries and keys
/// are the tokens themselves; the feed-forward layer turns a token into the one behind it. All else is zero.
fn write_copier(directory: &Path) {
    let texts = vec![SUMMARY; 50];
    let tokenizer = Tokenizer::train(texts.into_iter().map(Ok), &TrainerOptions::new(400)).unwrap();
    tokenizer.save(directory).unwrap();
    let written = [&[2], &tokenizer.encode(SUMMARY).unwrap()[..], &[2]].concat();
    let size = tokenizer.vocab_size();
    for (index, token) in written[1..].iter().enumerate() {
        assert!(!written[1..=index].contains(token), "one token follows each: {written:?}");
    }
    let config = Config {
        vocab_size: size,
        d_model: size,
        encoder_layers: 1,
        decoder_layers: 1,
        encoder_attention_heads: 1,
        decoder_attention_heads: 1,
        encoder_ffn_dim: 8,
        decoder_ffn_dim: size,
        max_encoder_position_embeddings: 1024,
        max_decoder_position_embeddings: 64,
        attention_window: AttentionWindow::PerLayer(vec![8]),
        ..Config::default()
    };
    config.save(directory).unwrap();
    fs::write(directory.join("generation_config.json"), r#"{"num_beams": 2, "max_new_tokens": 40}"#).unwrap();
    let values = |parameter: &ParameterShape| {
        let mut values = vec![0.0; parameter.shape.iter().product()];
        let name = parameter.name.as_str();
        if parameter.kind == ParameterKind::NormWeight {
            values.fill(1.0);
        } else if ["shared.weight", "encoder_attn.q_proj.weight", "encoder_attn.k_proj.weight"]
            .iter()
            .any(|one| name.ends_with(one))
            || name == "led.decoder.layers.0.fc1.weight"
        {
            (0..size).for_each(|token| values[token * size + token] = 1.0);
        } else if name == "led.decoder.layers.0.fc2.weight" {
            written.windows(2).for_each(|pair| values[pair[1] as usize * size + pair[0] as usize] = 10.0);
        }
        values
    };
    Weights::from_values(&config, Path::new("test"), values).unwrap().save(directory, SavedDtype::F32).unwrap();
}

fn decode(folder: &Folder, directory: &str, lines: &[Value], extra: &[&str]) -> Vec<Value> {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    let input = folder.write("in.jsonl", lines.join("\n"));
    run(&[&["decode", "--input", &input, "--model", directory, "--attribute"], extra].concat()).succeeds().records()
}

/// The characters of `text` from `start` to `end` of a part of the record.
#[track_caller]
fn slice(text: &Value, part: &Value) -> String {
    let [start, end] = ["start", "end"].map(|name| part[name].as_u64().unwrap() as usize);
    text.as_str().unwrap().chars().skip(start).take(end - start).collect()
}

/// Checks the form of the attribution of a summary: offsets, the order and sum of the weights.
#[track_caller]
fn check_form(summary: &Value, input: &Value) {
    let attribution = summary["attribution"].as_array().unwrap();
    for sentence in attribution {
        assert_eq!(sentence["sentence"], slice(&summary["summary"], sentence));
        let passages = sentence["passages"].as_array().unwrap();
        assert!(passages.len() <= 5);
        for passage in passages.iter().chain(sentence.get("best_overlap")) {
            let document = match passage.get("document") {
                Some(index) => &input["documents"][index.as_u64().unwrap() as usize],
                None => &input["document"],
            };
            assert_eq!(passage["text"], slice(document, passage));
            assert!((0.0..=1.0).contains(&passage["overlap"].as_f64().unwrap()));
        }
        let weights: Vec<f64> = passages.iter().map(|passage| passage["weight"].as_f64().unwrap()).collect();
        assert!(weights.is_sorted_by(|a, b| a >= b), "{weights:?}");
        let sum: f64 = weights.iter().sum();
        assert!(sum < 1.00001, "{sum}");
        if passages.len() < 5 {
            assert!(sum > 0.99999, "all passages are listed: {sum}");
        }
    }
    let sentences: String = attribution.iter().map(|one| one["sentence"].as_str().unwrap()).collect();
    let letters = |text: &str| text.split_whitespace().collect::<String>();
    assert_eq!(letters(&sentences), letters(summary["summary"].as_str().unwrap()));
}

#[test]
fn the_copied_passages_are_cited() {
    let folder = Folder::new();
    let directory = folder.path("model");
    fs::create_dir(&directory).unwrap();
    write_copier(Path::new(&directory));
    let document =
        format!("{FILLER} It is known that Cats chase grey mice! {FILLER} So Birds build warm nests. {FILLER}");
    let plain = json!({"id": "plain", "document": document});
    let several = json!({"id": "several", "documents": [FILLER, "", document]});
    let asked =
        json!({"id": "asked", "document": document, "query": "Do Birds build warm nests? Cats chase grey mice!"});
    let lines = [plain, several, asked];
    for precision in ["f32", "bf16", "int8"] {
        let records = decode(&folder, &directory, &lines, &["--precision", precision]);
        for (record, input) in records.iter().zip(&lines) {
            check_form(record, input);
            assert_eq!(record["summary"], SUMMARY);
            let attribution = record["attribution"].as_array().unwrap();
            assert_eq!(attribution.len(), 2);
            for (sentence, wanted) in attribution.iter().zip(["Cats chase grey mice!", "Birds build warm nests."]) {
                assert_eq!(sentence["sentence"], wanted);
                let first = &sentence["passages"][0];
                assert!(first["text"].as_str().unwrap().contains(wanted), "{precision}: {sentence}");
                assert!(first["weight"].as_f64().unwrap() > 0.6, "{precision}: {sentence}");
                assert_eq!(first["overlap"], 1.0);
                assert!(sentence.get("best_overlap").is_none());
                let number = if input["id"] == "several" { json!(2) } else { Value::Null };
                assert_eq!(first["document"], number);
            }
        }
    }
}

#[test]
fn attribution_changes_no_summary_and_no_batch_mate_changes_it() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 7);
    let long =
        folder.write("long.jsonl", json!({"id": "long", "document": format!("{FILLER} {TEXT}").repeat(4)}).to_string());
    for (input, count) in [(&input, 7), (&long, 1)] {
        for precision in ["f32", "int8"] {
            let decode = |extra: &[&str]| {
                let options = ["--num-beams", "3", "--num-return-sequences", "2", "--precision", precision];
                run(&[&["decode", "--input", input, "--model", model()], &options[..], extra].concat()).succeeds()
            };
            let attributed = decode(&["--attribute"]);
            let mut records = attributed.records();
            assert_eq!(decode(&["--attribute", "--batch-size", "1", "--threads", "1"]).stdout, attributed.stdout);
            for record in &mut records {
                let sequences: Vec<Value> = record["sequences"].as_array().unwrap().clone();
                assert_eq!(sequences[0]["attribution"], record["attribution"]);
                assert!(sequences.iter().all(|sequence| sequence["attribution"].is_array()));
                record.as_object_mut().unwrap().remove("attribution");
                for sequence in record["sequences"].as_array_mut().unwrap() {
                    sequence.as_object_mut().unwrap().remove("attribution");
                }
            }
            assert_eq!(records, decode(&[]).records());
            assert_eq!(records.len(), count);
        }
    }
}

#[test]
fn documents_of_all_kinds_have_attributions_of_the_right_form() {
    let folder = Folder::new();
    let lines = [
        json!({"id": "long", "document": format!("{FILLER} {TEXT}\n\n").repeat(5)}),
        json!({"id": "empty", "document": " \n"}),
        json!({"id": "several", "documents": [TEXT, "", FILLER, "x"], "query": "Which?"}),
        json!({"id": "letter", "document": "é"}),
    ];
    for limit in [&[][..], &["--max-document-tokens", "90"]] {
        let records = decode(&folder, model(), &lines, limit);
        assert!(records[0]["document_tokens"].as_u64().unwrap() > ENCODER_POSITIONS as u64);
        assert_eq!(records[1]["attribution"], json!([]));
        records.iter().zip(&lines).for_each(|(record, input)| check_form(record, input));
        assert!(records.iter().all(|record| record["truncated_tokens"] == 0) == limit.is_empty());
    }
}

#[test]
fn an_attributed_run_is_resumed() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 4);
    let output = folder.path("out.jsonl");
    let arguments = ["decode", "--input", &input, "--model", model(), "--output", &output, "--attribute"];
    run(&arguments).succeeds();
    let whole = folder.read("out.jsonl");
    fs::write(&output, &whole[..whole.len() / 2]).unwrap();
    run(&[&arguments[..], &["--resume"]].concat()).succeeds();
    assert_eq!(folder.read("out.jsonl"), whole);
}

#[test]
fn text_output_and_token_ids_are_refused() {
    let folder = Folder::new();
    let file = folder.write("a.txt", TEXT);
    let refused = run(&["decode", &file, "--model", model(), "--attribute", "--format", "text"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("--attribute") && refused.stderr.contains("--format json"), "{}", refused.stderr);
    let records = run(&["decode", &file, "--model", model(), "--attribute"]).succeeds().records();
    check_form(&records[0], &json!({"document": TEXT}));
    let ids = folder
        .write("ids.jsonl", "{\"id\": \"t\", \"input_ids\": [0, 9, 2]}\n{\"id\": \"u\", \"document\": \"a b\"}\n");
    let arguments = ["decode", "--input", &ids, "--model", model(), "--attribute"];
    run(&arguments).fails_naming(&["ids.jsonl:1", "`t`", "token ids"]);
    let skipped = run(&[&arguments[..], &["--skip-bad-records"]].concat()).succeeds();
    assert_eq!(skipped.records()[0]["id"], "u");
}
