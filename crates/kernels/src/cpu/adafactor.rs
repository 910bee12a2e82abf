//! The passes of an Adafactor step over a gradient `[R, C]`; a vector is one row.
//!
//! A second moment is kept for every row and every column (of a vector: for every column alone), and the update of an
//! element is its gradient times a factor of its row and one of its column. Both sums of a block of rows are made while the
//! block is read; blocks have a size of their own and are added in order, so nothing depends on the number of threads.

use super::math::dispatch;
use rayon::prelude::*;

/// Values of one task, about.
const BLOCK: usize = 65_536;

/// Independent partial sums of a row, so that a sum vectorises.
const LANES: usize = 16;

/// How second moments take in a gradient.
#[derive(Clone, Copy)]
pub(crate) struct Statistics {
    /// Factor on the gradient.
    pub(crate) scale: f32,
    /// Decay of the moments.
    pub(crate) decay: f64,
    /// Added to every square.
    pub(crate) epsilon: f64,
}

/// `moment = decay moment + (1 - decay) (mean of (scale g)^2 + epsilon)` for every row, then every column; `moments` holds
/// those of rows first, of a vector those of columns alone.
pub(crate) fn update_moments(moments: &mut [f32], gradient: &[f32], width: usize, statistics: Statistics) {
    let (rows, columns) = moments.split_at_mut(moments.len() - width);
    let height = gradient.len() / width;
    let mut row_sums = vec![0.0f32; height];
    let block = rows_of_block(width);
    let partial: Vec<Vec<f32>> = gradient
        .par_chunks(block * width)
        .zip(row_sums.par_chunks_mut(block))
        .map(|(gradient, row_sums)| {
            let mut column_sums = vec![0.0; width];
            sum_squares(gradient, statistics.scale, row_sums, &mut column_sums);
            column_sums
        })
        .collect();
    let Statistics { decay, epsilon, .. } = statistics;
    let blend = |moment: &mut f32, mean: f64| {
        *moment = (decay * f64::from(*moment) + (1.0 - decay) * (mean + epsilon)) as f32;
    };
    for (moment, sum) in rows.iter_mut().zip(&row_sums) {
        blend(moment, f64::from(*sum) / width as f64);
    }
    for (column, moment) in columns.iter_mut().enumerate() {
        let sum: f64 = partial.iter().map(|sums| f64::from(sums[column])).sum();
        blend(moment, sum / height as f64);
    }
}

dispatch! {
    /// Sums of the squares of a block's rows, and of its columns.
    fn sum_squares(gradient: &[f32], scale: f32, row_sums: &mut [f32], column_sums: &mut [f32]) = sum_squares_body
}

#[inline(always)]
fn sum_squares_body<const FMA: bool>(gradient: &[f32], scale: f32, row_sums: &mut [f32], column_sums: &mut [f32]) {
    for (row, row_sum) in gradient.chunks_exact(column_sums.len()).zip(row_sums) {
        let mut lanes = [0.0; LANES];
        let add = |g: &f32, sum: &mut f32, lane: &mut f32| {
            let square = (scale * g) * (scale * g);
            *sum += square;
            *lane += square;
        };
        let ((groups, rest), (sums, rest_sums)) = (row.as_chunks::<LANES>(), column_sums.as_chunks_mut::<LANES>());
        for (group, sums) in groups.iter().zip(sums) {
            for lane in 0..LANES {
                add(&group[lane], &mut sums[lane], &mut lanes[lane]);
            }
        }
        for ((g, sum), lane) in rest.iter().zip(rest_sums).zip(&mut lanes) {
            add(g, sum, lane);
        }
        *row_sum = lanes.iter().sum();
    }
}

/// What the update of an element is its gradient's product with.
pub(crate) struct Factors {
    /// Of every row: the gradient's scale and the root of (mean of the rows' moments / the row's).
    rows: Vec<f32>,
    /// Of every column: 1 / root of its moment.
    columns: Vec<f32>,
}

impl Factors {
    /// From the moments of rows and columns, or of a vector.
    pub(crate) fn new(moments: &[f32], width: usize, scale: f32) -> Self {
        let (rows, columns) = moments.split_at(moments.len() - width);
        let mean = rows.iter().map(|moment| f64::from(*moment)).sum::<f64>() / rows.len() as f64;
        let of_row = |moment: &f32| (f64::from(scale) * (mean / f64::from(*moment)).sqrt()) as f32;
        Self {
            rows: if rows.is_empty() { vec![scale] } else { rows.iter().map(of_row).collect() },
            columns: columns.iter().map(|moment| 1.0 / moment.sqrt()).collect(),
        }
    }

    /// Root of the mean of the squares of all updates.
    pub(crate) fn root_mean_square(&self, gradient: &[f32]) -> f64 {
        let (width, block) = (self.columns.len(), rows_of_block(self.columns.len()));
        let sums: Vec<f64> = gradient
            .par_chunks(block * width)
            .zip(self.rows.par_chunks(block))
            .map(|(gradient, rows)| {
                let mut sum = 0.0;
                sum_update_squares(gradient, rows, &self.columns, &mut sum);
                sum
            })
            .collect();
        (sums.iter().sum::<f64>() / gradient.len() as f64).sqrt()
    }

    /// `value = keep value + step update` for every element.
    pub(crate) fn add(&self, values: &mut [f32], gradient: &[f32], keep: f32, step: f32) {
        let (width, block) = (self.columns.len(), rows_of_block(self.columns.len()));
        values
            .par_chunks_mut(block * width)
            .zip(gradient.par_chunks(block * width))
            .zip(self.rows.par_chunks(block))
            .for_each(|((values, gradient), rows)| add_update(values, gradient, rows, &self.columns, (keep, step)));
    }
}

dispatch! {
    fn sum_update_squares(gradient: &[f32], rows: &[f32], columns: &[f32], sum: &mut f64) = sum_update_squares_body
}

#[inline(always)]
fn sum_update_squares_body<const FMA: bool>(gradient: &[f32], rows: &[f32], columns: &[f32], sum: &mut f64) {
    for (gradient, row) in gradient.chunks_exact(columns.len()).zip(rows) {
        let mut lanes = [0.0f32; LANES];
        let add = |g: &f32, column: &f32, lane: &mut f32| *lane += (column * g) * (column * g);
        let ((groups, rest), (factors, rest_factors)) = (gradient.as_chunks::<LANES>(), columns.as_chunks::<LANES>());
        for (group, factors) in groups.iter().zip(factors) {
            for lane in 0..LANES {
                add(&group[lane], &factors[lane], &mut lanes[lane]);
            }
        }
        for ((g, column), lane) in rest.iter().zip(rest_factors).zip(&mut lanes) {
            add(g, column, lane);
        }
        *sum += f64::from(*row) * f64::from(*row) * lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
    }
}

dispatch! {
    fn add_update(values: &mut [f32], gradient: &[f32], rows: &[f32], columns: &[f32], factors: (f32, f32))
        = add_update_body
}

#[inline(always)]
fn add_update_body<const FMA: bool>(
    values: &mut [f32],
    gradient: &[f32],
    rows: &[f32],
    columns: &[f32],
    (keep, step): (f32, f32),
) {
    let width = columns.len();
    for ((values, gradient), row) in values.chunks_exact_mut(width).zip(gradient.chunks_exact(width)).zip(rows) {
        let step = step * row;
        for ((value, g), column) in values.iter_mut().zip(gradient).zip(columns) {
            *value = keep * *value + step * (column * g);
        }
    }
}

/// Rows of one task.
fn rows_of_block(width: usize) -> usize {
    BLOCK.div_ceil(width)
}
