//! The large matrix product C = A B + bias or C += A B, with all of rayon's threads: blocked for the caches around the tiles of
//! [`super::tile`], B packed beforehand or on the way.
//!
//! The elements of C are computed as the tiles compute them, whatever the blocks and the threads (see there).

use super::panels::{PANEL, Panels};
use super::product::Block;
use super::tile::{MOST_ROWS, Start, Word};
use super::view::View;
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

/// Words of depth of a block: A's rows in a tile are 18 KiB, to stay in the first-level cache.
const DEPTH: usize = 384;

/// Columns of a block: with the depth above, 384 KiB of B, to stay in the second-level cache for all rows of a task.
const COLUMNS: usize = 256;

/// The most rows of a task: a multiple of every tile's rows.
const ROWS: usize = 192;

/// Multiplications below which threads are not worth waking.
const PARALLEL: usize = 1 << 18;

/// Values of B that are packed at a time (16 MiB), or a block's depth of it where that is more.
const PACKED: usize = 4 << 20;

/// Columns of a block from which copying the rows of A is soon paid for.
const COPIED: usize = 128;

thread_local! {
    /// B of the last product, so that its memory is used again.
    static PANELS: Cell<Panels> = Cell::default();
}

/// The first value of a product, which several tasks write, each its own rectangle; they need not be initialised.
#[derive(Clone, Copy)]
struct Destination(*mut f32);

// SAFETY: whoever uses the pointer promises that tasks write different values (see `multiply`).
unsafe impl Send for Destination {}
// SAFETY: as above.
unsafe impl Sync for Destination {}

impl Destination {
    /// A method, so that closures capture the whole.
    fn start(self) -> *mut f32 {
        self.0
    }
}

/// What becomes of a product's sums while they are in the cache: called with a row, its first column at hand and the sums
/// from there on, for every part of C once.
pub(crate) trait Finish: Fn(usize, usize, &mut [f32]) + Sync {}

impl<F: Fn(usize, usize, &mut [f32]) + Sync> Finish for F {}

/// Leaves the sums as they are.
pub(crate) fn keep(_: usize, _: usize, _: &mut [f32]) {}

/// `left right + bias`, row-major [m, n]; bias [n].
pub(crate) fn matmul(left: View<'_>, right: View<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    assert!(bias.is_none_or(|bias| bias.len() == right.columns), "a bias for every column");
    // SAFETY: the closure writes every value before it returns.
    unsafe {
        written(left.rows * right.columns, |target| {
            pack_and_multiply(target, left, right, bias.map_or(Start::Zero, Start::Row));
        })
    }
}

/// `start + left right` with B packed, then `finish`: row-major [m, n]. `start` is a row or nothing.
pub(crate) fn multiply_new<W: Word>(
    left: View<'_, W::Left>,
    right: &Panels<W>,
    start: Start<'_>,
    finish: impl Finish,
) -> Vec<f32> {
    assert!(!matches!(start, Start::Target), "a new product is added to nothing");
    // SAFETY: the closure writes every value before it returns.
    unsafe { written(left.rows * right.columns(), |target| multiply(target, left, right, start, finish)) }
}

/// The same into `target`.
pub(crate) fn multiply_into<W: Word>(
    target: &mut [f32],
    left: View<'_, W::Left>,
    right: &Panels<W>,
    start: Start<'_>,
    finish: impl Finish,
) {
    assert_eq!(target.len(), left.rows * right.columns(), "size of a matrix product's target");
    // SAFETY: the target has its values.
    unsafe { multiply(Destination(target.as_mut_ptr()), left, right, start, finish) };
}

/// `length` values that `write` writes.
///
/// # Safety
/// `write` writes every value, and reads none before.
unsafe fn written(length: usize, write: impl FnOnce(Destination)) -> Vec<f32> {
    let mut values = Vec::with_capacity(length);
    // SAFETY: the vector has the capacity, and by this function's contract the values.
    unsafe {
        write(Destination(values.as_mut_ptr()));
        values.set_len(length);
    }
    values
}

/// `target += left right`; target row-major [m, n].
pub(crate) fn matmul_add(target: &mut [f32], left: View<'_>, right: View<'_>) {
    assert_eq!(target.len(), left.rows * right.columns, "size of a matrix product's target");
    // SAFETY: the target has its values.
    unsafe { pack_and_multiply(Destination(target.as_mut_ptr()), left, right, Start::Target) };
}

/// # Safety
/// As [`multiply`].
unsafe fn pack_and_multiply(target: Destination, left: View<'_>, right: View<'_>, start: Start<'_>) {
    assert_eq!(left.columns, right.rows, "inner dimensions of a matrix product");
    let mut panels = PANELS.take();
    let step = (PACKED / right.columns.max(1)).max(DEPTH);
    let mut start = start;
    // Over at least one part, however empty, so that the target is written.
    for first in (0..right.rows.max(1)).step_by(step) {
        let depth = first..right.rows.min(first + step);
        panels.pack_parallel(right.part(depth.clone(), 0..right.columns));
        // SAFETY: by this function's contract; after the first part the target is initialised.
        unsafe { multiply(target, left.part(0..left.rows, depth), &panels, start, keep) };
        start = Start::Target;
    }
    PANELS.set(panels);
}

/// The product with B packed, into a row-major [m, n] target.
///
/// # Safety
/// The target holds m x n values, initialised where they are added to; a row that the product is added to holds n.
unsafe fn multiply<W: Word>(
    target: Destination,
    left: View<'_, W::Left>,
    right: &Panels<W>,
    start: Start<'_>,
    finish: impl Finish,
) {
    let (rows, columns) = (left.rows, right.columns());
    assert_eq!(left.columns, right.depth(), "inner dimensions of a matrix product");
    assert!(if let Start::Row(row) = start { row.len() >= columns } else { true }, "a value for every column");
    let run = |(rows, columns): (Range<usize>, Range<usize>)| {
        let task = Task { left, right, start, finish: &finish, rows, columns };
        // SAFETY: the tasks' rectangles do not overlap, and by this function's contract.
        unsafe { task.run(target.start(), right.columns()) };
    };
    let tasks = tasks(rows, columns);
    if rows * columns * left.columns < PARALLEL {
        tasks.into_iter().for_each(run);
    } else {
        tasks.into_par_iter().for_each(run);
    }
}

/// Rectangles of C. Few rows are split by columns too, so that every thread has some.
fn tasks(rows: usize, columns: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let wanted = 4 * rayon::current_num_threads();
    let split = wanted.div_ceil(rows.div_ceil(ROWS).max(1));
    let width = columns.div_ceil(split).next_multiple_of(2 * PANEL).max(2 * PANEL);
    let ranges = |total: usize, step: usize| (0..total).step_by(step).map(move |first| first..total.min(first + step));
    ranges(rows, ROWS).flat_map(|rows| ranges(columns, width).map(move |columns| (rows.clone(), columns))).collect()
}

struct Task<'a, W: Word, F> {
    left: View<'a, W::Left>,
    right: &'a Panels<W>,
    start: Start<'a>,
    finish: &'a F,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<W: Word, F: Finish> Task<'_, W, F> {
    /// # Safety
    /// `target`, row-major with rows of `stride`, may be used at the task's rows and columns, and nothing else uses them
    /// meanwhile.
    unsafe fn run(&self, target: *mut f32, stride: usize) {
        for first in self.columns.clone().step_by(COLUMNS) {
            let columns = first..self.columns.end.min(first + COLUMNS);
            // Over at least one part, however empty, so that the target is written.
            for first in (0..self.left.columns.max(1)).step_by(DEPTH) {
                let depth = first..self.left.columns.min(first + DEPTH);
                let start = if first == 0 { self.start } else { Start::Target };
                let block =
                    Block { machine: W::machine(), right: self.right, depth, target, target_stride: stride, start };
                // SAFETY: by this function's contract.
                unsafe { self.block(&block, columns.clone()) };
            }
            for row in self.rows.clone() {
                // SAFETY: by this function's contract; the row's columns were written above.
                let sums =
                    unsafe { std::slice::from_raw_parts_mut(target.add(row * stride + columns.start), columns.len()) };
                (self.finish)(row, columns.start, sums);
            }
        }
    }

    /// All rows of the task over a part of the depth and of the columns.
    ///
    /// # Safety
    /// As [`Task::run`].
    unsafe fn block(&self, block: &Block<'_, W>, columns: Range<usize>) {
        let mut copied = [W::Left::default(); MOST_ROWS * DEPTH];
        for row in self.rows.clone().step_by(block.machine.rows()) {
            let rows = row..self.rows.end.min(row + block.machine.rows());
            let mut left = self.left.part(rows.clone(), block.depth.clone());
            if left.column_stride != 1 || (left.row_stride > 1024 && columns.len() >= COPIED) {
                left = copy_rows(&mut copied, left);
            }
            // SAFETY: by the contract of `run`.
            unsafe { block.packed_rows(left, rows, columns.clone()) };
        }
    }
}

/// Copies a tile's rows of A next to each other, for all the panels of B that read them: rows that lie a power of two apart
/// would push each other out of the first-level cache.
fn copy_rows<'p, T: Copy>(copied: &'p mut [T], source: View<'_, T>) -> View<'p, T> {
    let View { rows, columns, row_stride, column_stride, .. } = source;
    let copied = &mut copied[..rows * columns];
    if column_stride == 1 {
        for (row, values) in copied.chunks_exact_mut(columns.max(1)).enumerate() {
            values.copy_from_slice(&source.values[row * row_stride..][..columns]);
        }
        return View { values: copied, rows, columns, row_stride: columns, column_stride: 1 };
    }
    for (d, values) in copied.chunks_exact_mut(rows).enumerate() {
        if row_stride == 1 {
            let from = &source.values[d * column_stride..][..rows];
            match (values.as_mut_array::<MOST_ROWS>(), from.as_array::<MOST_ROWS>()) {
                // Of a known length: no call of a function for a few numbers.
                (Some(values), Some(from)) => *values = *from,
                _ => values.copy_from_slice(from),
            }
            continue;
        }
        for (row, value) in values.iter_mut().enumerate() {
            *value = source.values[row * row_stride + d * column_stride];
        }
    }
    View { values: copied, rows, columns, row_stride: 1, column_stride: rows }
}

#[cfg(test)]
mod tests {
    use super::super::tile::Machine;
    use super::*;

    #[test]
    fn products_over_several_blocks_are_exact() {
        let number = |i: usize| ((i * 7) % 11) as f32 - 5.0;
        for (m, n, k) in [(1, 1, 1), (3, 2, 0), (5, 700, 300), (200, 70, 513), (97, 1100, 20), (0, 4, 4)] {
            let a: Vec<f32> = (0..m * k).map(number).collect();
            let b: Vec<f32> = (0..n * k).map(|i| number(i + 3)).collect();
            let left = View::dense(&a, m, k);
            let right = View::dense(&b, n, k).transposed();
            let bias: Vec<f32> = (0..n).map(|j| number(j + 5)).collect();
            let mut sum = vec![2.0; m * n];
            matmul_add(&mut sum, left, right);
            let (plain, biased) = (matmul(left, right, None), matmul(left, right, Some(&bias)));
            for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let product: f32 = (0..k).map(|d| a[i * k + d] * b[j * k + d]).sum();
                let found = [plain[i * n + j], sum[i * n + j], biased[i * n + j]];
                assert_eq!(found, [product, 2.0 + product, bias[j] + product], "{m} {n} {k}: {i} {j}");
            }
        }
    }

    /// What alone-or-in-a-batch and threads rest on, at sizes where every split occurs and with numbers that round.
    #[test]
    fn every_element_is_one_chain_of_multiply_adds() {
        let number = |i: usize| (i as f32 * 0.7391).sin();
        for (m, n, k) in [(1, 600, 513), (97, 600, 513), (2, 17_000, 300), (30, 3, 700), (3, 40, 0)] {
            let a: Vec<f32> = (0..m * k).map(number).collect();
            let b: Vec<f32> = (0..n * k).map(|i| number(i + 3)).collect();
            let bias: Vec<f32> = (0..n).map(number).collect();
            let (left, right) = (View::dense(&a, m, k), View::dense(&b, n, k).transposed());
            let fused = cfg!(target_arch = "aarch64") || f32::machine() != Machine::Portable;
            let step = |sum: f32, a: f32, b: f32| if fused { a.mul_add(b, sum) } else { a * b + sum };
            let chain = |i: usize, j: usize| (0..k).fold(bias[j], |sum, d| step(sum, a[i * k + d], b[j * k + d]));
            let expected: Vec<f32> = (0..m * n).map(|at| chain(at / n, at % n)).collect();
            let mut panels = Panels::default();
            panels.pack_parallel(right);
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    assert!(matmul(left, right, Some(&bias)) == expected, "{m} {n} {k}, {threads} threads");
                    assert!(
                        multiply_new(left, &panels, Start::Row(&bias), keep) == expected,
                        "{m} {n} {k}, {threads} threads"
                    );
                    let mut sum: Vec<f32> = (0..m * n).map(|at| bias[at % n]).collect();
                    matmul_add(&mut sum, left, right);
                    assert!(sum == expected, "{m} {n} {k}, {threads} threads");
                });
            }
        }
    }

    #[test]
    fn tasks_cover_every_element_once() {
        for (rows, columns) in [(1, 5), (4, 50_000), (96, 32), (1000, 77), (0, 3), (3, 0)] {
            let area: usize = tasks(rows, columns).iter().map(|(rows, columns)| rows.len() * columns.len()).sum();
            assert_eq!(area, rows * columns);
        }
    }
}
