//! What keys and values are kept in.

use crate::cpu::int8::{quantize_signed, quantize_wide};
use crate::cpu::math::dispatch;
use crate::cpu::panels::{PANEL, Panels};
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

    /// Copies keys and values, both [n, D].
    fn memory(keys: View<'_>, values: View<'_>) -> HeadMemory<Self>;

    /// Appends a row of numbers as words of the left operand; returns their scale. `most` is the largest integer that
    /// sums of products allow.
    fn push_row(words: &mut Vec<Self::Left>, row: &[f32], most: f32) -> f32;

    /// Turns sums of products with a row of this scale into numbers.
    fn finish(sums: &mut [f32], scale: f32);
}

impl Stored for f32 {
    const GROUP: usize = 1;

    fn memory(keys: View<'_>, values: View<'_>) -> HeadMemory<f32> {
        let mut memory = HeadMemory::default();
        memory.keys.pack(keys.transposed(), 1.0);
        memory.values.pack(values, 1.0);
        memory
    }

    fn push_row(words: &mut Vec<f32>, row: &[f32], _: f32) -> f32 {
        words.extend_from_slice(row);
        1.0
    }

    fn finish(_: &mut [f32], _: f32) {}
}

impl Stored for Bf16x2 {
    const GROUP: usize = 2;

    fn memory(keys: View<'_>, values: View<'_>) -> HeadMemory<Self> {
        let mut memory = HeadMemory::default();
        memory.keys.pack_pairs(keys.transposed(), 1.0);
        memory.values.pack_pairs(values, 1.0);
        memory
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

    fn memory(keys: View<'_>, values: View<'_>) -> HeadMemory<Self> {
        let (length, size) = (keys.rows, keys.columns);
        let mut memory = HeadMemory::default();
        let mut bytes = vec![0; size];
        let depth = size.div_ceil(2);
        let words = memory.keys.start(depth, length);
        words.fill(Self::default());
        for (key, row) in rows(keys).enumerate() {
            memory.key_scales.push(quantize_signed(row, &mut bytes));
            let panel = &mut words[key / PANEL * PANEL * depth..];
            for (d, value) in bytes.iter().enumerate() {
                panel[d / 2 * PANEL + key % PANEL].0[d % 2] = *value;
            }
        }
        let depth = length.div_ceil(2);
        let words = memory.values.start(depth, size);
        words.fill(Self::default());
        for (key, row) in rows(values).enumerate() {
            memory.value_scales.push(quantize_signed(row, &mut bytes));
            for (d, value) in bytes.iter().enumerate() {
                words[(d / PANEL * depth + key / 2) * PANEL + d % PANEL].0[key % 2] = *value;
            }
        }
        memory
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

fn rows<'a>(view: View<'a>) -> impl Iterator<Item = &'a [f32]> {
    (0..view.rows).map(move |row| &view.values[row * view.row_stride..][..view.columns])
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
