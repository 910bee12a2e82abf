//! `adamw_step` against the recursion in f64.

use crate::numbers::{Numbers, close, tensor, variable};
use epitome_kernels::{AdamW, adamw_step};

#[test]
fn ten_steps() {
    let count = 20_000;
    let mut numbers = Numbers::seeded(10);
    let mut p = numbers.vector(count);
    let (mut m, mut v) = (vec![0.0; count], vec![0.0; count]);
    let parameter = variable(&p, &[200, 100]);
    let moments = tensor(&vec![0.0; 2 * count], &[2, 200, 100]);
    for step in 1..=10 {
        let hyper = AdamW {
            learning_rate: 0.01 / step as f64,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step,
        };
        let gradient = numbers.vector(count);
        adamw_step(&parameter, &moments, &tensor(&gradient, &[200, 100]), 0.5, &hyper).unwrap();
        for i in 0..count {
            let g = 0.5 * gradient[i];
            p[i] *= 1.0 - hyper.learning_rate * hyper.weight_decay;
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            let (mean, square) = (m[i] / (1.0 - 0.9f64.powi(step as i32)), v[i] / (1.0 - 0.999f64.powi(step as i32)));
            p[i] -= hyper.learning_rate * mean / (square.sqrt() + hyper.epsilon);
        }
        close("parameter", &parameter, &p, 1e-6);
    }
    close("moments", &moments, &[m, v].concat(), 1e-6);
}

#[test]
fn a_zero_gradient_leaves_only_the_decay() {
    let parameter = variable(&[2.0, -4.0], &[2]);
    let moments = tensor(&[0.0; 4], &[2, 2]);
    let hyper = AdamW { learning_rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.5, step: 1 };
    adamw_step(&parameter, &moments, &tensor(&[0.0; 2], &[2]), 1.0, &hyper).unwrap();
    close("parameter", &parameter, &[1.9, -3.8], 1e-7);
}
