//! The product with weights of 8 bits: y = x W^T + b, W [n, k] as signed bytes with a scale for each row of W, each row of
//! x quantized on the way with a scale of its own.
//!
//! With `q = round(x / s_x)` in -127..=127 and `w` in -127..=127, `y = s_x s_w sum_d q_d w_d + b`. The instructions
//! multiply unsigned by signed bytes, so q is stored as q + 128 and `128 sum_d w_d` is taken from the sum, which is exact
//! in 32 bits: up to 2^31 / (255 * 127) = 66,000 values deep. A sum of integers has one result, so rows do not depend on
//! what is computed with them.

use super::panels::PANEL;
use super::shared::Shared;
use super::view::View;
use rayon::prelude::*;
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_storeu_si512,
};

/// Values of the depth that one instruction multiplies and adds.
const GROUP: usize = 4;

/// Rows of x of a tile.
const ROWS: usize = 12;

/// Rows of x of a task.
const TASK_ROWS: usize = 96;

/// The largest quantized value.
const MOST: f32 = 127.0;

/// A weight matrix [columns, depth] in panels of 16 of its rows (columns of the product): group g of a panel holds, for
/// each of them, the values `4 g .. 4 g + 4`.
#[derive(Clone, Debug)]
pub(crate) struct Int8Panels {
    values: Vec<i8>,
    /// Of each column.
    scales: Vec<f32>,
    /// 128 times the sum of each column's values.
    offsets: Vec<i32>,
    depth: usize,
    columns: usize,
}

impl Int8Panels {
    /// Quantizes `weight` [columns, depth], row-major: symmetric, each row by its largest value.
    pub(crate) fn quantize(weight: &[f32], columns: usize, depth: usize) -> Self {
        let padded = columns.next_multiple_of(PANEL);
        let groups = depth.div_ceil(GROUP);
        let mut panels = Self {
            values: vec![0; padded * groups * GROUP],
            scales: vec![0.0; padded],
            offsets: vec![0; padded],
            depth,
            columns,
        };
        let size = (PANEL * groups * GROUP).max(1);
        let parts = panels.values.par_chunks_mut(size).zip(panels.scales.par_chunks_mut(PANEL));
        parts.zip(panels.offsets.par_chunks_mut(PANEL)).enumerate().for_each(|(p, ((values, scales), offsets))| {
            for lane in 0..PANEL.min(columns - p * PANEL) {
                let row = &weight[(p * PANEL + lane) * depth..][..depth];
                scales[lane] = largest(row) / MOST;
                let inverse = if scales[lane] > 0.0 { 1.0 / scales[lane] } else { 0.0 };
                for (d, value) in row.iter().enumerate() {
                    let quantized = (value * inverse).round_ties_even() as i8;
                    values[d / GROUP * PANEL * GROUP + lane * GROUP + d % GROUP] = quantized;
                    offsets[lane] += 128 * i32::from(quantized);
                }
            }
        });
        panels
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    fn groups(&self) -> usize {
        self.depth.div_ceil(GROUP)
    }

    /// A panel's groups, each of 16 columns by 4 values.
    fn panel(&self, first: usize) -> &[[i8; PANEL * GROUP]] {
        let size = self.groups() * GROUP;
        self.values[first * size..][..PANEL * size].as_chunks().0
    }
}

/// The largest absolute value.
fn largest(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; PANEL];
    for group in values.chunks(PANEL) {
        for (lane, value) in lanes.iter_mut().zip(group) {
            *lane = lane.max(value.abs());
        }
    }
    lanes.into_iter().fold(0.0, f32::max)
}

/// Rows of x as bytes, each padded with zeros (128) to whole groups, and their scales.
struct QuantizedRows {
    values: Vec<u8>,
    scales: Vec<f32>,
    groups: usize,
}

impl QuantizedRows {
    fn new(x: View<'_>) -> Self {
        let groups = x.columns.div_ceil(GROUP);
        let mut rows = Self { values: vec![128; x.rows * groups * GROUP], scales: vec![0.0; x.rows], groups };
        let size = (groups * GROUP).max(1);
        rows.values.par_chunks_mut(size).zip(rows.scales.par_iter_mut()).with_min_len(16).enumerate().for_each(
            |(row, (values, scale))| {
                *scale = quantize_row(&x.values[row * x.row_stride..][..x.columns], values);
            },
        );
        rows
    }
}

/// Quantizes one row and returns its scale.
fn quantize_row(x: &[f32], values: &mut [u8]) -> f32 {
    let largest = largest(x);
    let inverse = if largest > 0.0 { MOST / largest } else { 0.0 };
    for (value, x) in values.iter_mut().zip(x) {
        *value = ((x * inverse).round_ties_even() + 128.0) as u8;
    }
    largest / MOST
}

/// `x W^T + bias`, row-major [rows, columns]; x has adjacent columns.
pub(crate) fn multiply(x: View<'_>, weight: &Int8Panels, bias: Option<&[f32]>) -> Vec<f32> {
    assert!(x.columns == weight.depth() && (x.columns <= 1 || x.column_stride == 1), "operands of a product");
    assert!(bias.is_none_or(|bias| bias.len() == weight.columns()), "a bias for every column");
    let quantized = QuantizedRows::new(x);
    let mut product = vec![0.0; x.rows * weight.columns()];
    let shared = Shared::new(&mut product);
    let width = task_width(x.rows, weight.columns());
    let tasks: Vec<(Range<usize>, Range<usize>)> = ranges(x.rows, TASK_ROWS)
        .flat_map(|rows| ranges(weight.columns(), width).map(move |columns| (rows.clone(), columns)))
        .collect();
    tasks.into_par_iter().for_each(|(rows, columns)| {
        for first in columns.step_by(PANEL) {
            for row in rows.clone().step_by(ROWS) {
                let count = ROWS.min(rows.end - row);
                let sums = sums(&quantized, weight.panel(first), row, count);
                for (r, sums) in sums.iter().enumerate().take(count) {
                    let lanes = PANEL.min(weight.columns() - first);
                    // SAFETY: tasks have rectangles of their own.
                    let target = unsafe { shared.slice((row + r) * weight.columns() + first, lanes) };
                    let scale = quantized.scales[row + r];
                    for (lane, value) in target.iter_mut().enumerate() {
                        let sum = (sums[lane] - weight.offsets[first + lane]) as f32;
                        *value =
                            sum * scale * weight.scales[first + lane] + bias.map_or(0.0, |bias| bias[first + lane]);
                    }
                }
            }
        }
    });
    product
}

fn ranges(total: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..total).step_by(step).map(move |first| first..total.min(first + step))
}

/// Columns of a task: few rows are split by columns, so that every thread has some.
fn task_width(rows: usize, columns: usize) -> usize {
    let split = (4 * rayon::current_num_threads()).div_ceil(rows.div_ceil(TASK_ROWS).max(1));
    columns.div_ceil(split).next_multiple_of(PANEL).clamp(PANEL, 512)
}

/// Sums of unsigned times signed bytes of some rows with a panel's columns.
fn sums(x: &QuantizedRows, panel: &[[i8; PANEL * GROUP]], first: usize, rows: usize) -> [[i32; PANEL]; ROWS] {
    let bytes = &x.values[first * x.groups * GROUP..][..rows * x.groups * GROUP];
    assert_eq!(panel.len(), x.groups);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the instructions; `bytes` has `rows` rows of the panel's groups.
        return unsafe {
            match rows {
                1 => vnni::<1>(bytes, panel),
                2 => vnni::<2>(bytes, panel),
                3 => vnni::<3>(bytes, panel),
                4 => vnni::<4>(bytes, panel),
                5 => vnni::<5>(bytes, panel),
                6 => vnni::<6>(bytes, panel),
                7 => vnni::<7>(bytes, panel),
                8 => vnni::<8>(bytes, panel),
                9 => vnni::<9>(bytes, panel),
                10 => vnni::<10>(bytes, panel),
                11 => vnni::<11>(bytes, panel),
                _ => vnni::<ROWS>(bytes, panel),
            }
        };
    }
    portable_sums(bytes, panel, rows)
}

/// The same without special instructions.
fn portable_sums(bytes: &[u8], panel: &[[i8; PANEL * GROUP]], rows: usize) -> [[i32; PANEL]; ROWS] {
    let mut sums = [[0; PANEL]; ROWS];
    for (x, sums) in bytes.chunks_exact((panel.len() * GROUP).max(1)).zip(&mut sums).take(rows) {
        for (x, group) in x.as_chunks::<GROUP>().0.iter().zip(panel) {
            for (sum, weights) in sums.iter_mut().zip(group.as_chunks::<GROUP>().0) {
                for (x, weight) in x.iter().zip(weights) {
                    *sum += i32::from(*x) * i32::from(*weight);
                }
            }
        }
    }
    sums
}

/// # Safety
/// The machine has AVX-512 with VNNI, and `bytes` holds COUNT rows of as many groups as the panel.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn vnni<const COUNT: usize>(bytes: &[u8], panel: &[[i8; PANEL * GROUP]]) -> [[i32; PANEL]; ROWS] {
    let stride = panel.len() * GROUP;
    assert!(bytes.len() >= COUNT * stride);
    let mut sums: [__m512i; COUNT] = [_mm512_setzero_si512(); COUNT];
    let mut x = bytes.as_ptr();
    for group in panel {
        // SAFETY: a group is 64 bytes; four bytes of each row are read below the length asserted.
        unsafe {
            let weights = _mm512_loadu_si512(group.as_ptr().cast());
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(x.add(r * stride).cast::<i32>().read_unaligned());
                *sum = _mm512_dpbusd_epi32(*sum, x, weights);
            }
        }
        x = x.wrapping_add(GROUP);
    }
    let mut values = [[0; PANEL]; ROWS];
    for (values, sum) in values.iter_mut().zip(sums) {
        // SAFETY: a row of the result is 16 numbers of 32 bits.
        unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), sum) };
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(i: usize) -> f32 {
        (i as f32 * 0.7312).sin() * ((i % 7) as f32 + 0.5)
    }

    /// Against the product of the quantized numbers in f64, on whatever instructions there are.
    #[test]
    fn the_product_is_that_of_the_quantized_numbers() {
        for (m, n, k) in [(1, 1, 1), (3, 17, 5), (13, 40, 64), (100, 33, 130), (4, 600, 771), (2, 5, 0)] {
            let x: Vec<f32> = (0..m * k).map(value).collect();
            let w: Vec<f32> = (0..n * k).map(|i| value(i + 5)).collect();
            let bias: Vec<f32> = (0..n).map(value).collect();
            let panels = Int8Panels::quantize(&w, n, k);
            let found = multiply(View::rows(&x, m, k, k), &panels, Some(&bias));
            let quantized = |row: &[f32]| -> (Vec<f64>, f64) {
                let scale = row.iter().fold(0.0f32, |most, v| most.max(v.abs())) / 127.0;
                let inverse = if scale > 0.0 { 127.0 / (scale * 127.0) } else { 0.0 };
                (row.iter().map(|v| f64::from((v * inverse).round_ties_even())).collect(), f64::from(scale))
            };
            for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let (x, sx) = quantized(&x[i * k..][..k]);
                let (w, sw) = quantized(&w[j * k..][..k]);
                let sum: f64 = x.iter().zip(&w).map(|(x, w)| x * w).sum();
                let want = sum * sx * sw + f64::from(bias[j]);
                let got = f64::from(found[i * n + j]);
                // A quantized value may fall to the other side of a half.
                let slack = 1e-5 * want.abs().max(1.0) + 3.0 * 127.0 * sx * sw;
                assert!((got - want).abs() <= slack, "{m} {n} {k}: {i} {j}: {got}, not {want}");
            }
        }
    }

    #[test]
    fn instructions_and_neighbours_change_nothing() {
        let (m, n, k) = (14, 35, 90);
        let x: Vec<f32> = (0..m * k).map(value).collect();
        let w: Vec<f32> = (0..n * k).map(value).collect();
        let panels = Int8Panels::quantize(&w, n, k);
        let all = multiply(View::rows(&x, m, k, k), &panels, None);
        for row in 0..m {
            assert_eq!(all[row * n..][..n], multiply(View::rows(&x[row * k..], 1, k, k), &panels, None));
        }
        let quantized = QuantizedRows::new(View::rows(&x, m, k, k));
        let bytes = &quantized.values[..ROWS * quantized.groups * GROUP];
        assert_eq!(sums(&quantized, panels.panel(16), 0, ROWS), portable_sums(bytes, panels.panel(16), ROWS));
    }
}
