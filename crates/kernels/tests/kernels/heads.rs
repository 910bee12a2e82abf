//! `fold_heads`, `project_heads` and their backward against their definitions.

use crate::numbers::{Numbers, both, close, doubles, tensor, zero_sums};
use candle_core::DType;
use epitome_kernels::{AffineSums, HeadProjection, fold_heads, head_projection_backward, project_heads};

pub(crate) const SCALE: f64 = 0.25;

/// Rows, heads, their size, width: none, one, more rows than a group, on both sides of a tile's columns.
pub(crate) const SIZES: [[usize; 4]; 6] =
    [[0, 2, 5, 3], [1, 1, 1, 1], [1, 3, 20, 40], [13, 2, 33, 17], [9, 3, 7, 50], [2, 12, 64, 140]];

/// x, y, weight and bias of random numbers, and what comes of them in f64.
pub(crate) struct Case {
    pub(crate) sizes: [usize; 4],
    pub(crate) x: Vec<f64>,
    pub(crate) y: Vec<f64>,
    pub(crate) weight: Vec<f64>,
    pub(crate) bias: Vec<f64>,
}

impl Case {
    pub(crate) fn new(sizes: [usize; 4]) -> Self {
        let [rows, heads, size, width] = sizes;
        let mut numbers = Numbers::seeded(sizes.iter().sum::<usize>() as u64);
        let counts = [rows * heads * size, rows * heads * (width + 1), heads * size * width, heads * size];
        let [x, y, weight, bias] = counts.map(|count| numbers.vector(count));
        Self { sizes, x, y, weight, bias }
    }

    /// y of x, x of y, and the gradients of weight and bias.
    pub(crate) fn reference(&self) -> [Vec<f64>; 4] {
        let [_, heads, size, width] = self.sizes;
        let [mut y, mut x, mut dw, mut db] =
            [&self.y, &self.x, &self.weight, &self.bias].map(|values| vec![0.0; values.len()]);
        for lane in 0..self.sizes[0] * heads {
            for (i, c) in (0..size).flat_map(|i| (0..=width).map(move |c| (i, c))) {
                let (x_at, y_at, row) = (lane * size + i, lane * (width + 1) + c, lane % heads * size + i);
                let (entry, sum) = match c == width {
                    true => (self.bias[row], &mut db[row]),
                    false => (self.weight[row * width + c], &mut dw[row * width + c]),
                };
                y[y_at] += SCALE * self.x[x_at] * entry;
                x[x_at] += SCALE * self.y[y_at] * entry;
                *sum += SCALE * self.x[x_at] * self.y[y_at];
            }
        }
        [y, x, dw, db]
    }
}

#[test]
fn heads_and_their_gradients() {
    for sizes in SIZES {
        let (case, [rows, heads, size, width]) = (Case::new(sizes), sizes);
        let [y, x, dw, db] = case.reference();
        let (weight, bias) = (tensor(&case.weight, &[heads * size, width]), tensor(&case.bias, &[heads * size]));
        let projection = HeadProjection { weight: &weight, bias: &bias, heads, scale: SCALE as f32 };
        let [x_in, y_in] = [(&case.x, vec![rows, heads * size]), (&case.y, vec![rows, heads, width + 1])]
            .map(|(values, shape)| tensor(values, &shape));
        close("y", &fold_heads(&x_in, projection).unwrap(), &y, 1e-5);
        close("x", &project_heads(&y_in, projection, DType::F32).unwrap(), &x, 1e-5);
        let sums = zero_sums(&[heads * size, width]);
        for times in 1..3 {
            head_projection_backward(&x_in, &y_in, SCALE as f32, &sums).unwrap();
            let [dw, db] = [&dw, &db].map(|sum| sum.iter().map(|sum| f64::from(times) * sum).collect::<Vec<_>>());
            close("dw", both(&sums)[0], &dw, 1e-5);
            close("db", both(&sums)[1], &db, 1e-5);
        }
        let alone = AffineSums { weight: None, ..zero_sums(&[heads * size, width]) };
        head_projection_backward(&x_in, &y_in, SCALE as f32, &alone).unwrap();
        close("db alone", &(alone.bias.unwrap() * 2.0).unwrap(), &doubles(both(&sums)[1]), 1e-6);
    }
}
