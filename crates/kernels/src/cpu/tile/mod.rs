//! The innermost product: a tile of C of up to 12 rows by up to 32 columns stays in registers while the depth passes.
//!
//! Operands are words of 32 bits ([`Word`]): an f32, two bf16 or four bytes, so that one depth step of a tile is one row of
//! words of B, whatever a word holds. Every element of C is one chain `c = c + a[i, d] b[d, j]` in the order of d, for
//! every tile size; of f32, one `fma` a step on every instruction set that has it. So a row of a product depends on that row
//! of A alone, to the last bit: not on how many rows are computed with it, not on threads, and not on how loops around
//! this one are blocked.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(test)]
mod tests;
mod word;

use super::panels::PANEL;

pub(crate) use word::{Bf16x2, Int8x2, Int8x4, Int16x2, Word, round_row};

/// The most rows of a tile on any machine.
pub(super) const MOST_ROWS: usize = 12;

/// An instruction set and the tile that fills its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    /// 12 rows by two panels: 24 of 32 registers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The same tile where the processor has AVX-512 but not its instruction for this kind of word.
    #[cfg(target_arch = "x86_64")]
    Avx512Unpacked,
    /// 6 rows by a panel: 12 of 16 registers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 6 rows by a panel, whatever the compiler makes of it: on NEON 24 of 32 registers.
    Portable,
}

impl Machine {
    /// Rows of a tile.
    pub(super) fn rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx512Unpacked => MOST_ROWS,
            _ => 6,
        }
    }

    /// Panels of a tile.
    pub(super) fn panels(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx512Unpacked => 2,
            _ => 1,
        }
    }
}

/// One tile of C += A B or C = A B. Depths are counted in words.
pub(crate) struct Tile<'a, W: Word> {
    /// A from the tile's first row on: element (i, d) is `left[i * row_stride + d * depth_stride]`.
    pub(super) left: &'a [W::Left],
    pub(super) row_stride: usize,
    pub(super) depth_stride: usize,
    /// The panels of B, each of the tile's depth; the second is empty where the tile has one.
    pub(super) panels: [&'a [[W; PANEL]]; 2],
    /// The tile's first element of C; rows are `target_stride` apart. Sums of words of bytes are 32-bit integers and lie
    /// there as their bits.
    pub(super) target: *mut f32,
    pub(super) target_stride: usize,
    /// Columns of C, at most those of the panels.
    pub(super) columns: usize,
    pub(super) start: Start<'a>,
}

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    /// Nothing: C need not be initialised.
    Zero,
    /// What is in C.
    Target,
    /// The same row for every row of C, from the first column on.
    Row(&'a [f32]),
}

/// Evaluates `$call` with the constant `$name` set to the number of rows at hand.
macro_rules! for_rows {
    ($rows:expr, [$($count:literal)*], $name:ident => $call:expr) => {
        match $rows {
            $($count => {
                const $name: usize = $count;
                $call
            })*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}
use for_rows;

impl<W: Word> Tile<'_, W> {
    /// # Safety
    /// `machine` is one of [`Word::machines`]. `target` may be written, and read if the product is added to it, at `rows`
    /// rows of `columns` values that nothing else uses meanwhile.
    pub(super) unsafe fn compute(&self, machine: Machine, rows: usize) {
        // The tiles read words of A as one i32 each.
        const { assert!(size_of::<W::Left>() == size_of::<i32>() && align_of::<W::Left>() == align_of::<i32>()) };
        let depth = self.panels[0].len();
        let wide = self.columns > PANEL;
        assert!((1..=machine.rows()).contains(&rows) && self.columns <= machine.panels() * PANEL);
        assert!(!wide || self.panels[1].len() == depth);
        assert!(if let Start::Row(row) = self.start { self.columns <= row.len() } else { true });
        assert!(depth == 0 || (rows - 1) * self.row_stride + (depth - 1) * self.depth_stride < self.left.len());
        // SAFETY: the caller promises the machine and C, A and B were checked above.
        unsafe { W::compute(self, machine, rows) };
    }

    /// What row `r` is added to, if anything.
    #[inline(always)]
    fn start(&self, r: usize) -> Option<*const f32> {
        match self.start {
            Start::Zero => None,
            Start::Target => Some(self.target.wrapping_add(r * self.target_stride).cast_const()),
            Start::Row(row) => Some(row.as_ptr()),
        }
    }

    /// The same as values, padded with zeros to a panel.
    ///
    /// # Safety
    /// As [`Tile::compute`], for a tile of one panel.
    #[inline(always)]
    unsafe fn start_values(&self, r: usize) -> [f32; PANEL] {
        let mut row = [0.0; PANEL];
        if let Some(start) = self.start(r) {
            // SAFETY: the row has `columns` values, at most a panel's.
            unsafe { start.copy_to_nonoverlapping(row.as_mut_ptr(), self.columns) };
        }
        row
    }

    /// # Safety
    /// As [`Tile::start_values`].
    #[inline(always)]
    unsafe fn store(&self, r: usize, row: &[f32; PANEL]) {
        // SAFETY: row r has `columns` values, at most a panel's.
        unsafe { self.target.add(r * self.target_stride).copy_from_nonoverlapping(row.as_ptr(), self.columns) };
    }
}
