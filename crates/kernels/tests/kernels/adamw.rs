//! `adamw_step` against the recursion in f64.

use crate::numbers::{Numbers, close, tensor, variable};
use candle_core::DType;
use epitome_kernels::{AdamW, AdamWParameter, adamw_step};

pub(crate) const HYPER: AdamW = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/// A parameter and its moments, in f64.
pub(crate) struct Reference {
    pub(crate) parameter: Vec<f64>,
    /// First moments, then second ones.
    pub(crate) moments: Vec<f64>,
}

impl Reference {
    pub(crate) fn new(parameter: Vec<f64>) -> Self {
        Self { moments: vec![0.0; 2 * parameter.len()], parameter }
    }

    /// A step of the settings `HYPER`, counted from 1.
    pub(crate) fn step(&mut self, gradient: &[f64], learning_rate: f64, weight_decay: f64, step: i32) {
        let (first, second) = self.moments.split_at_mut(gradient.len());
        for (((p, m), v), g) in self.parameter.iter_mut().zip(first).zip(second).zip(gradient) {
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.999 * *v + 0.001 * g * g;
            let (mean, square) = (*m / (1.0 - 0.9f64.powi(step)), *v / (1.0 - 0.999f64.powi(step)));
            *p = *p * (1.0 - learning_rate * weight_decay) - learning_rate * mean / (square.sqrt() + HYPER.epsilon);
        }
    }
}

#[test]
fn ten_steps() {
    let count = 20_000;
    let mut numbers = Numbers::seeded(10);
    let mut reference = Reference::new(numbers.vector(count));
    let parameter = variable(&reference.parameter, &[200, 100]);
    let moments = tensor(&reference.moments, &[2, 200, 100]);
    let copy = parameter.zeros_like().unwrap().to_dtype(DType::F64).unwrap();
    for step in 1..=10 {
        let (learning_rate, weight_decay) = (0.01 / step as f64, 0.1);
        let gradient = numbers.vector(count);
        let placed = tensor(&gradient, &[200, 100]);
        let one = AdamWParameter {
            parameter: &parameter,
            moments: &moments,
            gradient: &placed,
            copy: Some(&copy),
            learning_rate,
            weight_decay,
            step,
        };
        adamw_step(&[one], 0.5, &HYPER).unwrap();
        let halves: Vec<f64> = gradient.iter().map(|g| 0.5 * g).collect();
        reference.step(&halves, learning_rate, weight_decay, step as i32);
        close("parameter", &parameter, &reference.parameter, 1e-6);
        close("copy", &copy.to_dtype(DType::F32).unwrap(), &reference.parameter, 1e-6);
    }
    close("moments", &moments, &reference.moments, 1e-6);
}

#[test]
fn a_zero_gradient_leaves_only_the_decay() {
    let parameter = variable(&[2.0, -4.0], &[2]);
    let (moments, gradient) = (tensor(&[0.0; 4], &[2, 2]), tensor(&[0.0; 2], &[2]));
    let one = AdamWParameter {
        parameter: &parameter,
        moments: &moments,
        gradient: &gradient,
        copy: None,
        learning_rate: 0.1,
        weight_decay: 0.5,
        step: 1,
    };
    adamw_step(&[one], 1.0, &HYPER).unwrap();
    close("parameter", &parameter, &[1.9, -3.8], 1e-7);
}
