//! The small matrix product inside attention: C += A B or C = A B, serial, with A read in place through its strides and
//! B packed once for many products.
//!
//! A tile of 6 rows by 16 columns of C stays in registers (12 of AVX2's 16) while the depth passes: a row of B is two
//! loads, an element of A one broadcast. A general product would pack both operands of every call, which for a head
//! size of 64 costs as much as the arithmetic.

#[cfg(target_arch = "x86_64")]
use super::math::has_avx2;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps,
};

use super::view::View;

/// Columns of a panel of packed B.
pub(crate) const PANEL: usize = 16;

/// Rows of C that one pass over the depth computes.
const ROWS: usize = 6;

/// Packed B up to this many values stays in the first-level cache beside a few rows of A.
const RESIDENT: usize = 6144;

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

/// Goes over the tiles of C; a small B stays in the first-level cache for all rows, of a large one a panel does.
fn drive(left: View<'_>, right: &Panels, target: Target<'_>) {
    let mut target = target;
    if right.depth * right.columns <= RESIDENT {
        for row in (0..left.rows).step_by(ROWS) {
            for first in (0..right.columns).step_by(PANEL) {
                tile((left, row), (right, first), &mut target);
            }
        }
    } else {
        for first in (0..right.columns).step_by(PANEL) {
            for row in (0..left.rows).step_by(ROWS) {
                tile((left, row), (right, first), &mut target);
            }
        }
    }
}

/// The tile of C that begins at `row` and `first`.
fn tile((left, row): (View<'_>, usize), (right, first): (&Panels, usize), target: &mut Target<'_>) {
    let mut tile = Tile {
        left: &left.values[row * left.row_stride..],
        row_stride: left.row_stride,
        depth_stride: left.column_stride,
        panel: right.values[first * right.depth..][..right.depth * PANEL].as_chunks().0,
        target: &mut target.values[row * target.row_stride + first..],
        target_stride: target.row_stride,
        columns: PANEL.min(right.columns - first),
        accumulate: target.accumulate,
    };
    match left.rows - row {
        1 => tile.compute::<1>(),
        2 => tile.compute::<2>(),
        3 => tile.compute::<3>(),
        4 => tile.compute::<4>(),
        5 => tile.compute::<5>(),
        _ => tile.compute::<ROWS>(),
    }
}

/// One tile of C: the slices begin at its first row and column.
struct Tile<'a> {
    left: &'a [f32],
    row_stride: usize,
    depth_stride: usize,
    panel: &'a [[f32; PANEL]],
    target: &'a mut [f32],
    target_stride: usize,
    columns: usize,
    accumulate: bool,
}

impl Tile<'_> {
    fn compute<const ROWS: usize>(&mut self) {
        if let Some(last) = self.panel.len().checked_sub(1) {
            assert!((ROWS - 1) * self.row_stride + last * self.depth_stride < self.left.len());
        }
        assert!((ROWS - 1) * self.target_stride + self.columns <= self.target.len());
        #[cfg(target_arch = "x86_64")]
        if has_avx2() {
            // SAFETY: the processor has the instructions, and the assertions above are the function's contract.
            return unsafe { self.compute_avx2::<ROWS>() };
        }
        self.store(&self.sums_portable::<ROWS>());
    }

    fn sums_portable<const ROWS: usize>(&self) -> [[f32; PANEL]; ROWS] {
        let mut sums = [[0.0f32; PANEL]; ROWS];
        for (d, panel_row) in self.panel.iter().enumerate() {
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = self.left[r * self.row_stride + d * self.depth_stride];
                for (sum, b) in sums.iter_mut().zip(panel_row) {
                    *sum += a * b;
                }
            }
        }
        sums
    }

    fn store<const ROWS: usize>(&mut self, sums: &[[f32; PANEL]; ROWS]) {
        for (r, sums) in sums.iter().enumerate() {
            for (target, sum) in self.target[r * self.target_stride..][..self.columns].iter_mut().zip(sums) {
                *target = if self.accumulate { *target + sum } else { *sum };
            }
        }
    }

    /// # Safety
    /// The machine has AVX2 and FMA; `left` reaches ROWS rows of the panel's depth, `target` ROWS rows of `columns`.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn compute_avx2<const ROWS: usize>(&mut self) {
        let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
        let mut left = self.left.as_ptr();
        for panel_row in self.panel {
            // SAFETY: a panel row has 16 values; reads of `left` stay below the index of the contract.
            unsafe {
                let low = _mm256_loadu_ps(panel_row.as_ptr());
                let high = _mm256_loadu_ps(panel_row.as_ptr().add(8));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let a = _mm256_broadcast_ss(&*left.add(r * self.row_stride));
                    sums[0] = _mm256_fmadd_ps(a, low, sums[0]);
                    sums[1] = _mm256_fmadd_ps(a, high, sums[1]);
                }
            }
            left = left.wrapping_add(self.depth_stride);
        }
        if self.columns < PANEL {
            // SAFETY: two vectors of 8 values are one array of 16.
            let sums = unsafe { std::mem::transmute_copy::<[[__m256; 2]; ROWS], [[f32; PANEL]; ROWS]>(&sums) };
            return self.store(&sums);
        }
        for (r, sums) in sums.iter().enumerate() {
            // SAFETY: `target` holds 16 values from here, by the contract.
            unsafe {
                let target = self.target.as_mut_ptr().add(r * self.target_stride);
                let [mut low, mut high] = *sums;
                if self.accumulate {
                    low = _mm256_add_ps(low, _mm256_loadu_ps(target));
                    high = _mm256_add_ps(high, _mm256_loadu_ps(target.add(8)));
                }
                _mm256_storeu_ps(target, low);
                _mm256_storeu_ps(target.add(8), high);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers, so that every order of additions gives the same sum.
    fn numbers(length: usize, step: usize) -> Vec<f32> {
        (0..length).map(|i| ((i * step) % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn products_of_all_tile_sizes_in_place_and_transposed() {
        for (m, n, k) in [(1, 1, 1), (6, 16, 64), (7, 17, 5), (13, 40, 3), (64, 64, 256), (5, 3, 0)] {
            let (a, b) = (numbers(m * k, 7), numbers(k * n, 3));
            let start = numbers(m * (n + 2), 5);
            let mut panels = Panels::default();
            panels.pack(View::rows(&b, k, n, n), 2.0);
            let mut target = start.clone();
            multiply(
                View::rows(&a, k, m, m).transposed(),
                &panels,
                Target { values: &mut target, row_stride: n + 2, accumulate: true },
            );
            for i in 0..m {
                for j in 0..n + 2 {
                    let product: f32 = (0..k).filter(|_| j < n).map(|d| 2.0 * a[d * m + i] * b[d * n + j]).sum();
                    assert_eq!(target[i * (n + 2) + j], start[i * (n + 2) + j] + product, "{m} {n} {k}: {i} {j}");
                }
            }
        }
    }

    #[test]
    fn the_portable_tile_is_the_vector_tile() {
        let (a, b) = (numbers(6 * 9, 7), numbers(9 * PANEL, 3));
        let mut target = vec![0.0; 6 * PANEL];
        let mut tile = Tile {
            left: &a,
            row_stride: 9,
            depth_stride: 1,
            panel: b.as_chunks().0,
            target: &mut target,
            target_stride: PANEL,
            columns: PANEL,
            accumulate: false,
        };
        tile.compute::<ROWS>();
        let portable = tile.sums_portable::<ROWS>();
        assert_eq!(target, portable.as_flattened());
        assert!(target.iter().any(|value| *value != 0.0));
    }
}
