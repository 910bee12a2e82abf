//! Seeded numbers, comparisons, and derivatives by differences.

use candle_core::{Device, Tensor, Var};
use epitome_kernels::AffineSums;

/// SplitMix64.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// Uniform in -1.5..1.5, representable in f32.
    pub(crate) fn vector(&mut self, length: usize) -> Vec<f64> {
        (0..length).map(|_| f64::from(((self.bits() >> 40) as f32 / 16_777_216.0 - 0.5) * 3.0)).collect()
    }
}

pub(crate) fn tensor(values: &[f64], shape: &[usize]) -> Tensor {
    let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

pub(crate) fn variable(values: &[f64], shape: &[usize]) -> Var {
    Var::from_tensor(&tensor(values, shape)).unwrap()
}

/// Running sums for a weight of a shape and its bias.
pub(crate) fn zero_sums(shape: &[usize]) -> AffineSums {
    let zeros = |shape: &[usize]| tensor(&vec![0.0; shape.iter().product()], shape);
    AffineSums { weight: Some(zeros(shape)), bias: Some(zeros(&shape[..1])) }
}

/// The sums of a weight and a bias that are both trained.
pub(crate) fn both(sums: &AffineSums) -> [&Tensor; 2] {
    [&sums.weight, &sums.bias].map(|sum| sum.as_ref().unwrap())
}

/// The elements of a tensor.
pub(crate) fn doubles(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
}

/// Fails unless every element is within `tolerance` times the largest wanted magnitude (at least 1).
#[track_caller]
pub(crate) fn close(what: &str, found: &Tensor, wanted: &[f64], tolerance: f64) {
    let found = found.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(found.len(), wanted.len(), "{what}: number of elements");
    let scale = wanted.iter().fold(1.0f64, |scale, value| scale.max(value.abs()));
    for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let error = (f64::from(*found) - wanted).abs();
        assert!(error <= tolerance * scale, "{what}: element {i} is {found}, not {wanted}");
    }
}

/// Derivatives of `f` at `x` by central differences; exact to about 1e-9 in f64.
pub(crate) fn differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut moved = x.to_vec();
    (0..x.len())
        .map(|i| {
            moved[i] = x[i] + STEP;
            let above = f(&moved);
            moved[i] = x[i] - STEP;
            let below = f(&moved);
            moved[i] = x[i];
            (above - below) / (2.0 * STEP)
        })
        .collect()
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
