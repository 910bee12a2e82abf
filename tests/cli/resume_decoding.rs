//! `epitome decode --resume`: the same output as without an interruption, or a refusal.

use std::fs;

use crate::fixture::{Folder, TEXT, json_lines, model, run, write_model};

#[test]
fn a_resumed_run_ends_as_an_uninterrupted_one() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 6);
    let output = folder.path("out.jsonl");
    let arguments = ["decode", "--input", &input, "--model", model(), "--output", &output, "--batch-size", "2"];
    run(&arguments).succeeds();
    let whole = folder.read("out.jsonl");
    assert_eq!(json_lines(&whole).len(), 6);
    let resumed = [&arguments[..], &["--resume"]].concat();
    for cut in [0, 10, whole.len() / 2, whole.len() - 1, whole.len()] {
        fs::write(&output, &whole[..cut]).unwrap();
        run(&resumed).succeeds();
        assert_eq!(folder.read("out.jsonl"), whole, "cut at {cut}");
    }
    fs::remove_file(&output).unwrap();
    run(&resumed).succeeds();
    assert_eq!(folder.read("out.jsonl"), whole);
}

/// An output that ends before a bad record, as after any failure, and what may go on with it.
#[test]
fn an_output_is_resumed_only_as_it_was_begun() {
    let folder = Folder::new();
    let records = fs::read_to_string(folder.records("good.jsonl", 3)).unwrap();
    let input = folder.write("in.jsonl", format!("{records}no record\n"));
    let (output, beside) = (folder.path("out.jsonl"), folder.path("out.jsonl.decoding.json"));
    let directory = folder.path("model");
    fs::create_dir(&directory).unwrap();
    write_model(directory.as_ref());
    let decode = |more: &[&str]| {
        let begun = ["decode", "--input", &input, "--output", &output, "--length-penalty", "0.7"];
        run(&[&begun[..], more].concat())
    };
    decode(&["--model", &directory, "--num-beams", "3"]).fails_naming(&["in.jsonl:4"]);
    let half = folder.read("out.jsonl");
    assert_eq!(half.lines().count(), 3);
    let refused = |more: &[&str], named: &[&str]| {
        decode(&[more, &["--resume"]].concat()).fails_naming(&[named, &["out.jsonl"]].concat());
        assert_eq!(folder.read("out.jsonl"), half);
    };
    let same = ["--model", &directory, "--num-beams", "3"];
    refused(&["--model", &directory, "--num-beams", "2"], &["num_beams was 3 and is 2"]);
    refused(&[&same[..], &["--precision", "int8"]].concat(), &["precision was \"f32\" and is \"int8\""]);
    refused(&[&same[..], &["--prompt", "digest"]].concat(), &["prompt was \"\" and is \"digest\""]);
    refused(&[&same[..], &["--max-document-tokens", "9"]].concat(), &["max_document_tokens was null and is 9"]);
    refused(&["--model", model(), "--num-beams", "3"], &["model was \"model ("]);
    let config = folder.read("model/config.json");
    folder
        .write("model/config.json", config.replace("\"attention_window\": [", "\"more\": 1, \"attention_window\": ["));
    refused(&same, &["model was \"model ("]);
    folder.write("model/config.json", config);
    fs::write(&beside, "{").unwrap();
    refused(&same, &["out.jsonl.decoding.json", "remove it"]);
    // An older output, of which nothing is known, goes on; and one that nothing was written of.
    fs::remove_file(&beside).unwrap();
    decode(&[&same[..], &["--resume"]].concat()).fails_naming(&["in.jsonl:4"]);
    fs::write(&output, "").unwrap();
    fs::write(&input, records).unwrap();
    decode(&["--model", &directory, "--num-beams", "2", "--batch-size", "1", "--resume"]).succeeds();
    assert_eq!(folder.read("out.jsonl").lines().count(), 3);
    assert!(!fs::exists(&beside).unwrap(), "the output is complete");
}

/// One number of a long file of weights is enough.
#[test]
fn an_output_is_not_resumed_by_a_model_with_other_weights() {
    let folder = Folder::new();
    let directory = folder.path("model");
    fs::create_dir(&directory).unwrap();
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/default");
    for name in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(format!("{bundled}/{name}"), format!("{directory}/{name}")).unwrap();
    }
    let records = folder.records("good.jsonl", 1);
    let input = folder.write("in.jsonl", fs::read_to_string(records).unwrap() + "no record\n");
    let output = folder.path("out.jsonl");
    let arguments = ["decode", "--input", &input, "--output", &output, "--model", &directory, "--batch-size", "1"];
    run(&arguments).fails_naming(&["in.jsonl:2"]);
    let weights = folder.path("model/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let place = bytes.len() / 512 * 3;
    bytes[place] ^= 1;
    fs::write(&weights, bytes).unwrap();
    run(&[&arguments[..], &["--resume"]].concat()).fails_naming(&["model was \"model ("]);
}

#[test]
fn what_cannot_be_resumed_is_wrong_usage_and_left_alone() {
    let folder = Folder::new();
    let (text, records) = (folder.write("a.txt", TEXT), folder.records("in.jsonl", 1));
    let output = folder.write("out", "precious\n");
    let decode = ["decode", "--model", model(), "--resume", "--output"];
    run(&[&decode[..], &[&output, &text]].concat()).misuses_naming(&["--resume", "FILE"]);
    run(&[&decode[..], &[&output, "-"]].concat()).misuses_naming(&["--resume", "FILE"]);
    run(&[&decode[..], &[&output]].concat()).misuses_naming(&["--input"]);
    run(&[&decode[..], &["-", "--input", &records]].concat()).misuses_naming(&["--resume", "--output"]);
    assert_eq!(folder.read("out"), "precious\n");
}

#[test]
fn resume_refuses_the_output_of_another_input() {
    let folder = Folder::new();
    let input = folder.records("in.jsonl", 2);
    let output = folder.write("out.jsonl", "{\"id\":\"stranger\",\"summary\":\"\"}\n");
    let arguments = ["decode", "--input", &input, "--model", model(), "--output", &output, "--resume"];
    run(&arguments).fails_naming(&["out.jsonl", "stranger", "r0"]);
    let longer: String = (0..3).map(|index| format!("{{\"id\":\"r{index}\"}}\n")).collect();
    fs::write(&output, longer).unwrap();
    run(&arguments).fails_naming(&["out.jsonl", "r2"]);
    fs::write(&output, "no record\n{\"id\":\"r1\"}\n").unwrap();
    run(&arguments).fails_naming(&["out.jsonl", "line 1"]);
}
