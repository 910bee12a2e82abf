//! Adafactor and the schedules of `transformers`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use epitome_kernels::add_assign;
use epitome_model::{AttentionWindow, Config, Parameters, Weights};
use epitome_train::{Gradients, OptimConfig, Optimizer, learning_rate};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixture::{assert_close, directory, flat};

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
fn parameters(start: &HashMap<String, Vec<f32>>) -> Parameters {
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
    Parameters::new(weights.unwrap())
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

#[test]
fn adafactor_follows_the_reference() {
    for case in fixture().cases {
        let parameters = parameters(&case.start);
        let config = config(&case.options);
        let mut optimizer = Optimizer::new(&config, &parameters).unwrap();
        let mut missing = 0;
        for (index, step) in case.steps.iter().enumerate() {
            let mut gradients = Gradients::default();
            let given: HashMap<_, _> = parameters.iter().collect();
            for (name, values) in &step.gradients {
                let name = format!("{LAYER}{name}");
                let parameter = given[name.as_str()];
                let values = Tensor::from_vec(values.clone(), parameter.shape(), &Device::Cpu).unwrap();
                add_assign(&gradients.sum(&name, parameter).unwrap(), &values).unwrap();
            }
            missing += case.start.len() - step.gradients.len();
            let rate = config.learning_rate;
            optimizer.step(&parameters, &gradients, 1.0, rate).unwrap();
            for (name, values) in &step.parameters {
                let what = format!("{:?}, step {}, {name}", case.options, index + 1);
                assert_close(&flat(given[format!("{LAYER}{name}").as_str()]), values, 2e-6, &what);
            }
        }
        assert_eq!(missing, 3, "the weight has no gradient in three steps");
    }
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
