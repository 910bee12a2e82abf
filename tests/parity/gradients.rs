//! Losses and gradients of every parameter.

use std::collections::HashMap;

use epitome_kernels::{Device, DropoutKey};
use epitome_model::{Config, Dropouts, Parameters};
use epitome_train::{Batch, Gradients, Pass, Trainable, accumulate_gradients};
use serde::Deserialize;

use crate::fixture::{Case, Pair, cases, flat, on_every_device, tensors};

#[derive(Deserialize)]
struct Expected {
    documents: Vec<Pair>,
    losses: HashMap<String, f64>,
    vanishing: Vec<String>,
    without_gradient: Vec<String>,
}

const TOLERANCE: f32 = 1e-4;

fn pass(smoothing: f64, tokens: usize) -> Pass<'static> {
    Pass {
        dropouts: None,
        label_smoothing: smoothing,
        scale: 1.0 / tokens as f64,
        gradient_checkpointing: true,
        kept_bytes: 0,
        interrupted: None,
    }
}

fn trainable(case: &Case<Expected>, device: &Device) -> (Config, Trainable) {
    let config = case.config();
    let parameters = Parameters::new(case.weights().to_device(device).unwrap());
    (config.clone(), Trainable::new(&config, parameters).unwrap())
}

fn batch(case: &Case<Expected>, config: &Config) -> Batch {
    let examples: Vec<_> = case.rest.documents.iter().map(Pair::example).collect();
    Batch::new(&examples, config).unwrap()
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

#[test]
fn every_parameter_has_the_reference_s_gradient() {
    on_every_device(every_gradient_on);
}

fn every_gradient_on(device: &Device) {
    let stored = tensors("gradients");
    for case in cases::<Expected>("gradients") {
        let (config, trainable) = trainable(&case, device);
        let batch = batch(&case, &config);
        for (smoothing, expected_loss) in &case.rest.losses {
            let mut gradients = Gradients::default();
            let pass = pass(smoothing.parse().unwrap(), batch.target_tokens());
            let loss = accumulate_gradients(&trainable, &batch, pass, &mut gradients).unwrap();
            let mean = loss.loss / batch.target_tokens() as f64;
            assert!((mean - expected_loss).abs() < 1e-4, "{}: loss {mean}, expected {expected_loss}", case.name);
            let biggest = gradients.iter().map(|(_, gradient)| largest(&flat(gradient))).fold(0.0, f32::max);
            for (name, _) in trainable.parameters().iter() {
                let what = format!("{} {smoothing} {name}", case.name);
                let found = gradients.get(name).map(flat);
                if case.rest.without_gradient.iter().any(|without| without == name) {
                    assert!(found.is_none(), "{what}: a parameter that takes no part has a gradient");
                    continue;
                }
                let found = found.unwrap_or_else(|| panic!("{what}: no gradient"));
                if case.rest.vanishing.iter().any(|vanishing| vanishing == name) {
                    assert!(largest(&found) <= 1e-5 * biggest, "{what}: {}", largest(&found));
                    continue;
                }
                let expected = flat(&stored[&format!("{}.{smoothing}.{name}", case.name)]);
                let scale = largest(&expected);
                let difference = found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
                assert!(scale > 0.0 && largest(&found) > 0.0, "{what}: all zero");
                assert!(difference <= TOLERANCE * scale, "{what}: off by {difference} of {scale}");
            }
        }
    }
}

/// Recomputation must not change a bit, however much is kept, dropout included: masks are functions of their place.
#[test]
fn recomputation_gives_identical_gradients() {
    on_every_device(recomputation_on);
}

fn recomputation_on(device: &Device) {
    for case in cases::<Expected>("gradients") {
        let (config, trainable) = trainable(&case, device);
        let batch = batch(&case, &config);
        let dropped = Config { dropout: 0.3, attention_dropout: 0.2, activation_dropout: 0.1, ..config };
        let run = |gradient_checkpointing, kept_bytes| {
            let mut gradients = Gradients::default();
            let dropouts = Some(Dropouts::new(&dropped, DropoutKey::new(5)));
            let pass = Pass { dropouts, gradient_checkpointing, kept_bytes, ..pass(0.1, batch.target_tokens()) };
            let loss = accumulate_gradients(&trainable, &batch, pass, &mut gradients).unwrap().loss;
            let all: Vec<_> = gradients.iter().map(|(name, gradient)| (name.to_owned(), flat(gradient))).collect();
            (loss, all)
        };
        let kept = run(false, 0);
        let an_encoder_layer = 3 * 4 * batch.documents.ids().len() * dropped.d_model;
        // Nothing, some outputs, all of them and some layers, and everything.
        for kept_bytes in [0, 1, 4, 6, 9, 12].map(|layers| layers * an_encoder_layer).into_iter().chain([usize::MAX]) {
            assert!(run(true, kept_bytes) == kept, "{}, {kept_bytes} bytes kept: something changed", case.name);
        }
    }
}

/// Compares the gradients of all parameters with those of another device.
fn compare(case: &str, found: &[(String, Vec<f32>)], wanted: &[(String, Vec<f32>)]) {
    let biggest = wanted.iter().map(|(_, gradient)| largest(gradient)).fold(0.0, f32::max);
    assert_eq!(found.len(), wanted.len());
    for ((name, found), (_, wanted)) in found.iter().zip(wanted) {
        let difference = found.iter().zip(wanted).map(|(f, w)| (f - w).abs()).fold(0.0, f32::max);
        assert!(difference <= TOLERANCE * biggest, "{case} {name}: off by {difference} of {biggest}");
    }
}

/// Masks are functions of their place wherever they are drawn.
#[test]
fn dropout_is_the_same_on_every_device() {
    let run = |case: &Case<Expected>, device: &Device| {
        let (config, trainable) = trainable(case, device);
        let batch = batch(case, &config);
        let dropped = Config { dropout: 0.3, attention_dropout: 0.2, activation_dropout: 0.1, ..config };
        let dropouts = Some(Dropouts::new(&dropped, DropoutKey::new(5)));
        let mut gradients = Gradients::default();
        let pass = Pass { dropouts, ..pass(0.1, batch.target_tokens()) };
        accumulate_gradients(&trainable, &batch, pass, &mut gradients).unwrap();
        gradients.iter().map(|(name, gradient)| (name.to_owned(), flat(gradient))).collect::<Vec<_>>()
    };
    let cases = cases::<Expected>("gradients");
    let wanted: Vec<_> = cases.iter().map(|case| run(case, &Device::Cpu)).collect();
    on_every_device(|device| {
        for (case, wanted) in cases.iter().zip(&wanted) {
            compare(&case.name, &run(case, device), wanted);
        }
    });
}

/// Losses of which some are over choices, as extracts are learnt, and count differently.
#[test]
fn choices_are_the_same_on_every_device() {
    let run = |case: &Case<Expected>, device: &Device| {
        let (config, trainable) = trainable(case, device);
        let mut batch = batch(case, &config);
        for (place, label) in batch.labels.iter().enumerate().filter(|(place, _)| place % 3 != 0) {
            let near = |token: &u32| i64::from(*token) == *label || (*token as usize + place).is_multiple_of(5);
            batch.choices[place] = (0..config.vocab_size as u32).filter(near).collect();
            batch.weights[place] = 0.5 * (place % 4) as f32;
        }
        let mut gradients = Gradients::default();
        let pass = pass(0.1, batch.target_tokens());
        let loss = accumulate_gradients(&trainable, &batch, pass, &mut gradients).unwrap();
        (loss, gradients.iter().map(|(name, gradient)| (name.to_owned(), flat(gradient))).collect::<Vec<_>>())
    };
    let cases = cases::<Expected>("gradients");
    let wanted: Vec<_> = cases.iter().map(|case| run(case, &Device::Cpu)).collect();
    on_every_device(|device| {
        for (case, (wanted_loss, wanted)) in cases.iter().zip(&wanted) {
            let (loss, found) = run(case, device);
            assert_eq!(loss.tokens, wanted_loss.tokens);
            assert!((loss.loss - wanted_loss.loss).abs() < 1e-4, "{}: {loss:?}, not {wanted_loss:?}", case.name);
            compare(&case.name, &found, wanted);
        }
    });
}

/// What is frozen has no gradient, and everything else has the same bits, wherever the backward pass ends.
#[test]
fn frozen_parameters_change_no_other_gradient() {
    on_every_device(frozen_parameters_on);
}

fn frozen_parameters_on(device: &Device) {
    let embeddings = ["led.shared", "led.encoder.embed", "led.encoder.layernorm"];
    let decoder = ["led.decoder.embed", "led.decoder.layernorm", "led.decoder.layers.0."];
    let frozen: [&[&str]; 7] = [
        &["led.shared"],
        &embeddings,
        &[embeddings[0], "led.encoder."],
        &[embeddings, ["led.encoder.layers.0."; 3]].concat(),
        &[embeddings, decoder].concat(),
        &[&["led.encoder.", "led.shared"][..], &decoder].concat(),
        &["led.decoder."],
    ];
    let is_bias = |name: &str| name.ends_with(".bias");
    for case in cases::<Expected>("gradients") {
        let (config, all) = trainable(&case, device);
        let batch = batch(&case, &config);
        let run = |trainable: &Trainable, gradient_checkpointing| {
            let mut gradients = Gradients::default();
            let dropouts = Some(Dropouts::new(&Config { dropout: 0.3, ..config.clone() }, DropoutKey::new(5)));
            let pass = Pass { dropouts, gradient_checkpointing, ..pass(0.1, batch.target_tokens()) };
            let loss = accumulate_gradients(trainable, &batch, pass, &mut gradients).unwrap().loss;
            let all: Vec<_> = gradients.iter().map(|(name, gradient)| (name.to_owned(), flat(gradient))).collect();
            (loss, all)
        };
        let (loss, all) = run(&all, true);
        let check = |is_trained: &dyn Fn(&str) -> bool, what: &str| {
            let expected: Vec<_> = all.iter().filter(|(name, _)| is_trained(name)).cloned().collect();
            let part = trainable(&case, device).1.train_only(is_trained);
            for gradient_checkpointing in [false, true] {
                assert!(run(&part, gradient_checkpointing) == (loss, expected.clone()), "{}: {what}", case.name);
            }
        };
        for frozen in frozen {
            check(&|name| !frozen.iter().any(|prefix| name.starts_with(prefix)), &frozen.join(", "));
        }
        check(&is_bias, "all but biases");
        check(&|name| !is_bias(name), "biases");
    }
}
