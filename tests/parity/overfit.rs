//! Thirty-two real pairs, learned until decoding returns them: tokenizer, training, checkpoint and search together.

use std::fs;
use std::path::Path;

use epitome_data::{RecordReader, Tokenizer, TrainerOptions};
use epitome_decode::{GenerationOptions, Summarizer};
use epitome_kernels::{Device, Precision};
use epitome_train::RunConfig;

use crate::fixture::train;

const RECIPE: &str = r#"
[model]
vocab_size = 600
d_model = 64
encoder_layers = 1
decoder_layers = 1
encoder_attention_heads = 4
decoder_attention_heads = 4
encoder_ffn_dim = 128
decoder_ffn_dim = 128
attention_window = 16
max_encoder_position_embeddings = 1024
max_decoder_position_embeddings = 128
dropout = 0.0

[optim]
learning_rate = 4e-3
lr_scheduler_type = "linear"
warmup_steps = 20

[run]
batch_size = 32
max_steps = 240
save_steps = 0
gradient_checkpointing = false
"#;

#[test]
fn thirty_two_real_pairs_are_returned() {
    let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/acl_titles_32.jsonl");
    let directory = tempfile::tempdir().unwrap();
    let all: Vec<_> = RecordReader::open(&records).unwrap().map(Result::unwrap).collect();
    let texts = all.clone().into_iter().flat_map(epitome_data::Record::into_texts).map(Ok);
    let options = TrainerOptions::new(600);
    Tokenizer::train(texts, &options).unwrap().save(directory.path()).unwrap();
    let recipe = directory.path().join("recipe.toml");
    let data = format!("[data]\ntrain = '{}'\ncache_dir = '{}'\n", records.display(), directory.path().display());
    fs::write(&recipe, format!("{RECIPE}\n{data}")).unwrap();
    let tokenizer = format!("model.tokenizer='{}'", directory.path().display());
    let config = RunConfig::load(&recipe, &[tokenizer]).unwrap();
    let output = directory.path().join("run");
    train(&config, &output, false, &mut |_| {}).unwrap();

    let options = GenerationOptions::from_json(r#"{"num_beams": 4}"#, Path::new("options")).unwrap();
    let summarizer = Summarizer::load(&output, &options, Precision::F32, &Device::Cpu).unwrap();
    for record in &all {
        let source = summarizer.source(record, None).unwrap();
        let summary = summarizer.summarize(&[source], &mut |_| {}).unwrap().remove(0);
        assert_eq!(Some(&summary.best.summary), record.summary.as_ref());
    }
}
