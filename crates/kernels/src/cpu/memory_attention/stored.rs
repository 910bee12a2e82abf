//! What keys and values are kept in.

use crate::cpu::int8::{quantize_signed, quantize_wide, signed_scale};
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
    /// Keys in a word of values.
    const GROUP: usize;
    /// Whether keys and values are scaled row by row.
    const SCALED: bool;

    /// Fills a panel's words with the columns of `source` from `first` on, `source` [depth, columns]; `scales` belong to its
    /// columns, or to its rows if `scales_of_rows`.
    fn fill(panel: &mut [[Self; PANEL]], source: View<'_>, first: usize, scales: Scales<'_>);

    /// Appends a row of numbers as words of the left operand; returns their scale. `most` is the largest integer that
    /// sums of products allow.
    fn push_row(words: &mut Vec<Self::Left>, row: &[f32], most: f32) -> f32;

    /// Turns sums of products with a row of this scale into numbers.
    fn finish(sums: &mut [f32], scale: f32);
}

/// The scales of a matrix's columns or rows.
#[derive(Clone, Copy)]
pub(crate) enum Scales<'a> {
    Columns(&'a [f32]),
    Rows(&'a [f32]),
}

impl<W: Stored> HeadMemory<W> {
    /// Room for `length` keys and values of `size` numbers.
    pub(crate) fn new(length: usize, size: usize) -> Self {
        let scales = if W::SCALED { length } else { 0 };
        Self {
            keys: Panels::zeros(size.div_ceil(W::GROUP), length),
            values: Panels::zeros(length.div_ceil(W::GROUP), size),
            key_scales: vec![0.0; scales],
            value_scales: vec![0.0; scales],
        }
    }

    /// Writes keys and values, both [m, D], at the keys from `first` on, a multiple of a panel's width.
    pub(crate) fn write(&mut self, first: usize, keys: View<'_>, values: View<'_>) {
        assert!(first.is_multiple_of(PANEL), "keys that begin with a panel");
        let count = keys.rows;
        if W::SCALED {
            row_scales(&mut self.key_scales[first..][..count], keys);
            row_scales(&mut self.value_scales[first..][..count], values);
        }
        let scales_at = |scales: &[f32]| if W::SCALED { first..first + count } else { 0..scales.len() };
        let scales = Scales::Columns(&self.key_scales[scales_at(&self.key_scales)]);
        for (p, panel) in self.keys.panels_mut().skip(first / PANEL).take(count.div_ceil(PANEL)).enumerate() {
            W::fill(panel, keys.transposed(), p * PANEL, scales);
        }
        let scales = Scales::Rows(&self.value_scales[scales_at(&self.value_scales)]);
        let rows = first / W::GROUP..first / W::GROUP + count.div_ceil(W::GROUP);
        for (p, panel) in self.values.panels_mut().enumerate() {
            W::fill(&mut panel[rows.clone()], values, p * PANEL, scales);
        }
    }
}

impl Stored for f32 {
    const GROUP: usize = 1;
    const SCALED: bool = false;

    fn fill(panel: &mut [[f32; PANEL]], source: View<'_>, first: usize, _: Scales<'_>) {
        pack_panel(panel.as_flattened_mut(), source, first, 1.0);
    }

    fn push_row(words: &mut Vec<f32>, row: &[f32], _: f32) -> f32 {
        words.extend_from_slice(row);
        1.0
    }

    fn finish(_: &mut [f32], _: f32) {}
}

impl Stored for Bf16x2 {
    const GROUP: usize = 2;
    const SCALED: bool = false;

    fn fill(panel: &mut [[Self; PANEL]], source: View<'_>, first: usize, _: Scales<'_>) {
        pack_panel_of_pairs(panel.as_flattened_mut(), source, first, 1.0);
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
    const GROUP: usize = 2;
    const SCALED: bool = true;

    fn fill(panel: &mut [[Self; PANEL]], source: View<'_>, first: usize, scales: Scales<'_>) {
        let width = PANEL.min(source.columns - first);
        for (d, words) in panel.iter_mut().enumerate() {
            for (lane, word) in words.iter_mut().enumerate().take(width) {
                let byte = |part: usize| {
                    let row = 2 * d + part;
                    if row == source.rows {
                        return 0;
                    }
                    let scale = match scales {
                        Scales::Columns(scales) => scales[first + lane],
                        Scales::Rows(scales) => scales[row],
                    };
                    let at = row * source.row_stride + (first + lane) * source.column_stride;
                    quantize_signed(source.values[at], scale)
                };
                *word = Self([byte(0), byte(1)]);
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

/// The scales of rows of adjacent values.
fn row_scales(scales: &mut [f32], source: View<'_>) {
    for (row, scale) in scales.iter_mut().enumerate() {
        *scale = signed_scale(&source.values[row * source.row_stride..][..source.columns]);
    }
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
