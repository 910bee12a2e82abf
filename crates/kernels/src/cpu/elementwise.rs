//! Operations on one number at a time, and the in-place updates of gradient accumulators.

use super::math::{dispatch, erf, exp};
use crate::random::Mask;
use rayon::prelude::*;

/// Values of one task; also the unit of the sum of squares, so that its order of additions is fixed.
const CHUNK: usize = 16_384;

/// `x * mask`, with element i of x drawing index `first + i`: both directions of dropout.
pub(crate) fn dropout(x: &[f32], mask: Mask, first: u64) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate().for_each(|(chunk, (y, x))| {
        let first = first + (chunk * CHUNK) as u64;
        // Indices with the same upper half are one stream.
        let until_next = ((1 << 32) - (first & 0xffff_ffff)).min(x.len() as u64) as usize;
        let ((y, y_next), (x, x_next)) = (y.split_at_mut(until_next), x.split_at(until_next));
        drop_chunk(y, x, mask, first);
        drop_chunk(y_next, x_next, mask, first + until_next as u64);
    });
    y
}

dispatch! {
    fn drop_chunk(y: &mut [f32], x: &[f32], mask: Mask, first: u64) = drop_chunk_body
}

#[inline(always)]
fn drop_chunk_body<const FMA: bool>(y: &mut [f32], x: &[f32], mask: Mask, first: u64) {
    let stream = mask.stream((first >> 32) as u32);
    for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
        *y = x * mask.factor(stream, (first as u32).wrapping_add(i as u32));
    }
}

/// x times the normal distribution function at x.
pub(crate) fn gelu(x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| gelu_chunk(y, x));
    y
}

dispatch! {
    /// The same in place, on this thread alone.
    pub(crate) fn gelu_in_place(x: &mut [f32]) = gelu_in_place_body
}

#[inline(always)]
fn gelu_in_place_body<const FMA: bool>(x: &mut [f32]) {
    for x in x {
        *x = gelu_of::<FMA>(*x);
    }
}

#[inline(always)]
fn gelu_of<const FMA: bool>(x: f32) -> f32 {
    0.5 * x * (1.0 + erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2))
}

dispatch! {
    fn gelu_chunk(y: &mut [f32], x: &[f32]) = gelu_chunk_body
}

#[inline(always)]
fn gelu_chunk_body<const FMA: bool>(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = gelu_of::<FMA>(*x);
    }
}

/// `dy * (distribution(x) + x * density(x))`.
pub(crate) fn gelu_backward(x: &[f32], dy: &[f32]) -> Vec<f32> {
    let mut dx = vec![0.0; x.len()];
    dx.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .zip(dy.par_chunks(CHUNK))
        .for_each(|((dx, x), dy)| gelu_backward_chunk(dx, x, dy));
    dx
}

dispatch! {
    fn gelu_backward_chunk(dx: &mut [f32], x: &[f32], dy: &[f32]) = gelu_backward_chunk_body
}

#[inline(always)]
fn gelu_backward_chunk_body<const FMA: bool>(dx: &mut [f32], x: &[f32], dy: &[f32]) {
    /// 1 / sqrt(2 pi).
    const DENSITY_AT_0: f32 = 0.398_942_3;
    for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
        let distribution = 0.5 * (1.0 + erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2));
        let density = DENSITY_AT_0 * exp::<FMA>(-0.5 * x * x);
        *dx = dy * (distribution + x * density);
    }
}

/// `sum += values`.
pub(crate) fn add_assign(sum: &mut [f32], values: &[f32]) {
    sum.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(sum, values)| {
        for (sum, value) in sum.iter_mut().zip(values) {
            *sum += value;
        }
    });
}

/// `target = keep target + factor values`.
pub(crate) fn scale_and_add(target: &mut [f32], keep: f32, values: &[f32], factor: f32) {
    target.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(target, values)| {
        for (target, value) in target.iter_mut().zip(values) {
            *target = keep * *target + factor * value;
        }
    });
}

/// `average += weight (values - average)`, which changes nothing where both are equal.
pub(crate) fn lerp_assign(average: &mut [f32], values: &[f32], weight: f32) {
    average.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(average, values)| {
        for (average, value) in average.iter_mut().zip(values) {
            *average += weight * (value - *average);
        }
    });
}

/// `values *= factor`.
pub(crate) fn scale_assign(values: &mut [f32], factor: f32) {
    values.par_chunks_mut(CHUNK).for_each(|chunk| chunk.iter_mut().for_each(|value| *value *= factor));
}

/// Sum of squares in f64; chunks are summed in order.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
    let chunks: Vec<f64> = values
        .par_chunks(CHUNK)
        .map(|chunk| {
            let mut lanes = [0.0f64; 8];
            for group in chunk.chunks(lanes.len()) {
                for (lane, value) in lanes.iter_mut().zip(group) {
                    *lane += f64::from(*value) * f64::from(*value);
                }
            }
            lanes.iter().sum()
        })
        .collect();
    chunks.iter().sum()
}
