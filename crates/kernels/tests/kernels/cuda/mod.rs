//! The kernels of the folder `cuda`, on a GPU or emulated, against the same references.

pub(crate) mod attention;
mod decoding;
mod rows;
mod training;

use epitome_kernels::cuda::Element;
use half::bf16;

/// Numbers of a type, made from f64 and back.
pub(crate) trait Number: Element {
    fn new(value: f64) -> Self;
    fn value(self) -> f64;

    fn vector(values: &[f64]) -> Vec<Self> {
        values.iter().map(|value| Self::new(*value)).collect()
    }
}

impl Number for f32 {
    fn new(value: f64) -> Self {
        value as f32
    }

    fn value(self) -> f64 {
        f64::from(self)
    }
}

impl Number for bf16 {
    fn new(value: f64) -> Self {
        bf16::from_f64(value)
    }

    fn value(self) -> f64 {
        self.to_f64()
    }
}

/// What a type keeps of numbers.
pub(crate) fn rounded<T: Number>(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| T::new(*value).value()).collect()
}

/// Fails unless the root mean square of the errors is within `tolerance` times that of what is wanted, and every error
/// within twice that of the largest wanted number (at least 1).
#[track_caller]
pub(crate) fn close<T: Number>(what: &str, found: &[T], wanted: &[f64], tolerance: f64) {
    assert_eq!(found.len(), wanted.len(), "{what}: number of elements");
    let most = wanted.iter().fold(1.0f64, |most, value| most.max(value.abs()));
    let (mut errors, mut squares) = (0.0, 0.0);
    for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let error = found.value() - wanted;
        assert!(error.abs() <= 2.0 * tolerance * most, "{what}: element {i} is {}, not {wanted}", found.value());
        errors += error * error;
        squares += wanted * wanted;
    }
    let ratio = (errors / squares).sqrt();
    assert!(squares == 0.0 || ratio <= tolerance, "{what}: the errors are {ratio} of the numbers");
}
