//! Reading the fixtures: cases, stored tensors, and weights that are hashes of their names.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Tensor};
use epitome_data::{Example, Location};
use epitome_distributed::ProcessGroup;
use epitome_kernels::Precision;
use epitome_model::{Config, Documents, Led, ParameterKind, Weights};
use epitome_train::{Context, Event, Outcome, RunConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A case of one of the JSON files; `T` holds the fields that only this kind has.
#[derive(Deserialize)]
pub(crate) struct Case<T> {
    pub(crate) name: String,
    config: serde_json::Value,
    weights: Hashed,
    #[serde(flatten)]
    pub(crate) rest: T,
}

/// What weights are computed from; see `tests/reference/README.md`.
#[derive(Deserialize)]
struct Hashed {
    seed: u64,
    matrix: f64,
    embedding: f64,
    bias: f64,
    norm: f64,
    eos_bias: Option<f32>,
}

/// A tokenized record with a target.
#[derive(Clone, Deserialize)]
pub(crate) struct Pair {
    pub(crate) input_ids: Vec<u32>,
    pub(crate) global_positions: Vec<usize>,
    pub(crate) labels: Vec<i64>,
}

impl Pair {
    pub(crate) fn example(&self) -> Example {
        Example {
            id: "fixture".into(),
            location: Location::line("fixture", 1),
            input_ids: self.input_ids.clone(),
            leading_tokens: 0,
            global_positions: self.global_positions.clone(),
            labels: self.labels.clone(),
            choices: Vec::new(),
            weights: Vec::new(),
        }
    }
}

pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// The cases of `name.json`.
pub(crate) fn cases<T: DeserializeOwned>(name: &str) -> Vec<Case<T>> {
    #[derive(Deserialize)]
    struct File<T> {
        cases: Vec<Case<T>>,
    }
    let text = fs::read_to_string(directory().join(format!("{name}.json"))).unwrap();
    serde_json::from_str::<File<T>>(&text).unwrap().cases
}

/// The tensors of `name.safetensors`.
pub(crate) fn tensors(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(directory().join(format!("{name}.safetensors")), &Device::Cpu).unwrap()
}

/// Runs a check of inference wherever this build computes: on the CPU, on a GPU, on an emulated one.
pub(crate) fn on_every_device(check: impl Fn(&Device)) {
    check(&Device::Cpu);
    #[cfg(feature = "cuda")]
    {
        /// Held by the test that uses the GPU: while launches of one are recorded, nobody else may use it.
        static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        check(&epitome_kernels::DeviceName::Cuda(None).open().unwrap());
    }
    #[cfg(feature = "cuda-emulation")]
    epitome_kernels::cuda::emulated(|| check(&Device::Cpu));
}

impl<T> Case<T> {
    pub(crate) fn config(&self) -> Config {
        Config::from_json(&self.config.to_string(), Path::new("fixture")).unwrap()
    }

    pub(crate) fn weights(&self) -> Weights {
        let config = self.config();
        let eos = config.eos_token_id.as_slice()[0] as usize;
        Weights::from_values(&config, Path::new("fixture"), |parameter| {
            let count = parameter.shape.iter().product();
            let (centre, width) = self.weights.range(parameter.kind);
            let mut values = self.weights.values(&parameter.name, count, centre, width);
            if let (ParameterKind::Buffer, Some(bias)) = (parameter.kind, self.weights.eos_bias) {
                values[eos] = bias;
            }
            values
        })
        .unwrap()
    }

    pub(crate) fn led(&self) -> Led {
        Led::load(&self.config(), &self.weights()).unwrap()
    }

    /// For inference, in f32.
    pub(crate) fn packed(&self, device: &Device) -> Led {
        Led::load_packed(&self.config(), &self.weights(), Precision::F32, device).unwrap()
    }
}

impl Hashed {
    fn range(&self, kind: ParameterKind) -> (f64, f64) {
        match kind {
            ParameterKind::NormWeight => (1.0, self.norm),
            ParameterKind::NormBias => (0.0, self.norm),
            ParameterKind::Bias | ParameterKind::Buffer => (0.0, self.bias),
            ParameterKind::Weight => (0.0, self.matrix),
            ParameterKind::Positions | ParameterKind::Embedding => (0.0, self.embedding),
        }
    }

    fn values(&self, name: &str, count: usize, centre: f64, width: f64) -> Vec<f32> {
        let key = finalize(fnv1a(name) ^ self.seed);
        (1..=count as u64)
            .map(|index| {
                let bits = finalize(key.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15))) >> 40;
                (centre + width * ((bits as f64 - 8_388_608.0) / 8_388_608.0)) as f32
            })
            .collect()
    }
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

fn finalize(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

pub(crate) fn documents<'a>(pairs: impl IntoIterator<Item = &'a Pair>) -> Documents {
    Documents::new(pairs.into_iter().map(|pair| (pair.input_ids.as_slice(), pair.global_positions.as_slice()))).unwrap()
}

pub(crate) fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

/// Asserts that no element differs by more than `tolerance`.
#[track_caller]
pub(crate) fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        // Written so that a NaN fails.
        let close = (found - expected).abs() <= tolerance;
        assert!(close, "{what}: element {index} is {found}, expected {expected}");
    }
}

#[test]
fn hashed_weights_are_those_of_the_reference() {
    assert_eq!(fnv1a("led.shared.weight"), 0x51c6_9d10_a696_e0e9);
    let hashed = Hashed { seed: 7, matrix: 0.0, embedding: 0.75, bias: 0.0, norm: 0.3, eos_bias: None };
    let expected = [38269.0, 3047964.0, 4440053.0, -5166313.0].map(|u: f64| (0.75 * u / 8_388_608.0) as f32);
    assert_eq!(hashed.values("led.shared.weight", 4, 0.0, 0.75), expected);
    let norm = hashed.values("led.encoder.layernorm_embedding.weight", 2, 1.0, 0.3);
    assert_close(&norm, &[1.0242842, 0.76822025], 1e-7, "norm");
}

/// A training run of this process alone that nothing interrupts.
pub(crate) fn train(
    config: &RunConfig,
    output: &Path,
    resume: bool,
    on_event: &mut dyn FnMut(Event),
) -> epitome_train::Result<Outcome> {
    let (group, interrupted) = (ProcessGroup::single(), AtomicBool::new(false));
    let context = Context { output, resume, group: &group, interrupted: &interrupted };
    epitome_train::train(config, context, on_event, None)
}
