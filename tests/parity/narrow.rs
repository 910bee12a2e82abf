//! A GPU's bf16 beside f32 on the CPU: a model of the head size that has kernels on the matrix units.

use std::collections::HashMap;

use epitome_kernels::{Device, Precision, Segments, token_log_probabilities};
use epitome_model::{AttentionWindow, Config, DecoderCache, Documents, Led, Parameters, PositionEmbeddings, Weights};
use epitome_train::{Batch, Gradients, OptimConfig, Optimizer, OptimizerName, Pass, Trainable, accumulate_gradients};

use crate::fixture::{Pair, documents, flat, on_every_device};

fn config() -> Config {
    Config {
        vocab_size: 60,
        d_model: 128,
        encoder_layers: 2,
        decoder_layers: 2,
        encoder_attention_heads: 2,
        decoder_attention_heads: 2,
        encoder_ffn_dim: 96,
        decoder_ffn_dim: 96,
        attention_window: AttentionWindow::Every(16),
        max_encoder_position_embeddings: 256,
        max_decoder_position_embeddings: 64,
        init_std: 0.15,
        ..Config::default()
    }
}

fn weights(config: &Config) -> Weights {
    Weights::initialise(config, PositionEmbeddings::default(), 7).unwrap()
}

fn pairs(config: &Config) -> Vec<Pair> {
    let ids = |seed: u32, count: u32| -> Vec<u32> {
        (0..count).map(|i| 3 + (seed + i * i * 7 + i * 13) % (config.vocab_size as u32 - 3)).collect()
    };
    let pair = |seed, length, global: &[usize], target| Pair {
        input_ids: ids(seed, length),
        global_positions: global.to_vec(),
        labels: ids(seed + 1, target).into_iter().map(i64::from).collect(),
    };
    vec![pair(1, 150, &[0, 1, 140], 9), pair(2, 5, &[0], 3), pair(3, 70, &[], 20)]
}

/// How far numbers are from others, in parts of these: the norm of the difference over the norm.
fn distance(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>();
    let difference = square(&mut found.iter().zip(wanted).map(|(found, wanted)| found - wanted));
    (difference / square(&mut wanted.iter().copied())).sqrt()
}

/// log p of labels by teacher forcing, and the decoder's states in steps with kept keys and values and without.
fn run(led: &Led, pairs: &[Pair]) -> [Vec<f32>; 3] {
    let sources = documents(pairs);
    let encoded = led.encode(&sources).unwrap();
    let examples: Vec<_> = pairs.iter().map(Pair::example).collect();
    let batch = Batch::new(&examples, led.config()).unwrap();
    let hidden = led.decoder().forward(&batch.decoder_ids, &batch.targets, &encoded, sources.segments()).unwrap();
    let labels: Vec<i64> = pairs.iter().flat_map(|pair| pair.labels.iter().copied()).collect();
    let bias = Some(led.final_logits_bias());
    let scores = token_log_probabilities(&hidden, led.head(), bias, &labels).unwrap();
    let [kept, folded] = [true, false].map(|keep| steps(led, &sources, &encoded, keep));
    [scores, kept, folded]
}

/// Three steps of two rows for the first document, none for the second and one for the third, whose beams change places.
fn steps(led: &Led, sources: &Documents, encoded: &candle_core::Tensor, keep: bool) -> Vec<f32> {
    let memory = led.decoder().cross_memory(encoded, sources.segments(), keep).unwrap();
    let mut cache = DecoderCache::new(led.config().decoder_layers, 3);
    let rows = Segments::from_lengths(&[2, 0, 1]);
    let mut states = Vec::new();
    for last in [[2, 2, 2], [5, 9, 11], [20, 21, 22]] {
        let hidden = led.decoder().step(&last, &rows, &memory, &mut cache).unwrap();
        states.extend(flat(&hidden));
        cache.reorder(&[1, 0, 2]);
    }
    states
}

fn trainable(config: &Config, device: &Device, precision: Precision) -> Trainable {
    let parameters = Parameters::new(weights(config).to_device(device).unwrap());
    Trainable::computing_in(config, parameters, precision.activations(device).unwrap()).unwrap()
}

fn gradients(config: &Config, pairs: &[Pair], trainable: &Trainable) -> (f64, Gradients) {
    let examples: Vec<_> = pairs.iter().map(Pair::example).collect();
    let batch = Batch::new(&examples, config).unwrap();
    let pass = Pass {
        dropouts: None,
        label_smoothing: 0.1,
        scale: 1.0 / batch.target_tokens() as f64,
        gradient_checkpointing: true,
        kept_bytes: 0,
        interrupted: None,
    };
    let mut gradients = Gradients::default();
    let loss = accumulate_gradients(trainable, &batch, pass, &mut gradients).unwrap().loss;
    (loss, gradients)
}

#[test]
fn hidden_states_are_close() {
    let config = config();
    let (weights, pairs) = (weights(&config), pairs(&config));
    let wanted = run(&Led::load(&config, &weights).unwrap(), &pairs);
    on_every_device(|device| {
        // As it is for inference, and as it is in training.
        let packed = Led::load_packed(&config, &weights, Precision::Bf16, device).unwrap();
        let activations = Precision::Bf16.activations(device).unwrap();
        let plain = Led::load_for_training(&config, &weights.to_device(device).unwrap(), activations).unwrap();
        for led in [packed, plain] {
            let found = run(&led, &pairs);
            for (what, (found, wanted)) in ["scores", "steps", "folded steps"].iter().zip(found.iter().zip(&wanted)) {
                let distance = distance(found, wanted);
                assert!(distance < 0.02, "{what}: {distance}");
            }
        }
    });
}

#[test]
fn gradients_are_close() {
    let config = config();
    let pairs = pairs(&config);
    let (wanted_loss, wanted) = gradients(&config, &pairs, &trainable(&config, &Device::Cpu, Precision::F32));
    let norm = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>().sqrt();
    let largest = wanted.iter().map(|(_, gradient)| norm(&flat(gradient))).fold(0.0, f32::max);
    on_every_device(|device| {
        let (loss, found) = gradients(&config, &pairs, &trainable(&config, device, Precision::Bf16));
        assert!((loss / wanted_loss - 1.0).abs() < 0.005, "{loss}, not {wanted_loss}");
        for (name, wanted) in wanted.iter() {
            let (found, wanted) = (flat(found.get(name).unwrap()), flat(wanted));
            // Where the gradient vanishes, such as that of keys' biases, only rounding is left.
            if norm(&wanted) > 1e-3 * largest {
                let distance = distance(&found, &wanted);
                assert!(distance < 0.1, "{name}: {distance}");
            }
        }
    });
}

/// What products read are copies where activations are in another type than the parameters.
#[test]
fn networks_see_updates() {
    let config = config();
    let pairs = pairs(&config);
    let rules = [OptimizerName::AdamW, OptimizerName::Adafactor];
    on_every_device(|device| {
        rules.into_iter().for_each(|name| {
            let trainable = trainable(&config, device, Precision::Bf16);
            let optim = OptimConfig { optimizer: name, ..OptimConfig::default() };
            let mut optimizer = Optimizer::new(&optim, trainable.parameters()).unwrap();
            let (first, sums) = gradients(&config, &pairs, &trainable);
            optimizer.step(trainable.parameters(), &sums, sums.norm().unwrap(), 0.01).unwrap();
            let (second, _) = gradients(&config, &pairs, &trainable);
            assert!(second < first, "{second} after {first}");
            let parameters = trainable.parameters().with(&HashMap::new());
            let activations = Precision::Bf16.activations(device).unwrap();
            let anew = Trainable::computing_in(&config, parameters, activations).unwrap();
            assert_eq!(gradients(&config, &pairs, &anew).0, second);
        })
    });
}
