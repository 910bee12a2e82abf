//! The tile in plain Rust.

use super::word::Sum;
use super::{PANEL, Tile, Word};

/// # Safety
/// As [`Tile::compute`].
pub(super) unsafe fn tile<W: Word, const ROWS: usize>(tile: &Tile<'_, W>) {
    // SAFETY: `compute` has checked the tile and its caller promises C.
    let mut sums: [[W::Sum; PANEL]; ROWS] = std::array::from_fn(|r| unsafe { tile.start_values(r) }.map(W::Sum::load));
    for (d, panel_row) in tile.panels[0].iter().enumerate() {
        for (r, sums) in sums.iter_mut().enumerate() {
            let a = tile.left[r * tile.row_stride + d * tile.depth_stride];
            for (sum, b) in sums.iter_mut().zip(panel_row) {
                *sum = W::multiply_add(*sum, a, *b);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        // SAFETY: as above.
        unsafe { tile.store(r, &sums.map(W::Sum::store)) };
    }
}
