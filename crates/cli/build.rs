//! Embeds the repository's default model in the binary, so that `epitome decode` needs no download and no checkout. Without
//! the model's files the binary is built all the same and asks for `--model`.

use std::env;
use std::fs;
use std::path::Path;

const REQUIRED: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];
const OPTIONAL: [&str; 1] = ["generation_config.json"];

fn main() {
    let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
    let output = env::var("OUT_DIR").expect("cargo sets it for build scripts");
    let models = Path::new(&manifest).join("../../models");
    println!("cargo::rerun-if-changed=build.rs");
    // Also where it is missing, so that a model that comes later is noticed.
    println!("cargo::rerun-if-changed={}", models.display());
    let directory = models.join("default");
    let complete = REQUIRED.iter().all(|name| directory.join(name).is_file());
    let mut list = String::from("&[");
    for name in REQUIRED.iter().chain(&OPTIONAL).filter(|_| complete) {
        if let Ok(path) = directory.join(name).canonicalize() {
            list.push_str(&format!("({name:?}, include_bytes!({path:?})),"));
        }
    }
    list.push(']');
    fs::write(Path::new(&output).join("bundled_model.rs"), list).expect("the build directory is writable");
}
