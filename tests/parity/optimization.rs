//! Adafactor and the schedules of `transformers`; AdamW on a GPU.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use epitome_kernels::add_assign;
use epitome_model::{AttentionWindow, Config, Parameters, Weights};
use epitome_train::{Gradients, OptimConfig, Optimizer, learning_rate};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixture::{assert_close, directory, flat, on_every_device};

#[derive(Deserialize)]
struct Fixture {
    total: usize,
    learning_rate: f64,
    schedules: Vec<Value>,
    cases: Vec<Case>,
}

/// Parameters are named within their layer.
#[derive(Deserialize)]
struct Case {
    options: serde_json::Map<String, Value>,
    start: HashMap<String, Vec<f32>>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    gradients: HashMap<String, Vec<f32>>,
    parameters: HashMap<String, Vec<f32>>,
}

const LAYER: &str = "led.encoder.layers.0.";

fn fixture() -> Fixture {
    serde_json::from_str(&fs::read_to_string(directory().join("optimization.json")).unwrap()).unwrap()
}

/// A tiny model with the parameters of the case.
fn parameters(start: &HashMap<String, Vec<f32>>, device: &Device) -> Parameters {
    let config = Config {
        vocab_size: 5,
        d_model: 4,
        encoder_layers: 1,
        decoder_layers: 1,
        encoder_attention_heads: 1,
        decoder_attention_heads: 1,
        encoder_ffn_dim: 3,
        decoder_ffn_dim: 3,
        attention_window: AttentionWindow::Every(2),
        max_encoder_position_embeddings: 4,
        max_decoder_position_embeddings: 4,
        ..Config::default()
    };
    let weights = Weights::from_values(&config, Path::new("fixture"), |parameter| {
        let given = parameter.name.strip_prefix(LAYER).and_then(|name| start.get(name));
        given.cloned().unwrap_or_else(|| vec![0.0; parameter.shape.iter().product()])
    });
    Parameters::new(weights.unwrap().to_device(device).unwrap())
}

/// The options of the reference by their names here.
fn config(options: &serde_json::Map<String, Value>) -> OptimConfig {
    let own = ["learning_rate", "weight_decay"];
    let named = |(key, value): (&String, &Value)| {
        (if own.contains(&key.as_str()) { key.clone() } else { format!("adafactor_{key}") }, value.clone())
    };
    let mut options: serde_json::Map<_, _> = options.iter().map(named).collect();
    options.insert("optimizer".into(), json!("adafactor"));
    options.insert("max_grad_norm".into(), json!(0.0));
    serde_json::from_value(Value::Object(options)).unwrap()
}

/// Gradients of some parameters, by their names within the layer.
fn gradients(parameters: &Parameters, given: &HashMap<String, Vec<f32>>) -> Gradients {
    let mut gradients = Gradients::default();
    for (name, parameter) in parameters.iter() {
        let Some(values) = name.strip_prefix(LAYER).and_then(|name| given.get(name)) else { continue };
        let values = Tensor::from_vec(values.clone(), parameter.shape(), parameter.device()).unwrap();
        add_assign(&gradients.sum(name, parameter).unwrap(), &values).unwrap();
    }
    gradients
}

#[test]
fn adafactor_follows_the_reference() {
    on_every_device(adafactor_on);
}

fn adafactor_on(device: &Device) {
    for case in fixture().cases {
        let parameters = parameters(&case.start, device);
        let config = config(&case.options);
        let mut optimizer = Optimizer::new(&config, &parameters).unwrap();
        let mut missing = 0;
        for (index, step) in case.steps.iter().enumerate() {
            let given: HashMap<_, _> = parameters.iter().collect();
            missing += case.start.len() - step.gradients.len();
            let gradients = gradients(&parameters, &step.gradients);
            optimizer.step(&parameters, &gradients, 1.0, config.learning_rate).unwrap();
            for (name, values) in &step.parameters {
                let what = format!("{:?}, step {}, {name}", case.options, index + 1);
                assert_close(&flat(given[format!("{LAYER}{name}").as_str()]), values, 2e-6, &what);
            }
        }
        assert_eq!(missing, 3, "the weight has no gradient in three steps");
    }
}

/// Groups with rates and decays of their own, a frozen one, gradients that are missing at times, and clipping.
#[test]
fn adamw_is_the_same_on_every_device() {
    let Case { start, steps, .. } = fixture().cases.remove(0);
    let mut names: Vec<&String> = start.keys().collect();
    names.sort();
    let [frozen, slow] = [names[0], names[1]].map(|name| format!("{LAYER}{name}"));
    let groups = json!([
        {"pattern": frozen, "frozen": true},
        {"pattern": slow, "learning_rate_scale": 0.1, "weight_decay": 0.5},
    ]);
    let config = json!({"learning_rate": 0.01, "weight_decay": 0.1, "max_grad_norm": 0.5, "groups": groups});
    let config: OptimConfig = serde_json::from_value(config).unwrap();
    let run = |device: &Device| {
        let parameters = parameters(&start, device);
        let before = flat(parameters.iter().find(|(name, _)| *name == frozen).unwrap().1);
        let mut optimizer = Optimizer::new(&config, &parameters).unwrap();
        let mut norms = Vec::new();
        for step in &steps {
            let gradients = gradients(&parameters, &step.gradients);
            norms.push(gradients.norm().unwrap() as f32);
            optimizer.step(&parameters, &gradients, gradients.norm().unwrap(), config.learning_rate).unwrap();
        }
        let after: Vec<_> = parameters.iter().map(|(name, parameter)| (name.to_owned(), flat(parameter))).collect();
        assert!(after.iter().any(|(name, values)| *name == frozen && *values == before), "`{frozen}` is frozen");
        (norms, after)
    };
    let (norms, wanted) = run(&Device::Cpu);
    assert!(norms.iter().any(|norm| *norm > 0.5), "something is clipped: {norms:?}");
    on_every_device(|device| {
        let (own_norms, found) = run(device);
        assert_close(&own_norms, &norms, 1e-6, "norms");
        for ((name, found), (_, wanted)) in found.iter().zip(&wanted) {
            assert_close(found, wanted, 2e-6, name);
        }
    });
}

#[test]
fn learning_rates_follow_the_reference() {
    let Fixture { total, learning_rate: peak, schedules, .. } = fixture();
    for mut case in schedules {
        let fields = case.as_object_mut().unwrap();
        let rates: Vec<f64> = serde_json::from_value(fields.remove("rates").unwrap()).unwrap();
        fields.insert("learning_rate".into(), json!(peak));
        let config: OptimConfig = serde_json::from_value(case.clone()).unwrap();
        assert_eq!(rates.len(), total + 1);
        for (step, expected) in rates.into_iter().enumerate() {
            let found = learning_rate(&config, step, total);
            assert!((found - expected).abs() < 1e-15, "{case}, step {step}: {found}, expected {expected}");
        }
    }
}
