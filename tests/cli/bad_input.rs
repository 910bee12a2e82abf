//! Every bad input has its one clear error and its exit code.

use std::fs;
use std::process::Stdio;

use crate::fixture::{Folder, TEXT, command, model, run, tiny_config, write_model};

/// A copy of the tiny model that a test may damage.
fn copied_model(folder: &Folder) -> String {
    let directory = folder.path("model");
    fs::create_dir(&directory).unwrap();
    write_model(directory.as_ref());
    directory
}

#[test]
fn wrong_usage_exits_2() {
    let folder = Folder::new();
    let file = folder.write("a.txt", TEXT);
    for arguments in [
        &["decode", "--no-such-option"][..],
        &["no-such-command"],
        &[],
        &["decode", &file, "--num-beams", "many", "--model", model()],
        &["decode", &file, "--num-beams", "0", "--model", model()],
        &["decode", &file, "--early-stopping", "perhaps", "--model", model()],
        &["decode", &file, "--resume", "--model", model()],
        &["decode", &file, "--input", &file, "--model", model()],
        &["decode", &file, "--threads", "0", "--model", model()],
        &["decode", &file, "--threads", "1025", "--model", model()],
        &["tokenizer", "train", "--input", &file, "--output", &file, "--vocab-size", "0"],
        &["decode", &file, "--device", "tpu", "--model", model()],
        &["train"],
        &["train", "--config", &file, "--set", "foo"],
        &["train", "--config", &file, "--set", "run.max_steps=1", "batch_size=2"],
        &["train", "--config", &file, "--find-learning-rate", "--sweep-steps", "9"],
        &["train", "--config", &file, "--find-learning-rate", "--sweep-start", "0"],
        &["train", "--config", &file, "--find-learning-rate", "--sweep-end", "inf"],
        &["train", "--config", &file, "--resume", "--sweep-steps", "20"],
        &["bench", "generate", "--model", model(), "--tokens", "50", "--beams", "301"],
        &["inspect", model(), "--tokens", "0"],
        &["inspect", model(), "--tokens", "18446744073709551615"],
        &["inspect", model(), "--target-tokens", "0"],
        &["inspect", model(), "--num-beams", "0"],
        &["evaluate"],
        &["evaluate", "--predictions", &file],
        &["evaluate", "--predictions", &file, "--references", &file, "--prompt", "digest"],
        &["evaluate", "--predictions", &file, "--references", &file, "--data", &file],
    ] {
        let outcome = run(arguments);
        assert_eq!(outcome.code, 2, "{arguments:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_is_there_for_every_command() {
    for command in ["decode", "score", "train", "evaluate", "tokenizer", "convert", "inspect", "bench"] {
        let help = run(&[command, "--help"]).succeeds().stdout;
        assert!(help.contains("Usage: epitome"), "{command}: {help}");
    }
    assert!(run(&["help"]).succeeds().stdout.contains("decode"));
}

#[test]
fn a_missing_file_is_named() {
    let folder = Folder::new();
    let missing = folder.path("missing.txt");
    run(&["decode", &missing, "--model", model()]).fails_naming(&[&missing]);
    run(&["decode", "--input", &missing, "--model", model()]).fails_naming(&[&missing]);
    let file = folder.write("a.txt", TEXT);
    run(&["decode", &file, "--model", &missing]).fails_naming(&[&missing]);
}

#[test]
fn a_truncated_weight_file_is_named() {
    let folder = Folder::new();
    let directory = copied_model(&folder);
    let weights = format!("{directory}/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    let file = folder.write("a.txt", TEXT);
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&weights, &bytes[..length]).unwrap();
        run(&["decode", &file, "--model", &directory]).fails_naming(&["model.safetensors"]);
    }
    fs::remove_file(&weights).unwrap();
    run(&["decode", &file, "--model", &directory]).fails_naming(&[&directory, "model.safetensors"]);
}

#[test]
fn a_wrong_shape_names_the_tensor_both_shapes_and_the_file() {
    let folder = Folder::new();
    let directory = copied_model(&folder);
    let mut config = tiny_config(300);
    config.vocab_size = write_model(directory.as_ref()).vocab_size;
    config.encoder_ffn_dim = 48;
    config.save(directory.as_ref()).unwrap();
    let file = folder.write("a.txt", TEXT);
    run(&["decode", &file, "--model", &directory]).fails_naming(&[
        "model.safetensors",
        "led.encoder.layers.0.fc1.weight",
        "[32, 16]",
        "[48, 16]",
    ]);
}

#[test]
fn a_missing_tensor_is_named() {
    let folder = Folder::new();
    let directory = copied_model(&folder);
    let mut config = tiny_config(300);
    config.vocab_size = write_model(directory.as_ref()).vocab_size;
    config.decoder_layers = 3;
    config.save(directory.as_ref()).unwrap();
    let file = folder.write("a.txt", TEXT);
    run(&["decode", &file, "--model", &directory]).fails_naming(&["model.safetensors", "led.decoder.layers.2."]);
}

/// One that is too large would be allocated, listed or multiplied before anybody misses its weights.
#[test]
fn sizes_that_no_model_has_are_refused_by_field() {
    let folder = Folder::new();
    let directory = copied_model(&folder);
    let before = folder.read("model/config.json");
    let fields: serde_json::Value = serde_json::from_str(&before).unwrap();
    for (field, size) in [
        ("vocab_size", i64::MAX as u64),
        ("max_encoder_position_embeddings", 1 << 32),
        ("max_decoder_position_embeddings", u64::MAX),
        ("encoder_layers", 1 << 50),
        ("decoder_layers", 1 << 50),
        ("decoder_ffn_dim", 1 << 40),
        ("d_model", 1 << 40),
        ("attention_window", 1 << 40),
    ] {
        let mut changed = fields.clone();
        changed[field] = size.into();
        fs::write(format!("{directory}/config.json"), changed.to_string()).unwrap();
        run(&["inspect", &directory]).fails_naming(&["config.json", field, &size.to_string()]);
    }
    let records = folder.records("train.jsonl", 2);
    let recipe = folder.write("run.toml", format!("[model]\nvocab_size = {}\n[data]\ntrain = {records:?}\n", i64::MAX));
    run(&["train", "--config", &recipe, "--output", &folder.path("run")]).fails_naming(&["vocab_size"]);
}

#[test]
fn another_kind_of_model_is_refused_by_name() {
    let folder = Folder::new();
    let directory = copied_model(&folder);
    fs::write(format!("{directory}/config.json"), r#"{"model_type": "pegasus"}"#).unwrap();
    let file = folder.write("a.txt", TEXT);
    run(&["decode", &file, "--model", &directory]).fails_naming(&["config.json", "pegasus"]);
}

#[test]
fn text_that_is_not_utf8_is_named_with_its_place() {
    let folder = Folder::new();
    let file = folder.write("latin1.txt", b"caf\xe9 au lait");
    run(&["decode", &file, "--model", model()]).fails_naming(&["latin1.txt", "UTF-8", "byte 3"]);
    let records = folder.write("latin1.jsonl", b"{\"document\": \"good\"}\n{\"document\": \"caf\xe9\"}\n");
    run(&["decode", "--input", &records, "--model", model()]).fails_naming(&["latin1.jsonl:2", "UTF-8"]);
}

#[test]
fn records_are_not_summarized_as_prose() {
    let folder = Folder::new();
    let records = folder.records("one.jsonl", 1);
    run(&["decode", &records, "--model", model()]).fails_naming(&["one.jsonl", "--input"]);
}

#[test]
fn a_json_error_in_line_7_is_named_and_can_be_skipped() {
    let folder = Folder::new();
    let good = folder.records("good.jsonl", 9);
    let mut lines: Vec<String> = fs::read_to_string(good).unwrap().lines().map(str::to_owned).collect();
    lines[6] = r#"{"id": "r6", "document": "no end"#.into();
    let input = folder.write("bad.jsonl", lines.join("\n"));
    let arguments = ["decode", "--input", &input, "--model", model(), "--num-beams", "1"];
    run(&arguments).fails_naming(&["bad.jsonl:7", "JSON"]);
    let skipped = run(&[&arguments[..], &["--skip-bad-records"]].concat()).succeeds();
    assert_eq!(skipped.records().len(), 8);
    assert!(
        skipped.stderr.contains("skipped 1 bad record\n") && skipped.stderr.contains("bad.jsonl:7"),
        "{}",
        skipped.stderr
    );
}

#[test]
fn what_is_complete_before_a_bad_record_is_kept() {
    let folder = Folder::new();
    let input = folder.write("bad.jsonl", "{\"id\":\"a\",\"document\":\"words\"}\nnot JSON\n");
    let output = folder.path("out.jsonl");
    let arguments = ["decode", "--input", &input, "--model", model(), "--output", &output, "--batch-size", "4"];
    run(&arguments).fails_naming(&["bad.jsonl:2"]);
    assert_eq!(folder.read("out.jsonl").lines().count(), 1);
}

#[test]
fn an_unwritable_output_is_named() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 1);
    let nowhere = folder.path("no/such/folder/out.jsonl");
    run(&["decode", "--input", &input, "--model", model(), "--output", &nowhere]).fails_naming(&[&nowhere]);
    let directory = folder.path("");
    run(&["decode", "--input", &input, "--model", model(), "--output", &directory]).fails_naming(&[&directory]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 1);
    let arguments = ["decode", "--input", &input, "--model", model()];
    run(&[&arguments[..], &["--output", "/dev/full"]].concat()).fails_naming(&["/dev/full", "No space left"]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut redirected = command(&arguments);
    redirected.stdout(full).stderr(Stdio::piped());
    let outcome = redirected.output().unwrap();
    assert_eq!(outcome.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&outcome.stderr).contains("No space left"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 3);
    for arguments in [
        &["decode", "--input", &input, "--model", model(), "--batch-size", "1"][..],
        &["inspect", model()],
        &["evaluate", "--predictions", &input, "--references", &input],
    ] {
        let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let outcome = child.wait_with_output().unwrap();
        assert!(outcome.status.success(), "{arguments:?}");
        assert!(outcome.stderr.is_empty(), "{}", String::from_utf8_lossy(&outcome.stderr));
    }
}

#[test]
fn what_this_build_cannot_do_is_said() {
    let folder = Folder::new();
    let file = folder.write("a.txt", TEXT);
    run(&["decode", &file, "--model", model(), "--device", "cuda:1"]).fails_naming(&["cuda:1", "--device cpu"]);
}

#[test]
fn contradicting_generation_options_are_named() {
    let folder = Folder::new();
    let file = folder.write("a.txt", TEXT);
    let decode = |options: &[&str]| run(&[&["decode", &file, "--model", model()][..], options].concat());
    let wrong: [(&[&str], &[&str]); 6] = [
        (&["--num-beams", "1000000000000"], &["num_beams", "vocabulary"]),
        (&["--num-beams", "2", "--num-return-sequences", "3"], &["num_return_sequences", "num_beams"]),
        (&["--min-length", "50", "--max-length", "10"], &["min_length", "max_length"]),
        (&["--repetition-penalty", "0"], &["repetition_penalty"]),
        (&["--length-penalty", "nan"], &["length_penalty"]),
        (&["--length-penalty", "-1e308"], &["length_penalty"]),
    ];
    for (options, named) in wrong {
        let outcome = decode(options);
        assert_eq!(outcome.code, 2, "{options:?}: {}", outcome.stderr);
        assert!(named.iter().all(|name| outcome.stderr.contains(name)), "{}", outcome.stderr);
    }
}

#[test]
fn a_tokenizer_with_more_entries_than_the_model_is_refused_before_a_record_is_read() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 2);
    let tokenizer = folder.path("tokenizer");
    let made = ["tokenizer", "train", "--input", &records, "--vocab-size", "310", "--output", &tokenizer];
    run(&made).succeeds();
    let config = folder.write("run.toml", format!("[model]\npath = {:?}\n\n[data]\ntrain = {records:?}\n", model()));
    let (output, tokenizer) = (folder.path("run"), format!("model.tokenizer={tokenizer}"));
    let validation = format!("data.validation={records}");
    for generate in ["run.predict_with_generate=false", "run.predict_with_generate=true"] {
        let settings = ["--set", &tokenizer, &validation, generate];
        run(&[&["train", "--config", &config, "--output", &output][..], &settings].concat()).fails_naming(&[
            model(),
            &folder.path("tokenizer"),
            "289 entries",
            "vocab_size must be at least 288",
            "it is 285",
        ]);
    }
}
