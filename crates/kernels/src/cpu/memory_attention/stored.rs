//! What keys and values are kept in.

use crate::cpu::int8::{quantize_signed, quantize_wide};
use crate::cpu::math::dispatch;
use crate::cpu::panels::{PANEL, Panels, pack_panel, pack_panel_of_pairs};
use crate::cpu::tile::{Bf16x2, Int8x2, Int16x2, Word, round_row};
use crate::cpu::view::View;

/// Keys [D, n] and values [n, D] of one document and head, depths in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadMemory<W> {
    pub(super) keys: Panels<W>,
    pub(super) values: Panels<W>,
    /// Of each key, and of each row of values; none where numbers are kept as they are.
    pub(super) key_scales: Vec<f32>,
    pub(super) value_scales: Vec<f32>,
}

/// A kind of word that keys and values can be kept in.
pub(crate) trait Stored: Word {
    /// Whether keys and values are scaled row by row.
    const SCALED: bool;

    /// Fills the panels of some keys [m, D], and their scales.
    fn write_keys<'p>(panels: impl Iterator<Item = &'p mut [[Self; PANEL]]>, scales: &mut [f32], keys: View<'_>);

    /// The same of values: of each panel the rows of these keys.
    fn write_values<'p>(panels: impl Iterator<Item = &'p mut [[Self; PANEL]]>, scales: &mut [f32], values: View<'_>);

    /// Appends a row of numbers as words of the left operand; returns their scale. `most` is the largest integer that
    /// sums of products allow.
    fn push_row(words: &mut Vec<Self::Left>, row: &[f32], most: f32) -> f32;

    /// Turns sums of products with a row of this scale into numbers.
    fn finish(sums: &mut [f32], scale: f32);
}

impl<W: Stored> HeadMemory<W> {
    /// Room for `length` keys and values of `size` numbers.
    pub(crate) fn new(length: usize, size: usize) -> Self {
        let scales = if W::SCALED { length } else { 0 };
        Self {
            keys: Panels::zeros(size.div_ceil(W::VALUES), length),
            values: Panels::zeros(length.div_ceil(W::VALUES), size),
            key_scales: vec![0.0; scales],
            value_scales: vec![0.0; scales],
        }
    }

    /// Writes keys and values, both [m, D], at the keys from `first` on, a multiple of a panel's width.
    pub(crate) fn write(&mut self, first: usize, keys: View<'_>, values: View<'_>) {
        assert!(first.is_multiple_of(PANEL), "keys that begin with a panel");
        let count = keys.rows;
        let scales = if W::SCALED { first..first + count } else { 0..0 };
        let panels = self.keys.panels_mut().skip(first / PANEL).take(count.div_ceil(PANEL));
        W::write_keys(panels, &mut self.key_scales[scales.clone()], keys);
        let rows = first / W::VALUES..first / W::VALUES + count.div_ceil(W::VALUES);
        let panels = self.values.panels_mut().map(|panel| &mut panel[rows.clone()]);
        W::write_values(panels, &mut self.value_scales[scales], values);
    }
}

impl Stored for f32 {
    const SCALED: bool = false;

    fn write_keys<'p>(panels: impl Iterator<Item = &'p mut [[Self; PANEL]]>, _: &mut [f32], keys: View<'_>) {
        panels
            .enumerate()
            .for_each(|(p, panel)| pack_panel(panel.as_flattened_mut(), keys.transposed(), p * PANEL, 1.0));
    }

    fn write_values<'p>(panels: impl Iterator<Item = &'p mut [[Self; PANEL]]>, _: &mut [f32], values: View<'_>) {
        panels.enumerate().for_each(|(p, panel)| pack_panel(panel.as_flattened_mut(), values, p * PANEL, 1.0));
    }

    fn push_row(words: &mut Vec<f32>, row: &[f32], _: f32) -> f32 {
        words.extend_from_slice(row);
        1.0
    }

    fn finish(_: &mut [f32], _: f32) {}
}

impl Stored for Bf16x2 {
    const SCALED: bool = false;

    fn write_keys<'p>(panels: impl Iterator<Item = &'p mut [[Self; PANEL]]>, _: &mut [f32], keys: View<'_>) {
        panels
            .enumerate()
            .for_each(|(p, panel)| pack_panel_of_pairs(panel.as_flattened_mut(), keys.transposed(), p * PANEL, 1.0));
    }

    fn write_values<'p>(panels: impl Iterator<Item = &'p mut [[Self; PANEL]]>, _: &mut [f32], values: View<'_>) {
        panels.enumerate().for_each(|(p, panel)| pack_panel_of_pairs(panel.as_flattened_mut(), values, p * PANEL, 1.0));
    }

    fn push_row(words: &mut Vec<Self>, row: &[f32], _: f32) -> f32 {
        let start = words.len();
        words.resize(start + row.len().div_ceil(2), Self::default());
        round_row(&mut words[start..], row);
        1.0
    }

    fn finish(_: &mut [f32], _: f32) {}
}

impl Stored for Int8x2 {
    const SCALED: bool = true;

    fn write_keys<'p>(panels: impl Iterator<Item = &'p mut [[Self; PANEL]]>, scales: &mut [f32], keys: View<'_>) {
        let bytes = quantize_rows(keys, scales);
        let width = keys.columns.max(1);
        for (panel, keys) in panels.zip(bytes.chunks(PANEL * width)) {
            for (lane, key) in keys.chunks_exact(width).enumerate() {
                for (words, pair) in panel.iter_mut().zip(key.chunks(2)) {
                    words[lane] = Self([pair[0], pair.get(1).copied().unwrap_or(0)]);
                }
            }
        }
    }

    fn write_values<'p>(panels: impl Iterator<Item = &'p mut [[Self; PANEL]]>, scales: &mut [f32], values: View<'_>) {
        let bytes = quantize_rows(values, scales);
        let width = values.columns.max(1);
        for (p, panel) in panels.enumerate() {
            let columns = p * PANEL..values.columns.min((p + 1) * PANEL);
            for (words, rows) in panel.iter_mut().zip(bytes.chunks(2 * width)) {
                let (above, below) = rows.split_at(width);
                for (lane, column) in columns.clone().enumerate() {
                    words[lane] = Self([above[column], below.get(column).copied().unwrap_or(0)]);
                }
            }
        }
    }

    fn push_row(words: &mut Vec<Int16x2>, row: &[f32], most: f32) -> f32 {
        let start = words.len();
        words.resize(start + row.len().div_ceil(2), Int16x2::default());
        quantize_wide(row, Int16x2::values(&mut words[start..]), most)
    }

    fn finish(sums: &mut [f32], scale: f32) {
        scale_sums(sums, scale);
    }
}

/// Rows of adjacent values as bytes, and their scales.
fn quantize_rows(source: View<'_>, scales: &mut [f32]) -> Vec<i8> {
    let mut bytes = vec![0; source.rows * source.columns];
    let rows = bytes.chunks_exact_mut(source.columns.max(1)).zip(scales).enumerate();
    rows.for_each(|(row, (bytes, scale))| {
        *scale = quantize_signed(&source.values[row * source.row_stride..][..source.columns], bytes);
    });
    bytes
}

dispatch! {
    fn scale_sums(sums: &mut [f32], scale: f32) = scale_sums_body
}

#[inline(always)]
fn scale_sums_body<const FMA: bool>(sums: &mut [f32], scale: f32) {
    for sum in sums {
        *sum = (sum.to_bits() as i32) as f32 * scale;
    }
}
