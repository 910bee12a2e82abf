//! `adafactor_step` against the recursion in f64.

use crate::numbers::{Numbers, close, tensor};
use candle_core::Tensor;
use epitome_kernels::{Adafactor, adafactor_step};
use rayon::ThreadPoolBuilder;

/// A parameter, its second moments and its mean of updates, in f64.
struct Reference {
    shape: [usize; 2],
    is_vector: bool,
    parameter: Vec<f64>,
    rows: Vec<f64>,
    columns: Vec<f64>,
    mean: Vec<f64>,
}

impl Reference {
    fn step(&mut self, gradient: &[f64], hyper: &Adafactor) {
        let [height, width] = self.shape;
        let square = |row: usize, column: usize| gradient[row * width + column].powi(2) + hyper.epsilon;
        for (row, moment) in self.rows.iter_mut().enumerate() {
            let mean = (0..width).map(|column| square(row, column)).sum::<f64>() / width as f64;
            *moment = hyper.decay * *moment + (1.0 - hyper.decay) * mean;
        }
        for (column, moment) in self.columns.iter_mut().enumerate() {
            let mean = (0..height).map(|row| square(row, column)).sum::<f64>() / height as f64;
            *moment = hyper.decay * *moment + (1.0 - hyper.decay) * mean;
        }
        let rows = self.rows.iter().sum::<f64>() / height as f64;
        let mut update: Vec<f64> = (0..height * width)
            .map(|i| {
                let row = if self.is_vector { 1.0 } else { rows / self.rows[i / width] };
                gradient[i] * (row / self.columns[i % width]).sqrt()
            })
            .collect();
        let size = (update.iter().map(|u| u * u).sum::<f64>() / update.len() as f64).sqrt();
        let own = (self.parameter.iter().map(|p| p * p).sum::<f64>() / self.parameter.len() as f64).sqrt();
        let rate = hyper.learning_rate * hyper.least_scale.map_or(1.0, |least| own.max(least));
        let factor = rate / (size / hyper.clip_threshold).max(1.0);
        update.iter_mut().for_each(|u| *u *= factor);
        if let Some(beta1) = hyper.beta1 {
            self.mean.iter_mut().zip(&update).for_each(|(mean, u)| *mean = beta1 * *mean + (1.0 - beta1) * u);
            update.clone_from(&self.mean);
        }
        for (p, u) in self.parameter.iter_mut().zip(&update) {
            *p -= rate * hyper.weight_decay * *p + u;
        }
    }
}

fn hyper(step: i32, beta1: Option<f64>) -> Adafactor {
    Adafactor {
        learning_rate: 0.01,
        least_scale: None,
        beta1,
        decay: 1.0 - f64::from(step).powf(-0.8),
        epsilon: 1e-30,
        // Some of the updates are larger, some are not.
        clip_threshold: 0.9,
        weight_decay: 0.1,
    }
}

fn zeros(shape: &[usize]) -> Tensor {
    tensor(&vec![0.0; shape.iter().product()], shape)
}

/// Five steps on a parameter of a shape, with tensors that `place` makes.
pub(crate) fn check_five_steps(
    place: &dyn Fn(&[f64], &[usize]) -> Tensor,
    shape: &[usize],
    beta1: Option<f64>,
    least_scale: Option<f64>,
) {
    let mut numbers = Numbers::seeded(shape.len() as u64);
    let (count, width) = (shape.iter().product::<usize>(), shape[shape.len() - 1]);
    let mut reference = Reference {
        shape: [count / width, width],
        is_vector: shape.len() == 1,
        parameter: numbers.vector(count),
        rows: vec![0.0; if shape.len() == 1 { 0 } else { shape[0] }],
        columns: vec![0.0; width],
        mean: vec![0.0; count],
    };
    let parameter = place(&reference.parameter, shape);
    let length = reference.rows.len() + width;
    let moments = place(&vec![0.0; length], &[length]);
    let mean = beta1.map(|_| place(&vec![0.0; count], shape));
    for step in 1..=5 {
        let gradient = numbers.vector(count);
        let hyper = Adafactor { least_scale, ..hyper(step, beta1) };
        let doubled: Vec<f64> = gradient.iter().map(|g| 2.0 * g).collect();
        adafactor_step(&parameter, &moments, mean.as_ref(), &place(&doubled, shape), 0.5, &hyper).unwrap();
        reference.step(&gradient, &hyper);
        close("parameter", &parameter, &reference.parameter, 1e-6);
    }
    close("moments", &moments, &[reference.rows, reference.columns].concat(), 1e-6);
    if let Some(mean) = mean {
        close("mean", &mean, &reference.mean, 1e-6);
    }
}

#[test]
fn five_steps() {
    // Of several blocks, of one, of fewer columns than lanes, vectors.
    for shape in [&[300, 401][..], &[3, 50], &[40, 7], &[1, 5], &[1000], &[3]] {
        for beta1 in [None, Some(0.9)] {
            // The parameter's own size is more than the least, and less.
            for least_scale in [None, Some(1e-3), Some(2.0)] {
                check_five_steps(&tensor, shape, beta1, least_scale);
            }
        }
    }
}

#[test]
fn a_zero_gradient_leaves_only_the_decay() {
    let parameter = tensor(&[2.0, -4.0, 1.0, 3.0], &[2, 2]);
    let hyper = Adafactor { weight_decay: 5.0, ..hyper(1, None) };
    adafactor_step(&parameter, &zeros(&[4]), None, &zeros(&[2, 2]), 1.0, &hyper).unwrap();
    close("parameter", &parameter, &[1.9, -3.8, 0.95, 2.85], 1e-6);
}

#[test]
fn threads_do_not_show() {
    let shape = [500, 700];
    let run = |threads: usize| {
        let mut numbers = Numbers::seeded(5);
        let [parameter, gradient] = [(); 2].map(|()| tensor(&numbers.vector(shape[0] * shape[1]), &shape));
        let moments = zeros(&[shape[0] + shape[1]]);
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| adafactor_step(&parameter, &moments, None, &gradient, 1.0, &hyper(2, None))).unwrap();
        parameter.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let one = run(1);
    assert!(run(2) == one && run(5) == one);
}
