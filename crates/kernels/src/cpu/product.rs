//! The small matrix product inside attention: C += A B or C = A B, serial, with A read in place through its strides and
//! B packed once for many products. A general product would pack both operands of every call, which for a head size of
//! 64 costs as much as the arithmetic.

use super::panels::{PANEL, Panels};
use super::tile::{Machine, Start, Tile, Word};
use super::view::View;
use std::ops::Range;

/// Packed B up to this many values stays in the first-level cache beside a few rows of A.
const RESIDENT: usize = 6144;

/// Where a product goes: rows of `values`, `row_stride` apart.
pub(crate) struct Target<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) row_stride: usize,
    /// Whether the product is added to what is there.
    pub(crate) accumulate: bool,
}

impl Target<'_> {
    /// What a product over nothing leaves.
    fn clear(&mut self, rows: usize, columns: usize) {
        for row in 0..if self.accumulate { 0 } else { rows } {
            self.values[row * self.row_stride..][..columns].fill(0.0);
        }
    }
}

/// C = A B, or C += A B: A [m, k], B [k, n] packed, C [m, n].
pub(crate) fn multiply<W: Word>(left: View<'_, W::Left>, right: &Panels<W>, target: Target<'_>) {
    let all = Part { depth: 0..right.depth(), columns: 0..right.columns() };
    multiply_part(left, right, &all, target);
}

/// A part of a packed matrix; the columns begin at a panel.
pub(crate) struct Part {
    pub(crate) depth: Range<usize>,
    pub(crate) columns: Range<usize>,
}

/// The same with a part of a packed matrix as B.
pub(crate) fn multiply_part<W: Word>(left: View<'_, W::Left>, right: &Panels<W>, part: &Part, target: Target<'_>) {
    multiply_on(W::machine(), left, right, part, target);
}

/// The same with the instructions of `machine`.
fn multiply_on<W: Word>(machine: Machine, left: View<'_, W::Left>, right: &Panels<W>, part: &Part, target: Target<'_>) {
    let (rows, columns) = (left.rows, part.columns.len());
    assert_eq!(left.columns, part.depth.len(), "inner dimensions of a product");
    assert!(part.columns.start.is_multiple_of(PANEL) && part.columns.end <= right.columns(), "columns of a product");
    if rows == 0 || columns == 0 {
        return;
    }
    let mut target = target;
    assert!((rows - 1) * target.row_stride + columns <= target.values.len(), "a product larger than its target");
    if left.columns == 0 {
        return target.clear(rows, columns);
    }
    let block = Block {
        machine,
        right,
        depth: part.depth.clone(),
        // The tiles count columns from the matrix's first.
        target: target.values.as_mut_ptr().wrapping_sub(part.columns.start),
        target_stride: target.row_stride,
        start: if target.accumulate { Start::Target } else { Start::Zero },
    };
    let step = machine.rows();
    // A small B stays in the first-level cache for all rows; of a large one a panel does.
    let wide = if part.depth.len() * columns <= RESIDENT { columns } else { machine.panels() * PANEL };
    for first in part.columns.clone().step_by(wide) {
        let panels = first..part.columns.end.min(first + wide);
        for row in (0..rows).step_by(step) {
            // SAFETY: the target is borrowed mutably and as large as asserted above.
            unsafe { block.rows(left, row..rows.min(row + step), panels.clone()) };
        }
    }
}

/// A part of a product's depth, and where its result goes.
pub(super) struct Block<'a, W> {
    pub(super) machine: Machine,
    pub(super) right: &'a Panels<W>,
    pub(super) depth: Range<usize>,
    pub(super) target: *mut f32,
    pub(super) target_stride: usize,
    pub(super) start: Start<'a>,
}

impl<W: Word> Block<'_, W> {
    /// The tiles of some rows of A and C (at most a tile's) over some columns, which begin at a panel. `left` has this
    /// part of the depth only.
    ///
    /// # Safety
    /// As [`Tile::compute`], for these rows and columns.
    pub(super) unsafe fn rows(&self, left: View<'_, W::Left>, rows: Range<usize>, columns: Range<usize>) {
        let packed = View { values: &left.values[rows.start * left.row_stride..], ..left };
        // SAFETY: by this function's contract.
        unsafe { self.packed_rows(packed, rows, columns) };
    }

    /// The same, `left` beginning at the first of the rows.
    ///
    /// # Safety
    /// As [`Block::rows`].
    pub(super) unsafe fn packed_rows(&self, left: View<'_, W::Left>, rows: Range<usize>, columns: Range<usize>) {
        let wide = self.machine.panels() * PANEL;
        for first in columns.clone().step_by(wide) {
            let count = wide.min(columns.end - first);
            let second: &[[W; PANEL]] = if count > PANEL { self.right.panel(first + PANEL, &self.depth) } else { &[] };
            let tile = Tile {
                left: left.values,
                row_stride: left.row_stride,
                depth_stride: left.column_stride,
                panels: [self.right.panel(first, &self.depth), second],
                target: self.target.wrapping_add(rows.start * self.target_stride + first),
                target_stride: self.target_stride,
                columns: count,
                start: match self.start {
                    Start::Row(row) => Start::Row(&row[first..]),
                    start => start,
                },
            };
            // SAFETY: by this function's contract.
            unsafe { tile.compute(self.machine, rows.len()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers, so that every order of additions gives the same sum.
    pub(crate) fn numbers(length: usize, step: usize) -> Vec<f32> {
        (0..length).map(|i| ((i * step) % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn products_of_all_tile_sizes_in_place_and_transposed() {
        for (m, n, k) in [(1, 1, 1), (6, 16, 64), (7, 17, 5), (13, 40, 3), (25, 63, 9), (64, 64, 256), (5, 3, 0)] {
            let (a, b) = (numbers(m * k, 7), numbers(k * n, 3));
            let start = numbers(m * (n + 2), 5);
            let mut panels = Panels::default();
            panels.pack(View::rows(&b, k, n, n), 2.0);
            let part = Part { depth: 0..k, columns: 0..n };
            for (machine, accumulate) in
                f32::machines().into_iter().flat_map(|machine| [(machine, true), (machine, false)])
            {
                let mut target = start.clone();
                let left = View::rows(&a, k, m, m).transposed();
                multiply_on(
                    machine,
                    left,
                    &panels,
                    &part,
                    Target { values: &mut target, row_stride: n + 2, accumulate },
                );
                for i in 0..m {
                    for j in 0..n + 2 {
                        let product: f32 = (0..k).filter(|_| j < n).map(|d| 2.0 * a[d * m + i] * b[d * n + j]).sum();
                        let before = if accumulate || j >= n { start[i * (n + 2) + j] } else { 0.0 };
                        assert_eq!(target[i * (n + 2) + j], before + product, "{machine:?} {m} {n} {k}: {i} {j}");
                    }
                }
            }
        }
    }

    /// What alone-or-in-a-batch, threads and processors rest on.
    #[test]
    fn a_row_has_the_same_bits_on_every_machine_and_beside_any_other_rows() {
        let (m, n, k) = (29, 50, 77);
        let value = |i: usize| (i as f32 * 0.37).sin();
        let a: Vec<f32> = (0..m * k).map(value).collect();
        let b: Vec<f32> = (0..k * n).map(|i| value(i + 9)).collect();
        let mut panels = Panels::default();
        panels.pack(View::rows(&b, k, n, n), 1.0);
        let part = Part { depth: 0..k, columns: 0..n };
        let product = |machine, rows: Range<usize>| {
            let mut target = vec![0.0; rows.len() * n];
            let left = View::rows(&a[rows.start * k..], rows.len(), k, k);
            multiply_on(
                machine,
                left,
                &panels,
                &part,
                Target { values: &mut target, row_stride: n, accumulate: false },
            );
            target
        };
        let fused = |machine: &Machine| *machine != Machine::Portable || cfg!(target_arch = "aarch64");
        let machines: Vec<Machine> = f32::machines().into_iter().filter(fused).collect();
        for machine in machines.iter().copied() {
            let all = product(machine, 0..m);
            assert_eq!(all, product(machines[0], 0..m));
            for row in 0..m {
                assert_eq!(all[row * n..][..n], product(machine, row..row + 1), "{machine:?}, row {row}");
            }
        }
    }
}
