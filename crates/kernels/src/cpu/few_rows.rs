//! y = x W^T + b for a few rows of x, as in decoding: every weight is read once, in the order it lies in memory, and
//! multiplied with all rows. A general product would copy W into its own order first, which here costs several times
//! the product.

use super::linear::Sizes;
#[cfg(target_arch = "x86_64")]
use super::math::has_avx2;
use super::shared::Shared;
use rayon::prelude::*;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps};

/// Rows of x from which the general product is faster.
const FEW: usize = 16;

/// Rows of x that one pass over a row of W serves: with two sums each they fill half the registers.
const ROWS: usize = 4;

/// Weights of one task (256 KiB): they stay in the second-level cache for every pass.
const TASK_WEIGHTS: usize = 65_536;

/// Whether [`forward`] is the way to compute a layer call.
pub(crate) fn fits(sizes: Sizes) -> bool {
    #[cfg(target_arch = "x86_64")]
    return (1..=FEW).contains(&sizes.rows) && sizes.inputs >= 8 && has_avx2();
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (sizes, FEW);
        false
    }
}

/// y [rows, outputs]; only when [`fits`] says so.
pub(crate) fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, sizes: Sizes) -> Vec<f32> {
    let Sizes { rows, inputs, outputs } = sizes;
    assert!(x.len() == rows * inputs && weight.len() == outputs * inputs, "sizes of a layer call");
    let mut y = vec![0.0; rows * outputs];
    let shared = Shared::new(&mut y);
    let step = (TASK_WEIGHTS / inputs).max(1);
    (0..outputs.div_ceil(step)).into_par_iter().for_each(|task| {
        let columns = task * step..outputs.min((task + 1) * step);
        for first in (0..rows).step_by(ROWS) {
            let chunk = &x[first * inputs..rows.min(first + ROWS) * inputs];
            for column in columns.clone() {
                let bias = bias.map_or(0.0, |bias| bias[column]);
                let products = products(chunk, &weight[column * inputs..][..inputs]);
                for (row, product) in (first..rows).zip(products) {
                    // SAFETY: a task owns its columns.
                    let value = unsafe { shared.slice(row * outputs + column, 1) };
                    value[0] = product + bias;
                }
            }
        }
    });
    y
}

/// Inner products of `weight` with each of up to [`ROWS`] rows of x.
fn products(x: &[f32], weight: &[f32]) -> [f32; ROWS] {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has the instructions.
        return unsafe {
            match x.len() / weight.len() {
                1 => products_avx2::<1>(x, weight),
                2 => products_avx2::<2>(x, weight),
                3 => products_avx2::<3>(x, weight),
                _ => products_avx2::<ROWS>(x, weight),
            }
        };
    }
    let mut products = [0.0; ROWS];
    for (product, x) in products.iter_mut().zip(x.chunks_exact(weight.len())) {
        *product = x.iter().zip(weight).map(|(x, weight)| x * weight).sum();
    }
    products
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn products_avx2<const COUNT: usize>(x: &[f32], weight: &[f32]) -> [f32; ROWS] {
    let inputs = weight.len();
    assert!(x.len() >= COUNT * inputs);
    let mut sums = [[_mm256_setzero_ps(); 2]; COUNT];
    let (pairs, rest) = weight.as_chunks::<16>();
    for (i, pair) in pairs.iter().enumerate() {
        // SAFETY: 16 values of the chunk, and of each row of x, which has as many as `weight`.
        unsafe {
            let low = _mm256_loadu_ps(pair.as_ptr());
            let high = _mm256_loadu_ps(pair.as_ptr().add(8));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = x.as_ptr().add(r * inputs + i * 16);
                sums[0] = _mm256_fmadd_ps(low, _mm256_loadu_ps(x), sums[0]);
                sums[1] = _mm256_fmadd_ps(high, _mm256_loadu_ps(x.add(8)), sums[1]);
            }
        }
    }
    let mut products = [0.0; ROWS];
    for (r, sums) in sums.iter().enumerate() {
        let x = &x[r * inputs + pairs.len() * 16..][..rest.len()];
        let tail: f32 = x.iter().zip(rest).map(|(x, weight)| x * weight).sum();
        products[r] = sum(sums[0]) + sum(sums[1]) + tail;
    }
    products
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum(vector: __m256) -> f32 {
    let mut values = [0.0; 8];
    // SAFETY: the array holds the vector's 8 values.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), vector) };
    values.iter().sum()
}
