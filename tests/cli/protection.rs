//! What must not be lost, and what must not pass without a word.

use std::fs;

use candle_core::{Device, safetensors};
use epitome_data::content_hash;
use epitome_model::Config;
use serde_json::{Map, Value, json};

use crate::fixture::{DECODER_POSITIONS, ENCODER_POSITIONS, Folder, TEXT, command, finish, model, run, write_model};

#[test]
fn an_output_that_is_the_input_is_refused() {
    let folder = Folder::new();
    let input = folder.records("predictions.jsonl", 2);
    let before = folder.read("predictions.jsonl");
    for command in ["decode", "score"] {
        run(&[command, "--input", &input, "--output", &input, "--model", model()]).misuses_naming(&[&input]);
    }
    run(&["evaluate", "--data", &input, "--output", &folder.path(""), "--model", model()]).misuses_naming(&[&input]);
    let evaluate = ["evaluate", "--predictions", &input, "--references", &input, "--append-results", &input];
    run(&evaluate).misuses_naming(&[&input, "another --append-results"]);
    let text = folder.write("a.txt", TEXT);
    run(&["decode", &text, "--output", &text, "--model", model()]).misuses_naming(&[&text]);
    assert_eq!((folder.read("predictions.jsonl"), folder.read("a.txt")), (before, TEXT.to_owned()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_cannot_be_resumed() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 1);
    let arguments = ["decode", "--input", &input, "--model", model(), "--resume", "--output", "/dev/null"];
    run(&arguments).fails_naming(&["/dev/null", "regular file"]);
}

#[test]
fn records_that_cannot_be_used_are_skipped_and_listed() {
    let folder = Folder::new();
    let lines = [
        json!({"id": "good", "input_ids": [0, 5, 2], "labels": [0, 6, 2]}),
        json!({"id": "untargeted", "input_ids": [0, 5, 2]}),
        json!({"id": "outside", "input_ids": [0, 99_999, 2], "labels": [0, 2]}),
        json!({"id": "last", "input_ids": [0, 7, 2], "labels": [0, 2]}),
    ];
    let input = folder.write("in.jsonl", lines.map(|line| line.to_string()).join("\n"));
    let score = ["score", "--input", &input, "--model", model()];
    run(&score).fails_naming(&["in.jsonl:2"]);
    let skipped = run(&[&score[..], &["--skip-bad-records"]].concat()).succeeds();
    assert_eq!(skipped.records().iter().map(|record| record["id"].clone()).collect::<Vec<_>>(), ["good", "last"]);
    for part in ["2 bad record", "in.jsonl:2", "in.jsonl:3"] {
        assert!(skipped.stderr.contains(part), "{}", skipped.stderr);
    }
    let decode = ["decode", "--input", &input, "--model", model(), "--num-beams", "1", "--skip-bad-records"];
    let decoded = run(&decode).succeeds();
    assert_eq!(decoded.records().len(), 3);
    assert!(decoded.stderr.contains("in.jsonl:3"), "{}", decoded.stderr);
}

#[test]
fn tiled_positions_are_said_of_documents_and_summaries() {
    let folder = Folder::new();
    let ids: Vec<usize> = (0..=ENCODER_POSITIONS).map(|index| 5 + index).collect();
    let labels: Vec<usize> = (0..=DECODER_POSITIONS).map(|index| 5 + index).collect();
    let input = folder.write("in.jsonl", json!({"input_ids": ids, "labels": labels}).to_string());
    let scored = run(&["score", "--input", &input, "--model", model()]).succeeds();
    let tokens = (DECODER_POSITIONS + 10).to_string();
    let decode =
        ["decode", "--input", &input, "--model", model(), "--min-new-tokens", &tokens, "--max-new-tokens", &tokens];
    let decoded = run(&decode).succeeds();
    for stderr in [scored.stderr.clone(), decoded.stderr.clone()] {
        for table in ["encoder's position table", "decoder's position table"] {
            assert_eq!(stderr.matches(table).count(), 1, "{stderr}");
        }
    }
    let record = &decoded.records()[0];
    assert_eq!((&record["positions_tiled"], &record["summary_positions_tiled"]), (&json!(true), &json!(true)));
}

#[test]
fn a_score_that_is_no_number_is_an_error() {
    let folder = Folder::new();
    let directory = folder.path("model");
    fs::create_dir(&directory).unwrap();
    write_model(directory.as_ref());
    let path = folder.path("model/model.safetensors");
    let mut tensors = safetensors::load(&path, &Device::Cpu).unwrap();
    let name = "led.decoder.layernorm_embedding.bias".to_owned();
    let broken = (tensors[&name].clone() * f64::NAN).unwrap();
    tensors.insert(name, broken);
    safetensors::save(&tensors, &path).unwrap();
    let input = folder.records("in.jsonl", 1);
    run(&["score", "--input", &input, "--model", &directory]).fails_naming(&["r0"]);
}

#[test]
fn data_that_cannot_be_evaluated_is_found_before_decoding() {
    let folder = Folder::new();
    let good = json!({"id": "a", "document": TEXT, "summary": "words"}).to_string();
    let unreferenced = json!({"id": "b", "document": TEXT}).to_string();
    let output = folder.path("report");
    for (bad, named) in [(&good, "`a`"), (&unreferenced, "`b`")] {
        let input = folder.write("in.jsonl", format!("{good}\n{bad}\n"));
        let arguments = ["evaluate", "--data", &input, "--model", model(), "--output", &output];
        run(&arguments).fails_naming(&["in.jsonl:2", named]);
        assert!(!fs::exists(&output).unwrap(), "nothing was decoded");
    }
}

#[test]
fn options_of_decoding_mean_nothing_to_predictions() {
    let folder = Folder::new();
    let file = folder.records("a.jsonl", 1);
    let arguments = ["evaluate", "--predictions", &file, "--references", &file];
    let options: [&[&str]; 6] = [
        &["--num-beams", "7"],
        &["--device", "cuda"],
        &["--model", model()],
        &["--batch-size", "2"],
        &["--max-document-tokens", "9"],
        &["--skip-bad-records"],
    ];
    for option in options {
        assert_eq!(run(&[&arguments[..], option].concat()).code, 2, "{option:?}");
    }
    run(&arguments).succeeds();
}

#[test]
fn a_file_with_more_layers_than_its_configuration_is_refused() {
    let folder = Folder::new();
    let directory = folder.path("model");
    fs::create_dir(&directory).unwrap();
    let config = write_model(directory.as_ref());
    Config { encoder_layers: 1, attention_window: epitome_model::AttentionWindow::Every(4), ..config }
        .save(directory.as_ref())
        .unwrap();
    let text = folder.write("a.txt", TEXT);
    run(&["decode", &text, "--model", &directory]).fails_naming(&["model.safetensors", "led.encoder.layers.1."]);
}

#[test]
fn a_run_is_not_continued_as_another() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 4);
    let recipe = format!("[model]\npath = {:?}\n[data]\ntrain = {records:?}\n[run]\nmax_steps = 2\n", model());
    let recipe = folder.write("run.toml", recipe);
    let output = folder.path("run");
    let train = |more: &[&str]| run(&[&["train", "--config", &recipe, "--output", &output][..], more].concat());
    train(&["--set", "run.save_steps=0"]).succeeds();
    train(&["--set", "run.save_steps=0"]).fails_naming(&["run/", "already holds"]);
    train(&["--resume"]).fails_naming(&["model.safetensors", "no checkpoint"]);
    fs::remove_dir_all(&output).unwrap();
    train(&[]).succeeds();
    for change in ["objectives={ denoise = 1.0 }", "denoise.length=7", "gap_sentences.ratio=0.2"] {
        let named = change.split(['.', '=']).next().unwrap();
        train(&["--resume", "--set", &format!("data.{change}")]).fails_naming(&["config.toml", "data.", named]);
    }
    train(&["--resume", "--set", "run.seed=7"]).fails_naming(&["config.toml", "run.seed", "was 42 and is 7"]);
    train(&["--resume", "--set", "model.attention_window=16"]).fails_naming(&["config.toml", "model.attention_window"]);
    train(&["--resume", "--set", "run.max_steps=1"]).fails_naming(&["step 2"]);
    train(&["--resume", "--set", "run.max_steps=3"]).succeeds();
    // Written by an older version, which took numbers that TOML lacks.
    let seed = folder.read("run/config.toml").replace("seed = 42", "seed = 9223372036854775808");
    folder.write("run/config.toml", seed);
    train(&["--resume", "--set", "run.max_steps=4"]).fails_naming(&["run/config.toml", "too large"]);
}

/// What a run leaves says where it lies, as text.
#[cfg(unix)]
#[test]
fn an_output_whose_name_is_not_utf8_is_refused_before_it_is_made() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 4);
    let recipe = folder.write("run.toml", format!("[model]\npath = {:?}\n[data]\ntrain = {records:?}\n", model()));
    for resume in [&[][..], &["--resume"]] {
        let mut training = command(&[&["train", "--config", &recipe][..], resume].concat());
        training.current_dir(folder.path("")).arg("--output").arg(std::ffi::OsStr::from_bytes(b"run\xff"));
        finish(training).fails_naming(&["--output", "run.output", "UTF-8"]);
        assert_eq!(fs::read_dir(folder.path("")).unwrap().count(), 2, "the records and the recipe");
    }
}

#[test]
fn a_run_is_not_continued_with_other_records() {
    let folder = Folder::new();
    let recipe = format!(
        "[model]\npath = {:?}\n[data]\ntrain = \"train.jsonl\"\nskip_bad_records = true\n[run]\nmax_steps = 2\n\
         gradient_accumulation_steps = 1\n[optim]\nlr_scheduler_type = \"constant\"\n",
        model()
    );
    let recipe = folder.write("run.toml", recipe);
    let train = |place: &str, more: &[&str]| {
        let output = folder.path("run");
        let mut training = command(&[&["train", "--config", &recipe, "--output", &output][..], more].concat());
        training.current_dir(folder.path(place));
        finish(training)
    };
    folder.records("train.jsonl", 4);
    train("", &[]).succeeds();
    let records = folder.read("train.jsonl");
    // Where the files lie makes no difference, what they hold does.
    fs::create_dir(folder.path("moved")).unwrap();
    folder.write("moved/train.jsonl", &records);
    train("moved", &["--resume", "--set", "run.max_steps=3"]).succeeds();
    for changed in [records.replace("few words", "some words"), records.lines().take(3).collect::<Vec<_>>().join("\n")]
    {
        folder.write("train.jsonl", changed);
        train("", &["--resume", "--set", "run.max_steps=4"]).fails_naming(&["state.json", "data.train", "4 records"]);
    }
    // A run that was begun by an older version goes on, from here with what it finds.
    let object =
        |name: &str| serde_json::from_str::<Map<_, _>>(&folder.read(&format!("run/checkpoint-3/{name}"))).unwrap();
    let write = |name: &str, object: Map<_, _>| {
        folder.write(&format!("run/checkpoint-3/{name}"), Value::Object(object).to_string())
    };
    let (mut state, mut checksums) = (object("state.json"), object("checksums.json"));
    assert!(state.shift_remove("training_data").is_some());
    let state = write("state.json", state);
    checksums["state.json"] = content_hash(state.as_ref()).unwrap().to_hex().as_str().into();
    write("checksums.json", checksums);
    train("", &["--resume", "--set", "run.max_steps=4"]).succeeds();
    train("moved", &["--resume", "--set", "run.max_steps=5"]).fails_naming(&["data.train", "3 records"]);
}

#[test]
fn a_run_begun_before_a_key_existed_goes_on() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 4);
    let recipe = format!("[model]\npath = {:?}\n[data]\ntrain = {records:?}\n[run]\nmax_steps = 2\n", model());
    let recipe = folder.write("run.toml", recipe);
    let train =
        |more: &[&str]| run(&[&["train", "--config", &recipe, "--output", &folder.path("run")][..], more].concat());
    train(&[]).succeeds();
    let lines = folder.read("run/config.toml");
    let older = lines.lines().filter(|line| !line.starts_with("parallel_micro_batches"));
    folder.write("run/config.toml", older.flat_map(|line| [line, "\n"]).collect::<String>());
    train(&["--resume", "--set", "run.max_steps=3"]).succeeds();
}

#[test]
fn a_run_without_a_checkpoint_begins_again_as_itself() {
    let folder = Folder::new();
    let records = folder.records("train.jsonl", 4);
    let recipe = format!(
        "[model]\npath = {:?}\n[data]\ntrain = {records:?}\n[optim]\nlearning_rate = 1e38\n\
         lr_scheduler_type = \"constant\"\n[run]\nsave_steps = 0\n",
        model()
    );
    let recipe = folder.write("run.toml", recipe);
    let train =
        |more: &[&str]| run(&[&["train", "--config", &recipe, "--output", &folder.path("run")][..], more].concat());
    train(&[]).fails_naming(&["step 2"]);
    train(&[]).fails_naming(&["--resume"]);
    train(&["--resume", "--set", "run.seed=9"]).fails_naming(&["run.seed"]);
    let again = train(&["--resume", "--set", "optim.learning_rate=1e-3"]).succeeds();
    assert!(again.stderr.contains("no checkpoint"), "{}", again.stderr);
}

#[test]
fn a_model_directory_is_no_place_for_anything_else() {
    let folder = Folder::new();
    let directory = folder.path("model");
    fs::create_dir(&directory).unwrap();
    write_model(directory.as_ref());
    let kept = |name: &str| fs::read(folder.path(&format!("model/{name}"))).unwrap();
    let before = kept("config.json");
    let records = folder.records("train.jsonl", 4);
    let recipe = format!("[model]\npath = {:?}\n[data]\ntrain = {records:?}\n[run]\nmax_steps = 1\n", model());
    let recipe = folder.write("run.toml", recipe);
    fs::rename(folder.path("model/model.safetensors"), folder.path("model/pytorch_model.bin")).unwrap();
    run(&["train", "--config", &recipe, "--output", &directory]).fails_naming(&["already holds a model"]);
    fs::rename(folder.path("model/pytorch_model.bin"), folder.path("model/model.safetensors")).unwrap();
    let bart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/bart");
    run(&["convert", "--from", bart, "--output", &directory]).fails_naming(&["already holds a model"]);
    let tokenizer = kept("tokenizer.json");
    run(&["tokenizer", "train", "--input", &records, "--vocab-size", "290", "--output", &directory])
        .fails_naming(&["already holds a model", "--output"]);
    assert!(kept("tokenizer.json") == tokenizer, "the tokenizer has changed");
    let text = folder.write("a.txt", TEXT);
    let output = format!("{directory}/config.json");
    run(&["decode", &text, "--model", &directory, "--output", &output]).misuses_naming(&["config.json"]);
    run(&["score", "--input", &records, "--model", &directory, "--output", &output]).misuses_naming(&["config.json"]);
    assert!(kept("config.json") == before, "the model has changed");
}

#[test]
fn a_model_is_not_trained_over_itself() {
    let folder = Folder::new();
    let directory = folder.path("model");
    fs::create_dir(&directory).unwrap();
    write_model(directory.as_ref());
    let weights = || fs::read(folder.path("model/model.safetensors")).unwrap();
    let before = weights();
    let records = folder.records("train.jsonl", 4);
    let recipe = folder.write("run.toml", format!("[model]\npath = {directory:?}\n[data]\ntrain = {records:?}\n"));
    run(&["train", "--config", &recipe, "--output", &directory]).fails_naming(&["model.path"]);
    assert!(weights() == before, "the model has changed");
}
