//! The right operand of every product, packed: columns in panels of 16, so that a row of a panel is one vector of
//! AVX-512, two of AVX2 or four of NEON.

use super::math::dispatch;
use super::tile::{Bf16x2, Word};
use super::view::View;
use rayon::prelude::*;

/// Columns of a panel.
pub(crate) const PANEL: usize = 16;

/// Words from which packing is worth several threads.
const PARALLEL: usize = 1 << 16;

/// A packed matrix [depth, columns], the depth in words: panel p holds columns `16 p .. 16 p + 16`, each row's 16 words
/// adjacent, padded with zeros.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panels<W = f32> {
    words: Vec<W>,
    depth: usize,
    columns: usize,
}

impl<W: Word> Panels<W> {
    /// Takes over the sizes; returns the memory to fill, panel by panel.
    pub(crate) fn start(&mut self, depth: usize, columns: usize) -> &mut [W] {
        self.depth = depth;
        self.columns = columns;
        let length = columns.next_multiple_of(PANEL) * depth;
        if self.words.len() < length {
            self.words.resize(length, W::default());
        }
        &mut self.words[..length]
    }

    /// Room for a matrix, filled with zeros.
    pub(crate) fn zeros(depth: usize, columns: usize) -> Self {
        let mut panels = Self::default();
        panels.start(depth, columns);
        panels
    }

    /// The panels, each of `depth` rows.
    pub(crate) fn panels_mut(&mut self) -> impl Iterator<Item = &mut [[W; PANEL]]> {
        self.words.as_chunks_mut().0.chunks_exact_mut(self.depth.max(1))
    }

    /// In words.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The word of row `depth` in a column.
    pub(crate) fn word(&self, depth: usize, column: usize) -> W {
        self.words[column / PANEL * PANEL * self.depth + depth * PANEL + column % PANEL]
    }

    /// Rows `depth` of the panel that begins at column `first`.
    pub(crate) fn panel(&self, first: usize, depth: &std::ops::Range<usize>) -> &[[W; PANEL]] {
        let panel = &self.words[first * self.depth..][..self.depth * PANEL];
        &panel.as_chunks().0[depth.clone()]
    }
}

impl Panels<f32> {
    /// Packs `factor * source`, reusing the memory of what was packed before.
    pub(crate) fn pack(&mut self, source: View<'_>, factor: f32) {
        let panels = self.start(source.rows, source.columns);
        panels.chunks_exact_mut((source.rows * PANEL).max(1)).enumerate().for_each(|(p, panel)| {
            pack_panel(panel, source, p * PANEL, factor);
        });
    }

    /// Packs `source` with all threads.
    pub(crate) fn pack_parallel(&mut self, source: View<'_>) {
        if source.rows * source.columns < PARALLEL {
            return self.pack(source, 1.0);
        }
        let panels = self.start(source.rows, source.columns);
        panels.par_chunks_exact_mut(source.rows * PANEL).enumerate().for_each(|(p, panel)| {
            pack_panel(panel, source, p * PANEL, 1.0);
        });
    }

    /// Packs `factor * source`, its columns padded with columns of zeros to whole panels.
    pub(crate) fn pack_lanes(&mut self, source: View<'_>, factor: f32) {
        self.pack(source, factor);
        self.columns = source.columns.next_multiple_of(PANEL);
    }
}

impl Panels<Bf16x2> {
    /// Packs `factor * source` rounded to bf16; an odd depth is padded with zeros.
    pub(crate) fn pack_pairs(&mut self, source: View<'_>, factor: f32) {
        let depth = source.rows.div_ceil(2);
        let panels = self.start(depth, source.columns);
        panels.chunks_exact_mut((depth * PANEL).max(1)).enumerate().for_each(|(p, panel)| {
            pack_panel_of_pairs(panel, source, p * PANEL, factor);
        });
    }

    /// As [`Panels::pack_lanes`].
    pub(crate) fn pack_pair_lanes(&mut self, source: View<'_>, factor: f32) {
        self.pack_pairs(source, factor);
        self.columns = source.columns.next_multiple_of(PANEL);
    }

    /// Packs `source` with all threads.
    pub(crate) fn pack_pairs_parallel(&mut self, source: View<'_>) {
        let depth = source.rows.div_ceil(2);
        let panels = self.start(depth, source.columns);
        panels.par_chunks_exact_mut((depth * PANEL).max(1)).enumerate().for_each(|(p, panel)| {
            pack_panel_of_pairs(panel, source, p * PANEL, 1.0);
        });
    }
}

/// Fills `panel` with the source's columns from `first` on.
pub(super) fn pack_panel(panel: &mut [f32], source: View<'_>, first: usize, factor: f32) {
    let width = PANEL.min(source.columns - first);
    let rows = panel.as_chunks_mut::<PANEL>().0;
    if source.column_stride == 1 && width == PANEL {
        for (row, target) in rows.iter_mut().enumerate() {
            let from: &[f32; PANEL] =
                source.values[row * source.row_stride + first..][..PANEL].try_into().expect("a panel's width");
            *target = from.map(|value| factor * value);
        }
    } else if source.column_stride == 1 {
        for (row, target) in rows.iter_mut().enumerate() {
            let from = &source.values[row * source.row_stride + first..][..width];
            for (target, from) in target.iter_mut().zip(from) {
                *target = factor * from;
            }
            target[width..].fill(0.0);
        }
    } else if source.row_stride == 1 && width == PANEL {
        let lanes: [&[f32]; PANEL] =
            std::array::from_fn(|lane| &source.values[(first + lane) * source.column_stride..][..rows.len()]);
        for (row, target) in rows.iter_mut().enumerate() {
            for (target, lane) in target.iter_mut().zip(lanes) {
                *target = factor * lane[row];
            }
        }
    } else {
        for (row, target) in rows.iter_mut().enumerate() {
            target.fill(0.0);
            for (lane, target) in target[..width].iter_mut().enumerate() {
                *target = factor * source.values[row * source.row_stride + (first + lane) * source.column_stride];
            }
        }
    }
}

dispatch! {
    /// The same in pairs of rows.
    pub(super) fn pack_panel_of_pairs(panel: &mut [Bf16x2], source: View<'_>, first: usize, factor: f32) = pack_panel_of_pairs_body
}

#[inline(always)]
fn pack_panel_of_pairs_body<const FMA: bool>(panel: &mut [Bf16x2], source: View<'_>, first: usize, factor: f32) {
    let width = PANEL.min(source.columns - first);
    let panel = panel.as_chunks_mut::<PANEL>().0;
    let (whole, odd) = panel.split_at_mut(source.rows / 2);
    if source.column_stride == 1 && width == PANEL {
        for (pair, target) in whole.iter_mut().enumerate() {
            let row = |row: usize| &source.values[row * source.row_stride + first..][..PANEL];
            for (target, (above, below)) in target.iter_mut().zip(row(2 * pair).iter().zip(row(2 * pair + 1))) {
                *target = Bf16x2::new(factor * above, factor * below);
            }
        }
    } else {
        for (pair, target) in whole.iter_mut().enumerate() {
            target[width..].fill(Bf16x2::default());
            for (lane, target) in target[..width].iter_mut().enumerate() {
                let at = 2 * pair * source.row_stride + (first + lane) * source.column_stride;
                *target = Bf16x2::new(factor * source.values[at], factor * source.values[at + source.row_stride]);
            }
        }
    }
    for target in odd {
        *target = [Bf16x2::default(); PANEL];
        for (lane, target) in target[..width].iter_mut().enumerate() {
            let at = (source.rows - 1) * source.row_stride + (first + lane) * source.column_stride;
            *target = Bf16x2::new(factor * source.values[at], 0.0);
        }
    }
}
