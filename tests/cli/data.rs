//! Data of other forms and sizes: Parquet, fields with other names, the token cache, batches by tokens.

use std::fs;

use crate::fixture::{Folder, TEXT, json_lines, model, run, run_with_stdin};

/// A run over `train`, with a cache of its own.
fn config(folder: &Folder, train: &str, settings: &str) -> String {
    let (validation, cache) = (train, folder.path("cache"));
    let text = format!(
        "[model]\npath = {:?}\n\n[data]\ntrain = {train:?}\nvalidation = {validation:?}\ncache_dir = {cache:?}\n\
         fields = {{ document = \"article\", summary = \"abstract\" }}\n\n[optim]\nlearning_rate = 1e-3\n\n\
         [run]\nlogging_steps = 1\nsave_steps = 2\n{settings}",
        model()
    );
    folder.write("run.toml", text)
}

/// The same records as Parquet and as JSON Lines.
fn both(folder: &Folder) -> (String, String) {
    let articles: Vec<String> =
        (0..9).map(|index| format!("Number {index}. {}", &TEXT[..20 + 9 * (index % 8)])).collect();
    let abstracts = vec!["few words"; 9];
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let line = |(id, article): (&str, &String)| {
        serde_json::json!({"id": id, "article": article, "abstract": "few words"}).to_string() + "\n"
    };
    let lines: String = ids.into_iter().zip(&articles).map(line).collect();
    let articles = articles.iter().map(String::as_str).collect();
    let columns = [("id", ids.to_vec()), ("article", articles), ("abstract", abstracts)];
    (folder.parquet("records", &columns), folder.write("records.jsonl", lines))
}

const FIELDS: [&str; 4] = ["--field", "document=article", "--field", "summary=abstract"];

#[test]
fn parquet_and_lines_with_other_names_are_the_same_to_every_command() {
    let folder = Folder::new();
    let (parquet, lines) = both(&folder);
    let output = |arguments: &[&str]| run(&[arguments, &FIELDS].concat()).succeeds().stdout;
    let same = |arguments: &dyn Fn(&str) -> Vec<String>| {
        let [one, other] = [&parquet, &lines].map(|input| {
            let arguments = arguments(input);
            output(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        });
        assert_eq!(one, other);
        assert!(!one.is_empty());
        one
    };
    let of = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let decode = |input: &str| of(&format!("decode --input {input} --model {} --max-new-tokens 3", model()));
    let predictions = folder.write("predictions.jsonl", same(&decode));
    same(&|input| of(&format!("score --input {input} --model {}", model())));
    same(&|input| of(&format!("evaluate --data {input} --model {} --max-new-tokens 3 --bootstrap 10", model())));
    same(&|input| of(&format!("evaluate --predictions {predictions} --references {input} --bootstrap 10")));
    same(&|input| {
        of(&format!("tokenizer train --input {input} --vocab-size 280 --output {}", folder.path("tokenizer")))
    });
    let metrics = [&parquet, &lines].map(|input| {
        let config = config(&folder, input, "max_steps = 3\nbatch_size = 4\n");
        let directory = folder.path(if input == &lines { "lines" } else { "parquet" });
        run(&["train", "--config", &config, "--output", &directory]).succeeds();
        fs::read(format!("{directory}/model.safetensors")).unwrap()
    });
    assert!(metrics[0] == metrics[1]);
}

#[test]
fn fields_and_files_that_are_wrong_are_named() {
    let folder = Folder::new();
    let (parquet, lines) = both(&folder);
    let decode = |arguments: &[&str]| run(&[&["decode", "--model", model()][..], arguments].concat());
    decode(&["--input", &parquet]).fails_naming(&[&parquet, "row 1", "`document`", "--field"]);
    decode(&["--input", &lines, "--field", "document=text"]).fails_naming(&["records.jsonl:1", "`text`"]);
    for wrong in ["document", "text=article", "document=", "=article"] {
        let outcome = decode(&["--input", &lines, "--field", wrong]);
        assert_eq!(outcome.code, 2, "{wrong}: {}", outcome.stderr);
    }
    assert_eq!(decode(&["--input", &lines, "--field", "document=a", "--field", "document=b"]).code, 2);
    let bytes = fs::read(&parquet).unwrap();
    let torn = folder.write("torn", &bytes[..bytes.len() - 9]);
    decode(&["--input", &torn]).fails_naming(&[&torn, "Parquet"]);
    let piped = run_with_stdin(&["decode", "--model", model(), "--input", "-"], "PAR1");
    piped.fails_naming(&["<stdin>", "Parquet"]);
    let train = |setting: &str| {
        let config = config(&folder, &lines, "max_steps = 1\n");
        run(&["train", "--config", &config, "--output", &folder.path("run"), "--set", setting])
    };
    train("data.fields.text=article").fails_naming(&["no field `text`"]);
    train("data.fields.query=question").fails_naming(&["records.jsonl:1", "`question`"]);
    train("run.batch_tokens=0").fails_naming(&["run.batch_tokens"]);
    let both = config(&folder, &lines, "max_steps = 1\nbatch_size = 2\nbatch_tokens = 50\n");
    run(&["train", "--config", &both, "--output", &folder.path("run")])
        .fails_naming(&["run.batch_size", "run.batch_tokens"]);
}

#[test]
fn bad_records_stop_training_or_are_skipped() {
    let folder = Folder::new();
    let good = |index: usize| {
        let article = format!("Number {index}. {}", &TEXT[..40]);
        serde_json::json!({"id": format!("r{index}"), "article": article, "abstract": "few words"}).to_string()
    };
    let bad = [
        r#"{"id": "x", "article": "no end"#,
        r#"{"id": "y", "article": "no summary"}"#,
        r#"{"id": "z", "article": null, "abstract": null, "input_ids": [0, 9999, 2], "labels": [0, 2]}"#,
    ];
    let clean = folder.write("clean.jsonl", (0..4).map(|index| good(index) + "\n").collect::<String>());
    let mixed: Vec<String> =
        (0..4).flat_map(|index| [Some(good(index)), bad.get(index).map(|&line| line.to_owned())]).flatten().collect();
    let mixed = folder.write("mixed.jsonl", mixed.join("\n"));
    let settings = "max_steps = 2\nbatch_size = 2\npredict_with_generate = true\ngeneration_max_new_tokens = 3\n";
    let train = |file: &str, name: &str, options: &[&str]| {
        let (config, output) = (config(&folder, file, settings), folder.path(name));
        run(&[&["train", "--config", &config, "--output", &output][..], options].concat())
    };
    train(&mixed, "stopped", &[]).fails_naming(&["mixed.jsonl:2", "JSON"]);
    let worthless = folder.write("worthless.jsonl", bad[0]);
    let all_bad = train(&worthless, "nothing", &["--skip-bad-records"]);
    all_bad.fails_naming(&["worthless.jsonl:1", "no validation record"]);
    train(&clean, "clean", &[]).succeeds();
    for name in ["made", "found in the cache"] {
        let told = train(&mixed, name, &["--skip-bad-records"]).succeeds().stderr;
        for split in ["training", "validation"] {
            assert!(told.contains(&format!("{split}: skipped 3 bad records\n  ")), "{told}");
        }
        for place in ["mixed.jsonl:2", "mixed.jsonl:4", "mixed.jsonl:6"] {
            assert_eq!(told.matches(place).count(), 3, "by both splits and the validation summaries: {told}");
        }
        assert!(told.contains("input id 9999 lies outside the vocabulary"), "{told}");
        let weights = |name: &str| fs::read(folder.path(&format!("{name}/model.safetensors"))).unwrap();
        assert!(weights(name) == weights("clean"), "the others train as they would alone");
        let plain = ["--resume", "--set", "run.predict_with_generate=false"];
        train(&mixed, name, &plain).fails_naming(&["config.toml", "data.skip_bad_records"]);
    }
}

#[test]
fn tokens_are_made_once() {
    let folder = Folder::new();
    let (_, lines) = both(&folder);
    let config = config(&folder, &lines, "max_steps = 1\nbatch_size = 2\n");
    let start = |name: &str, settings: &[&str]| {
        let output = folder.path(name);
        let arguments = [&["train", "--config", &config, "--output", &output][..], settings].concat();
        let told = run(&arguments).succeeds().stderr;
        ["training: 9 records, tokens made and kept in", "training: 9 records, tokens from"]
            .map(|notice| told.contains(notice))
    };
    assert_eq!(start("first", &[]), [true, false]);
    assert_eq!(start("second", &[]), [false, true]);
    assert_eq!(start("seed", &["--set", "run.seed=3"]), [false, true], "the seed decides no tokens");
    assert_eq!(start("limit", &["--set", "data.max_source_length=8"]), [true, false]);
    let caches = fs::read_dir(folder.path("cache")).unwrap().count();
    assert_eq!(caches, 2, "training and validation have the same records");
    let other = format!("data.cache_dir={}", folder.path("other"));
    assert_eq!(start("other-place", &["--set", &other]), [true, false]);
    let weights = ["first", "second"].map(|run| fs::read(folder.path(&format!("{run}/model.safetensors"))).unwrap());
    assert!(weights[0] == weights[1]);
}

#[test]
fn validation_files_are_looked_at_before_training_records_are_tokenized() {
    let folder = Folder::new();
    let (parquet, lines) = both(&folder);
    let config = config(&folder, &lines, "max_steps = 1\n");
    let bytes = fs::read(&parquet).unwrap();
    let torn = folder.write("torn", &bytes[..bytes.len() - 9]);
    for (validation, problem) in [
        (folder.path("nowhere.jsonl"), "nowhere.jsonl"),
        (folder.path("none*.jsonl"), "no file matches"),
        (folder.path(""), "directory"),
        (torn, "Parquet"),
    ] {
        let (output, validation) = (folder.path("run"), format!("data.validation={validation}"));
        run(&["train", "--config", &config, "--output", &output, "--set", &validation]).fails_naming(&[problem]);
        assert!(!fs::exists(folder.path("cache")).unwrap(), "no record is tokenized: {problem}");
    }
}

#[cfg(unix)]
#[test]
fn tokens_without_room_are_made_elsewhere_or_ask_for_a_place() {
    use std::process::Command;

    use crate::fixture::finish;

    let folder = Folder::new();
    let records = folder.records("train.jsonl", 400);
    let config = config(&folder, &records, "max_steps = 1\n");
    let (output, temporary) = (folder.path("run"), folder.path("temporary"));
    fs::create_dir(&temporary).unwrap();
    // No file may be longer than a few blocks, wherever it is.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_epitome")]);
    limited.env("TMPDIR", &temporary).args([
        "train",
        "--config",
        &config,
        "--output",
        &output,
        "--set",
        "data.fields={}",
    ]);
    finish(limited).fails_naming(&[&temporary, "data.cache_dir", "EPITOME_CACHE"]);
    assert_eq!(fs::read_dir(folder.path("cache")).unwrap().count(), 0, "nothing keeps room");
}

#[test]
fn records_may_come_from_standard_input() {
    let folder = Folder::new();
    let (_, lines) = both(&folder);
    let text = fs::read_to_string(&lines).unwrap();
    let config = config(&folder, &lines, "max_steps = 2\nbatch_size = 4\n");
    let train = |name: &str| {
        ["train", "--config", &config, "--output"].map(str::to_owned).into_iter().chain([folder.path(name)])
    };
    let from_file: Vec<String> = train("file").collect();
    run(&from_file.iter().map(String::as_str).collect::<Vec<_>>()).succeeds();
    let from_stdin: Vec<String> = train("stdin").chain(["--set".to_owned(), "data.train=-".to_owned()]).collect();
    run_with_stdin(&from_stdin.iter().map(String::as_str).collect::<Vec<_>>(), &text).succeeds();
    let weights = ["file", "stdin"].map(|run| fs::read(folder.path(&format!("{run}/model.safetensors"))).unwrap());
    assert!(weights[0] == weights[1]);
}

#[test]
fn a_run_with_a_budget_of_tokens_resumes_to_the_bit() {
    let folder = Folder::new();
    let (_, lines) = both(&folder);
    let schedule = "--set=optim.lr_scheduler_type=constant";
    let settings = "batch_tokens = 60\ngradient_accumulation_steps = 2\nnum_train_epochs = 3\n";
    let config = config(&folder, &lines, settings);
    let train = |name: &str, more: &[&str]| {
        let output = folder.path(name);
        run(&[&["train", "--config", &config, "--output", &output, schedule][..], more].concat()).succeeds();
        let metrics = json_lines(&folder.read(&format!("{name}/metrics.jsonl")));
        metrics.into_iter().filter(|line| line.get("loss").is_some()).collect::<Vec<_>>()
    };
    let whole = train("whole", &[]);
    assert_eq!(whole.last().unwrap()["epoch"], 3.0);
    assert!(whole.len() > 4, "{whole:?}");
    for step in 1..whole.len() {
        let name = format!("parts-{step}");
        train(&name, &[&format!("--set=run.max_steps={step}"), "--set=run.save_steps=1"]);
        let resumed = train(&name, &["--resume", "--set=run.save_steps=1"]);
        for (one, other) in whole.iter().zip(&resumed) {
            for key in ["step", "epoch", "loss", "source_tokens"] {
                assert_eq!(one[key], other[key], "{key} after step {step}");
            }
        }
        let weights = ["whole", &name].map(|run| fs::read(folder.path(&format!("{run}/model.safetensors"))).unwrap());
        assert!(weights[0] == weights[1], "resumed after step {step}");
    }
    let changed = run(&[
        "train",
        "--config",
        &config,
        "--output",
        &folder.path("whole"),
        "--resume",
        "--set=run.batch_tokens=50",
    ]);
    changed.fails_naming(&["run.batch_tokens has changed"]);
}

#[test]
fn a_run_may_be_as_long_as_its_updates_can_be_counted() {
    let folder = Folder::new();
    let (_, lines) = both(&folder);
    let begin = |length: &str| {
        let settings = "eval_steps = 1\nearly_stopping_patience = 1\nearly_stopping_threshold = 1e9\n";
        let config = config(&folder, &lines, &format!("{settings}{length}\n"));
        run(&["train", "--config", &config, "--output", &folder.path("run")])
    };
    let article = TEXT.repeat(100);
    let long = serde_json::json!({"article": article, "abstract": "few words"}).to_string() + "\n";
    folder.write("records.jsonl", folder.read("records.jsonl") + &long);
    for size in ["batch_tokens = 60", "batch_size = 4"] {
        let refused = begin(&format!("{size}\nmax_steps = 1_000_000_000_000_000\nmemory_limit_gib = 0.0235"));
        refused.fails_naming(&["its largest update", "memory_limit_gib"]);
    }
    begin("batch_tokens = 60\nnum_train_epochs = 1e18").fails_naming(&[
        "run.num_train_epochs",
        "1000000000000000000",
        "run.max_steps",
    ]);
    let told = begin("batch_tokens = 60\nmax_steps = 1_000_000_000_000_000").succeeds().stderr;
    assert!(told.contains("steps 1 to 1000000000000000") && told.contains("stopped early"), "{told}");
}
