//! Model directories in every format, and converted ones, have the reference's logits.

use std::fs;
use std::path::Path;

use epitome_model::{Config, ConvertOptions, Documents, Led, SavedDtype, Weights, convert};
use epitome_train::Batch;
use serde::Deserialize;

use crate::fixture::{Pair, assert_close, directory, flat, tensors};

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    documents: Vec<Pair>,
}

fn logits(model: &Path, documents: &[Pair]) -> Vec<f32> {
    let config = Config::load(model).unwrap();
    let led = Led::load(&config, &Weights::load(model, &config).unwrap()).unwrap();
    let examples: Vec<_> = documents.iter().map(Pair::example).collect();
    let batch = Batch::new(&examples, &config).unwrap();
    let packed: &Documents = &batch.documents;
    let encoded = led.encode(packed).unwrap();
    let hidden = led.decoder().forward(&batch.decoder_ids, &batch.targets, &encoded, packed.segments()).unwrap();
    let mut logits = Vec::new();
    led.logits(&hidden, &mut logits).unwrap();
    logits
}

#[test]
fn every_format_has_the_reference_s_logits() {
    let models = directory().join("models");
    let file: File = serde_json::from_str(&fs::read_to_string(models.join("logits.json")).unwrap()).unwrap();
    let expected = tensors("models/logits");
    assert_eq!(file.cases.len(), 9);
    for case in file.cases {
        let source = models.join(&case.name);
        let folder = tempfile::tempdir().unwrap();
        let foreign = ["allenai", "bart"].contains(&case.name.as_str());
        let model = if foreign {
            let options = ConvertOptions { max_encoder_positions: Some(64), ..ConvertOptions::default() };
            convert(&source, folder.path(), options).unwrap();
            folder.path()
        } else {
            source.as_path()
        };
        let found = logits(model, &case.documents);
        assert_close(&found, &flat(&expected[&format!("{}.logits", case.name)]), 1e-4, &case.name);
    }
}

#[test]
fn shards_of_pickled_weights_are_read_as_their_index_says() {
    let whole = directory().join("models/led_pickle");
    let folder = tempfile::tempdir().unwrap();
    let shard = "pytorch_model-00001-of-00001.bin";
    fs::copy(whole.join("pytorch_model.bin"), folder.path().join(shard)).unwrap();
    let index = serde_json::json!({ "weight_map": { "led.shared.weight": shard } });
    fs::write(folder.path().join("pytorch_model.bin.index.json"), index.to_string()).unwrap();
    let config = Config::load(&whole).unwrap();
    let (whole, sharded) = (Weights::load(&whole, &config).unwrap(), Weights::load(folder.path(), &config).unwrap());
    for ((name, expected), (_, found)) in whole.iter().zip(sharded.iter()) {
        assert!(flat(expected) == flat(found), "{name}");
    }
    fs::write(folder.path().join(shard), "version https://git-lfs.github.com/spec/v1\n").unwrap();
    let message = Weights::load(folder.path(), &config).err().unwrap().to_string();
    assert!(message.contains(shard) && message.contains("not a file of torch.save"), "{message}");
}

#[test]
fn what_is_saved_loads_again_bit_for_bit() {
    let model = directory().join("models/led_safetensors");
    let mut config = Config::load(&model).unwrap();
    config.extra.insert("made_up_field".into(), serde_json::json!({"kept": [1, null]}));
    let weights = Weights::load(&model, &config).unwrap();
    let folder = tempfile::tempdir().unwrap();
    weights.save(folder.path(), SavedDtype::F32).unwrap();
    config.save(folder.path()).unwrap();
    let reloaded = Config::load(folder.path()).unwrap();
    // The type of the weights is the weight file's to say.
    config.extra.shift_remove("dtype");
    config.extra.shift_remove("torch_dtype");
    assert_eq!(reloaded, config);
    let again = Weights::load(folder.path(), &reloaded).unwrap();
    for ((name, before), (again_name, after)) in weights.iter().zip(again.iter()) {
        assert_eq!(name, again_name);
        assert!(flat(before) == flat(after), "{name}");
    }
}
