//! The small matrix product inside attention: C += A B or C = A B, serial, with A read in place through its strides and
//! B packed once for many products.
//!
//! A tile of 6 rows by 16 columns of C stays in registers (12 of AVX2's 16) while the depth passes: a row of B is two
//! loads, an element of A one broadcast. A general product would pack both operands of every call, which for a head
//! size of 64 costs as much as the arithmetic.

use super::math::{dispatch, multiply_add};

/// Columns of a panel of packed B.
pub(crate) const PANEL: usize = 16;

/// Rows of C that one pass over the depth computes.
const ROWS: usize = 6;

/// Packed B up to this many values stays in the first-level cache beside a few rows of A.
const RESIDENT: usize = 6144;

/// A matrix inside a slice: element (i, j) is `values[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// Rows of `columns` adjacent values, `row_stride` apart.
    pub(crate) fn rows(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let view = Self { values, rows, columns, row_stride, column_stride: 1 };
        assert!(
            rows == 0 || columns == 0 || (rows - 1) * row_stride + columns <= values.len(),
            "a view of {rows} x {columns} with stride {row_stride} into {} values",
            values.len()
        );
        view
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// The right operand of [`multiply`]: panel p holds columns `16 p .. 16 p + 16`, each row's 16 values adjacent, padded
/// with zeros. Reused from call to call.
#[derive(Default)]
pub(crate) struct Panels {
    values: Vec<f32>,
    depth: usize,
    columns: usize,
}

impl Panels {
    /// Packs `factor * source`.
    pub(crate) fn pack(&mut self, source: View<'_>, factor: f32) {
        self.depth = source.rows;
        self.columns = source.columns;
        let length = source.columns.div_ceil(PANEL) * PANEL * source.rows;
        if self.values.len() < length {
            self.values.resize(length, 0.0);
        }
        if source.column_stride == 1 { self.pack_rows(source, factor) } else { self.pack_columns(source, factor) }
    }

    /// Packs `factor * source`, its columns padded with columns of zeros to whole panels.
    pub(crate) fn pack_lanes(&mut self, source: View<'_>, factor: f32) {
        self.pack(source, factor);
        self.columns = source.columns.next_multiple_of(PANEL);
    }

    fn pack_rows(&mut self, source: View<'_>, factor: f32) {
        for first in (0..source.columns).step_by(PANEL) {
            let width = PANEL.min(source.columns - first);
            let panel = &mut self.values[first * source.rows..][..source.rows * PANEL];
            for (row, target) in panel.chunks_exact_mut(PANEL).enumerate() {
                let from = &source.values[row * source.row_stride + first..][..width];
                for (target, from) in target.iter_mut().zip(from) {
                    *target = factor * from;
                }
                target[width..].fill(0.0);
            }
        }
    }

    fn pack_columns(&mut self, source: View<'_>, factor: f32) {
        for first in (0..source.columns).step_by(PANEL) {
            let panel = &mut self.values[first * source.rows..][..source.rows * PANEL];
            for lane in 0..PANEL {
                let column = first + lane;
                for row in 0..source.rows {
                    panel[row * PANEL + lane] = if column < source.columns {
                        factor * source.values[row * source.row_stride + column * source.column_stride]
                    } else {
                        0.0
                    };
                }
            }
        }
    }
}

/// Where a product goes: rows of `values`, `row_stride` apart.
pub(crate) struct Target<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) row_stride: usize,
    /// Whether the product is added to what is there.
    pub(crate) accumulate: bool,
}

/// C = A B, or C += A B: A [m, k], B [k, n] packed, C [m, n].
pub(crate) fn multiply(left: View<'_>, right: &Panels, target: Target<'_>) {
    let (rows, columns) = (left.rows, right.columns);
    assert_eq!(left.columns, right.depth, "inner dimensions of a product");
    if rows == 0 || columns == 0 {
        return;
    }
    assert!((rows - 1) * target.row_stride + columns <= target.values.len(), "a product larger than its target");
    drive(left, right, target);
}

dispatch! {
    fn drive(left: View<'_>, right: &Panels, target: Target<'_>) = drive_body
}

#[inline(always)]
fn drive_body<const FMA: bool>(left: View<'_>, right: &Panels, target: Target<'_>) {
    let tile = |row: usize, first: usize, target: &mut [f32], row_stride, accumulate| {
        let arguments = Tile {
            left: &left.values[row * left.row_stride..],
            left_strides: (left.row_stride, left.column_stride),
            panel: &right.values[first * right.depth..][..right.depth * PANEL],
            target: &mut target[row * row_stride + first..],
            row_stride,
            columns: PANEL.min(right.columns - first),
            accumulate,
        };
        match left.rows - row {
            1 => arguments.compute::<FMA, 1>(),
            2 => arguments.compute::<FMA, 2>(),
            3 => arguments.compute::<FMA, 3>(),
            4 => arguments.compute::<FMA, 4>(),
            5 => arguments.compute::<FMA, 5>(),
            _ => arguments.compute::<FMA, ROWS>(),
        }
    };
    let Target { values, row_stride, accumulate } = target;
    if right.depth * right.columns <= RESIDENT {
        for row in (0..left.rows).step_by(ROWS) {
            for first in (0..right.columns).step_by(PANEL) {
                tile(row, first, values, row_stride, accumulate);
            }
        }
    } else {
        for first in (0..right.columns).step_by(PANEL) {
            for row in (0..left.rows).step_by(ROWS) {
                tile(row, first, values, row_stride, accumulate);
            }
        }
    }
}

struct Tile<'a> {
    left: &'a [f32],
    left_strides: (usize, usize),
    panel: &'a [f32],
    target: &'a mut [f32],
    row_stride: usize,
    columns: usize,
    accumulate: bool,
}

impl Tile<'_> {
    #[inline(always)]
    fn compute<const FMA: bool, const ROWS: usize>(self) {
        let mut sums = [[0.0f32; PANEL]; ROWS];
        let (row_stride, depth_stride) = self.left_strides;
        let depth = self.panel.len() / PANEL;
        if depth > 0 {
            assert!((ROWS - 1) * row_stride + (depth - 1) * depth_stride < self.left.len());
        }
        for (d, panel_row) in self.panel.chunks_exact(PANEL).enumerate() {
            let panel_row: &[f32; PANEL] = panel_row.try_into().expect("a chunk of PANEL values");
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: r < ROWS and d < depth, so the index is at most the one asserted to be in bounds above.
                let a = unsafe { *self.left.get_unchecked(r * row_stride + d * depth_stride) };
                for (sum, b) in sums.iter_mut().zip(panel_row) {
                    *sum = multiply_add::<FMA>(a, *b, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let target = &mut self.target[r * self.row_stride..][..self.columns];
            if let Ok(target) = <&mut [f32; PANEL]>::try_from(&mut *target) {
                store(target, sums, self.accumulate);
            } else {
                store(target, sums, self.accumulate);
            }
        }
    }
}

#[inline(always)]
fn store(target: &mut [f32], sums: &[f32; PANEL], accumulate: bool) {
    for (target, sum) in target.iter_mut().zip(sums) {
        *target = if accumulate { *target + sum } else { *sum };
    }
}
