//! Fresh weights from a seed.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::path::Path;

use candle_core::{Device, Tensor};
use epitome_kernels::splitmix;
use serde::{Deserialize, Serialize};

use crate::{Config, ParameterKind, ParameterShape, Result, Weights, parameter_shapes};

/// What fresh position tables hold. Training goes on from there either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionEmbeddings {
    /// Normal numbers, as `LEDForConditionalGeneration` starts.
    #[default]
    Normal,
    /// Sinusoids (Vaswani et al. 2017, section 3.5) of root mean square `init_std`: attention can find neighbours before any
    /// row of the table has been trained, which a model trained from nothing on little data needs.
    Sinusoidal,
}

impl Weights {
    /// Fresh weights as `LEDForConditionalGeneration` starts: normal with `init_std`, biases zero, layer norms one and
    /// zero, the padding row zero; positions as `positions` says. Each tensor depends on `seed` and its own name alone.
    ///
    /// # Errors
    /// When a tensor cannot be allocated.
    pub fn initialise(config: &Config, positions: PositionEmbeddings, seed: u64) -> Result<Self> {
        Self::from_values(config, Path::new("fresh weights"), |parameter| match (parameter.kind, positions) {
            (ParameterKind::Positions, PositionEmbeddings::Sinusoidal) => {
                sinusoids(parameter.shape[0], config.d_model, config.init_std)
            }
            _ => fresh(parameter, config, seed),
        })
    }

    /// Weights whose numbers, in row-major order, come from `values`; `origin` names them in error messages.
    ///
    /// # Errors
    /// When `values` returns a wrong count for a shape.
    pub fn from_values(config: &Config, origin: &Path, values: impl Fn(&ParameterShape) -> Vec<f32>) -> Result<Self> {
        let tensors = parameter_shapes(config)
            .into_iter()
            .map(|parameter| {
                let tensor = Tensor::from_vec(values(&parameter), parameter.shape.as_slice(), &Device::Cpu)?;
                Ok((parameter.name, tensor))
            })
            .collect::<Result<BTreeMap<_, _>>>()?;
        Ok(Self::new(tensors, origin, Vec::new()))
    }
}

fn fresh(parameter: &ParameterShape, config: &Config, seed: u64) -> Vec<f32> {
    let count = parameter.shape.iter().product();
    match parameter.kind {
        ParameterKind::Weight | ParameterKind::Positions => normal(count, config.init_std, seed, &parameter.name),
        ParameterKind::Embedding => {
            let mut values = normal(count, config.init_std, seed, &parameter.name);
            let padding = config.pad_token_id as usize * config.d_model;
            values[padding..padding + config.d_model].fill(0.0);
            values
        }
        ParameterKind::NormWeight => vec![1.0; count],
        ParameterKind::Bias | ParameterKind::NormBias | ParameterKind::Buffer => vec![0.0; count],
    }
}

/// A table `[rows, d]`: sines in the first half of a row, cosines in the second, wavelengths from 2 pi to 20,000 pi.
fn sinusoids(rows: usize, d: usize, deviation: f64) -> Vec<f32> {
    let half = d.div_ceil(2);
    let amplitude = deviation * std::f64::consts::SQRT_2;
    let value = |row: usize, column: usize| {
        let angle = row as f64 / 10_000f64.powf((column % half) as f64 / half as f64);
        amplitude * if column < half { angle.sin() } else { angle.cos() }
    };
    (0..rows).flat_map(|row| (0..d).map(move |column| value(row, column) as f32)).collect()
}

/// Normal numbers by the Box-Muller transform over a counter-based generator.
fn normal(count: usize, deviation: f64, seed: u64, name: &str) -> Vec<f32> {
    let mut state = name.bytes().fold(splitmix(seed), |state, byte| splitmix(state ^ u64::from(byte)));
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        // 53 bits, shifted half a step so that 0 never reaches the logarithm.
        ((splitmix(state) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = deviation * (-2.0 * uniform().ln()).sqrt();
        let (sine, cosine) = (TAU * uniform()).sin_cos();
        values.push((radius * cosine) as f32);
        values.push((radius * sine) as f32);
    }
    values.truncate(count);
    values
}
