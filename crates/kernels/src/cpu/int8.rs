//! The product with weights of 8 bits: y = x W^T + b, W [n, k] as signed bytes with a scale for each row of W, each row of
//! x quantized on the way with a scale of its own.
//!
//! With `q = round(x / s_x)` in -127..=127 and `w` in -127..=127, `y = s_x s_w sum_d q_d w_d + b`. The instructions
//! multiply unsigned by signed bytes, so q is stored as q + 128 and sums begin at `-128 sum_d w_d`, which is exact in 32
//! bits up to [`DEEPEST`] values. A sum of integers has one result, so rows do not depend on what is computed with them.

use super::math::dispatch;
use super::panels::{PANEL, Panels};
use super::tile::{Int8x4, Word};
use super::view::View;
use rayon::prelude::*;

/// Values of the depth in a word.
const GROUP: usize = <Int8x4 as Word>::VALUES;

/// Adding 1.5 * 2^23 rounds to an integer (ties to even), whose bits then stand in the low end of the sum.
const ROUND: f32 = 12_582_912.0;

/// The largest quantized value.
const MOST: f32 = 127.0;

/// Values of the depth up to which no sum passes 32 bits: 2^31 / (255 * 127) = 66,000.
pub(crate) const DEEPEST: usize = i32::MAX as usize / (255 * 127);

/// A weight matrix [columns, depth] in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Int8Weight {
    pub(crate) panels: Panels<Int8x4>,
    /// Of each column.
    pub(crate) scales: Vec<f32>,
    /// What sums begin at: -128 times the sum of each column's values, as the bits of 32-bit integers.
    pub(crate) starts: Vec<f32>,
}

impl Int8Weight {
    /// The number that is kept for a column and a row of the depth.
    pub(crate) fn value(&self, depth: usize, column: usize) -> f32 {
        let byte = self.panels.word(depth / GROUP, column).0[depth % GROUP] as i8;
        self.scales[column] * f32::from(byte)
    }

    /// Quantizes `weight` [columns, depth], row-major: symmetric, each row by its largest value.
    pub(crate) fn quantize(weight: &[f32], columns: usize, depth: usize) -> Self {
        let mut panels = Panels::<Int8x4>::default();
        let groups = depth.div_ceil(GROUP);
        let padded = columns.next_multiple_of(PANEL);
        let (mut scales, mut starts) = (vec![0.0; padded], vec![0.0; padded]);
        let parts = panels.start(groups, columns).par_chunks_mut((PANEL * groups).max(1));
        let parts = parts.zip(scales.par_chunks_mut(PANEL)).zip(starts.par_chunks_mut(PANEL));
        parts.enumerate().for_each(|(p, ((words, scales), starts))| {
            for lane in 0..PANEL.min(columns - p * PANEL) {
                let row = &weight[(p * PANEL + lane) * depth..][..depth];
                let mut quantized = vec![128; groups * GROUP];
                scales[lane] = quantize_row(row, &mut quantized);
                let mut sum = 0;
                for (group, values) in quantized.as_chunks::<GROUP>().0.iter().enumerate() {
                    let signed = values.map(|value| value ^ 128);
                    sum += signed.iter().map(|value| i32::from(*value as i8)).sum::<i32>();
                    words[group * PANEL + lane] = Int8x4(signed);
                }
                starts[lane] = f32::from_bits((-128 * sum) as u32);
            }
        });
        Self { panels, scales, starts }
    }
}

/// The largest absolute value, NaN if there is one.
fn largest(values: &[f32]) -> f32 {
    let mut most = 0.0;
    find_largest(values, &mut most);
    most
}

dispatch! {
    fn find_largest(values: &[f32], most: &mut f32) = find_largest_body
}

#[inline(always)]
fn find_largest_body<const FMA: bool>(values: &[f32], most: &mut f32) {
    /// What a number's bits without the sign are at most.
    const INFINITE: u32 = 0x7f80_0000;
    // Without their signs, the bits of numbers are ordered as the numbers, and those of NaN come last.
    let mut lanes = [0u32; 4 * PANEL];
    let (groups, rest) = values.as_chunks::<{ 4 * PANEL }>();
    for group in groups {
        for (lane, value) in lanes.iter_mut().zip(group) {
            *lane = (*lane).max(value.abs().to_bits());
        }
    }
    let bits = lanes.into_iter().chain(rest.iter().map(|value| value.abs().to_bits())).fold(0, u32::max);
    *most = if bits > INFINITE { f32::NAN } else { f32::from_bits(bits) };
}

/// Rows of x as unsigned bytes, each padded with zeros (128) to whole words, and their scales.
#[derive(Debug, Default)]
pub(crate) struct Int8Rows {
    words: Vec<Int8x4>,
    scales: Vec<f32>,
    groups: usize,
}

impl Int8Rows {
    /// Quantizes rows of adjacent values, reusing the memory of what was quantized before. A row with a NaN gets the scale
    /// NaN, so that its products are NaN.
    pub(crate) fn quantize(&mut self, x: View<'_>) {
        assert!(x.columns <= 1 || x.column_stride == 1, "rows of adjacent values");
        self.groups = x.columns.div_ceil(GROUP);
        self.words.resize(x.rows * self.groups, Int8x4::default());
        self.scales.clear();
        self.scales.resize(x.rows, 0.0);
        let rows = self.words.par_chunks_mut(self.groups.max(1)).zip(self.scales.par_iter_mut());
        rows.with_min_len(16).enumerate().for_each(|(row, (words, scale))| {
            if let Some(last) = words.last_mut() {
                *last = Int8x4([128; GROUP]);
            }
            *scale = quantize_row(&x.values[row * x.row_stride..][..x.columns], Int8x4::bytes(words));
        });
    }

    pub(crate) fn view(&self) -> View<'_, Int8x4> {
        View::dense(&self.words, self.scales.len(), self.groups)
    }

    pub(crate) fn scale(&self, row: usize) -> f32 {
        self.scales[row]
    }
}

/// Quantizes a row as unsigned bytes and returns its scale.
fn quantize_row(values: &[f32], bytes: &mut [u8]) -> f32 {
    let most = largest(values);
    quantize_values(values, bytes, if most > 0.0 { MOST / most } else { 0.0 });
    most / MOST
}

/// Quantizes a row as signed bytes and returns its scale.
pub(crate) fn quantize_signed(values: &[f32], bytes: &mut [i8]) -> f32 {
    let most = largest(values);
    quantize_signed_values(values, bytes, if most > 0.0 { MOST / most } else { 0.0 });
    most / MOST
}

dispatch! {
    fn quantize_signed_values(values: &[f32], bytes: &mut [i8], inverse: f32) = quantize_signed_values_body
}

#[inline(always)]
fn quantize_signed_values_body<const FMA: bool>(values: &[f32], bytes: &mut [i8], inverse: f32) {
    for (byte, value) in bytes.iter_mut().zip(values) {
        *byte = (value * inverse + ROUND).to_bits() as i8;
    }
}

/// Quantizes a row as integers of 16 bits up to `limit` and returns its scale.
pub(crate) fn quantize_wide(values: &[f32], integers: &mut [i16], limit: f32) -> f32 {
    let most = largest(values);
    quantize_wide_values(values, integers, if most > 0.0 { limit / most } else { 0.0 });
    most / limit
}

dispatch! {
    fn quantize_wide_values(values: &[f32], integers: &mut [i16], inverse: f32) = quantize_wide_values_body
}

#[inline(always)]
fn quantize_wide_values_body<const FMA: bool>(values: &[f32], integers: &mut [i16], inverse: f32) {
    for (integer, value) in integers.iter_mut().zip(values) {
        *integer = (value * inverse + ROUND).to_bits() as i16;
    }
}

dispatch! {
    fn quantize_values(x: &[f32], bytes: &mut [u8], inverse: f32) = quantize_values_body
}

#[inline(always)]
fn quantize_values_body<const FMA: bool>(x: &[f32], bytes: &mut [u8], inverse: f32) {
    for (byte, x) in bytes.iter_mut().zip(x) {
        *byte = (x * inverse + ROUND).to_bits() as u8 ^ 128;
    }
}

dispatch! {
    /// Turns the sums of a part of a row into values: `sum * scale * scales + bias`.
    pub(crate) fn finish(sums: &mut [f32], scale: f32, scales: &[f32], bias: Option<&[f32]>) = finish_body
}

#[inline(always)]
fn finish_body<const FMA: bool>(sums: &mut [f32], scale: f32, scales: &[f32], bias: Option<&[f32]>) {
    match bias {
        Some(bias) => {
            for ((sum, weight_scale), bias) in sums.iter_mut().zip(scales).zip(bias) {
                *sum = (sum.to_bits() as i32) as f32 * (scale * weight_scale) + bias;
            }
        }
        None => {
            for (sum, weight_scale) in sums.iter_mut().zip(scales) {
                *sum = (sum.to_bits() as i32) as f32 * (scale * weight_scale);
            }
        }
    }
}
