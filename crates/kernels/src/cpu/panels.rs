//! The right operand of every product, packed: columns in panels of 16, so that a row of a panel is one vector of
//! AVX-512, two of AVX2 or four of NEON.

use super::view::View;
use rayon::prelude::*;

/// Columns of a panel.
pub(crate) const PANEL: usize = 16;

/// Values from which packing is worth several threads.
const PARALLEL: usize = 1 << 16;

/// A packed matrix [depth, columns]: panel p holds columns `16 p .. 16 p + 16`, each row's 16 values adjacent, padded with
/// zeros.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panels {
    values: Vec<f32>,
    depth: usize,
    columns: usize,
}

impl Panels {
    /// Packs `factor * source`, reusing the memory of what was packed before.
    pub(crate) fn pack(&mut self, source: View<'_>, factor: f32) {
        let panels = self.start(source);
        panels.chunks_exact_mut((source.rows * PANEL).max(1)).enumerate().for_each(|(p, panel)| {
            pack_panel(panel, source, p * PANEL, factor);
        });
    }

    /// Packs `source` with all threads.
    pub(crate) fn pack_parallel(&mut self, source: View<'_>) {
        if source.rows * source.columns < PARALLEL {
            return self.pack(source, 1.0);
        }
        let panels = self.start(source);
        panels.par_chunks_exact_mut(source.rows * PANEL).enumerate().for_each(|(p, panel)| {
            pack_panel(panel, source, p * PANEL, 1.0);
        });
    }

    /// Packs `factor * source`, its columns padded with columns of zeros to whole panels.
    pub(crate) fn pack_lanes(&mut self, source: View<'_>, factor: f32) {
        self.pack(source, factor);
        self.columns = source.columns.next_multiple_of(PANEL);
    }

    /// Takes over the source's sizes; returns the memory to fill.
    fn start(&mut self, source: View<'_>) -> &mut [f32] {
        self.depth = source.rows;
        self.columns = source.columns;
        let length = source.columns.next_multiple_of(PANEL) * source.rows;
        if self.values.len() < length {
            self.values.resize(length, 0.0);
        }
        &mut self.values[..length]
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Rows `depth` of the panel that begins at column `first`.
    pub(crate) fn panel(&self, first: usize, depth: &std::ops::Range<usize>) -> &[[f32; PANEL]] {
        let panel = &self.values[first * self.depth..][..self.depth * PANEL];
        &panel.as_chunks().0[depth.clone()]
    }
}

/// Fills `panel` with the source's columns from `first` on.
fn pack_panel(panel: &mut [f32], source: View<'_>, first: usize, factor: f32) {
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
