//! Rows copied, looked up and accumulated by index.

use rayon::prelude::*;

/// Rows of one task when rows are copied.
const ROWS: usize = 64;

/// Rows `index` of x, one after another.
pub(crate) fn gather(x: &[f32], index: &[usize], width: usize) -> Vec<f32> {
    let mut rows = vec![0.0; index.len() * width];
    if width > 0 {
        rows.par_chunks_mut(ROWS * width).zip(index.par_chunks(ROWS)).for_each(|(rows, index)| {
            for (row, from) in rows.chunks_exact_mut(width).zip(index) {
                row.copy_from_slice(&x[from * width..][..width]);
            }
        });
    }
    rows
}

/// `target[i of t] += rows[t]` for every t whose `index(t)` is some i. A task owns some rows of the target and adds in
/// the order of t, so the result does not depend on the threads.
pub(crate) fn accumulate(
    target: &mut [f32],
    rows: &[f32],
    width: usize,
    index: impl Fn(usize) -> Option<usize> + Sync,
) {
    if width == 0 {
        return;
    }
    let owned = (target.len() / width).div_ceil(rayon::current_num_threads()).max(1);
    target.par_chunks_mut(owned * width).enumerate().for_each(|(task, target)| {
        let first = task * owned;
        for (t, row) in rows.chunks_exact(width).enumerate() {
            let Some(at) = index(t).and_then(|i| i.checked_sub(first)) else { continue };
            if let Some(sum) = target.get_mut(at * width..(at + 1) * width) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        }
    });
}

/// Sum over the tables of their rows `ids`: [T, width].
pub(crate) fn embed(tables: &[(&[f32], &[u32])], width: usize) -> Vec<f32> {
    let count = tables.first().map_or(0, |(_, ids)| ids.len());
    let mut sums = vec![0.0; count * width];
    if width > 0 {
        sums.par_chunks_mut(width).with_min_len(ROWS).enumerate().for_each(|(t, sum)| {
            for (table, ids) in tables {
                let row = &table[ids[t] as usize * width..][..width];
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        });
    }
    sums
}
