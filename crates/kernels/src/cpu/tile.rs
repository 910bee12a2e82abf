//! The innermost product: a tile of C of up to 12 rows by up to 32 columns stays in registers while the depth passes.
//!
//! Every element of C is one chain `c = fma(a[i, d], b[d, j], c)` in the order of d, on every instruction set with fused
//! multiply-add and for every tile size. So a row of a product depends on that row of A alone, to the last bit: not on how
//! many rows are computed with it, not on threads, and not on how loops around this one are blocked.

use super::math::multiply_add;
use super::panels::PANEL;

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m512, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

/// The most rows of a tile on any machine.
pub(super) const MOST_ROWS: usize = 12;

/// An instruction set and the tile that fills its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// 12 rows by two panels: 24 of 32 registers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 6 rows by a panel: 12 of 16 registers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 6 rows by a panel, whatever the compiler makes of it: on NEON 24 of 32 registers.
    Portable,
}

impl Machine {
    /// What this processor has. Asked once; then one load.
    pub(super) fn current() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if super::math::has_avx2() {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// Rows of a tile.
    pub(super) fn rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => MOST_ROWS,
            _ => 6,
        }
    }

    /// Panels of a tile.
    pub(super) fn panels(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 2,
            _ => 1,
        }
    }
}

/// One tile of C += A B or C = A B.
pub(super) struct Tile<'a> {
    /// A from the tile's first row on: element (i, d) is `left[i * row_stride + d * depth_stride]`.
    pub(super) left: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) depth_stride: usize,
    /// The panels of B, each of the tile's depth; the second is empty where the tile has one.
    pub(super) panels: [&'a [[f32; PANEL]]; 2],
    /// The tile's first element of C; rows are `target_stride` apart.
    pub(super) target: *mut f32,
    pub(super) target_stride: usize,
    /// Columns of C, at most those of the panels.
    pub(super) columns: usize,
    pub(super) start: Start<'a>,
}

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'a> {
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

impl Tile<'_> {
    /// # Safety
    /// `target` may be written, and read if the product is added to it, at `rows` rows of `columns` values that nothing else
    /// uses meanwhile.
    pub(super) unsafe fn compute(&self, machine: Machine, rows: usize) {
        let depth = self.panels[0].len();
        let wide = self.columns > PANEL;
        assert!(self.columns <= 2 * PANEL && (!wide || self.panels[1].len() == depth));
        assert!(if let Start::Row(row) = self.start { self.columns <= row.len() } else { true });
        assert!(depth == 0 || (rows - 1) * self.row_stride + (depth - 1) * self.depth_stride < self.left.len());
        match machine {
            // SAFETY: the machine was detected, A and B were checked above, C is promised by the caller.
            #[cfg(target_arch = "x86_64")]
            Machine::Avx512 if wide => unsafe {
                for_rows!(rows, [1 2 3 4 5 6 7 8 9 10 11 12], N => avx512::<N, 2>(self));
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Machine::Avx512 => unsafe {
                for_rows!(rows, [1 2 3 4 5 6 7 8 9 10 11 12], N => avx512::<N, 1>(self));
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Machine::Avx2 => unsafe { for_rows!(rows, [1 2 3 4 5 6], N => avx2::<N>(self)) },
            // SAFETY: as above.
            Machine::Portable => unsafe { for_rows!(rows, [1 2 3 4 5 6], N => portable::<N>(self)) },
        }
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

/// # Safety
/// As [`Tile::compute`].
unsafe fn portable<const ROWS: usize>(tile: &Tile<'_>) {
    const FMA: bool = cfg!(target_arch = "aarch64");
    // SAFETY: `compute` has checked the tile and its caller promises C.
    let mut sums: [[f32; PANEL]; ROWS] = std::array::from_fn(|r| unsafe { tile.start_values(r) });
    for (d, panel_row) in tile.panels[0].iter().enumerate() {
        for (r, sums) in sums.iter_mut().enumerate() {
            let a = tile.left[r * tile.row_stride + d * tile.depth_stride];
            for (sum, b) in sums.iter_mut().zip(panel_row) {
                *sum = multiply_add::<FMA>(a, *b, *sum);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        // SAFETY: as above.
        unsafe { tile.store(r, sums) };
    }
}

/// # Safety
/// As [`Tile::compute`], and the machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const ROWS: usize>(tile: &Tile<'_>) {
    let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
    let whole = tile.columns == PANEL;
    for (r, sums) in sums.iter_mut().enumerate() {
        // SAFETY: `compute` has checked the tile; what it is added to has `columns` values a row.
        unsafe {
            match tile.start(r) {
                None => (),
                Some(from) if whole => *sums = [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))],
                Some(_) => *sums = std::mem::transmute::<[f32; PANEL], [__m256; 2]>(tile.start_values(r)),
            }
        }
    }
    let mut left = tile.left.as_ptr();
    for panel_row in tile.panels[0] {
        // SAFETY: a panel row has 16 values; reads of `left` stay below the index that `compute` checked.
        unsafe {
            let low = _mm256_loadu_ps(panel_row.as_ptr());
            let high = _mm256_loadu_ps(panel_row.as_ptr().add(8));
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = _mm256_broadcast_ss(&*left.add(r * tile.row_stride));
                sums[0] = _mm256_fmadd_ps(a, low, sums[0]);
                sums[1] = _mm256_fmadd_ps(a, high, sums[1]);
            }
        }
        left = left.wrapping_add(tile.depth_stride);
    }
    for (r, sums) in sums.iter().enumerate() {
        // SAFETY: as for reading C; two vectors of 8 values are one array of 16.
        unsafe {
            if whole {
                let target = tile.target.add(r * tile.target_stride);
                _mm256_storeu_ps(target, sums[0]);
                _mm256_storeu_ps(target.add(8), sums[1]);
            } else {
                tile.store(r, &std::mem::transmute::<[__m256; 2], [f32; PANEL]>(*sums));
            }
        }
    }
}

/// # Safety
/// As [`Tile::compute`], and the machine has AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const ROWS: usize, const PANELS: usize>(tile: &Tile<'_>) {
    let mut masks = [0u16; PANELS];
    for (p, mask) in masks.iter_mut().enumerate() {
        let columns = tile.columns.saturating_sub(p * PANEL).min(PANEL);
        *mask = ((1u32 << columns) - 1) as u16;
    }
    let mut sums = [[_mm512_setzero_ps(); PANELS]; ROWS];
    for (r, sums) in sums.iter_mut().enumerate() {
        if let Some(from) = tile.start(r) {
            for (p, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the mask admits the `columns` values of the row alone.
                *sum = unsafe { _mm512_maskz_loadu_ps(masks[p], from.wrapping_add(p * PANEL)) };
            }
        }
    }
    let mut left = tile.left.as_ptr();
    for d in 0..tile.panels[0].len() {
        let mut row: [__m512; PANELS] = [_mm512_setzero_ps(); PANELS];
        for (p, row) in row.iter_mut().enumerate() {
            // SAFETY: both panels have the depth, and 16 values a row.
            *row = unsafe { _mm512_loadu_ps(tile.panels[p].as_ptr().add(d).cast()) };
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: below the index that `compute` checked.
            let a = _mm512_set1_ps(unsafe { *left.add(r * tile.row_stride) });
            for (sum, row) in sums.iter_mut().zip(row) {
                *sum = _mm512_fmadd_ps(a, row, *sum);
            }
        }
        left = left.wrapping_add(tile.depth_stride);
    }
    for (r, sums) in sums.iter().enumerate() {
        for (p, sum) in sums.iter().enumerate() {
            let target = tile.target.wrapping_add(r * tile.target_stride + p * PANEL);
            // SAFETY: as for reading C.
            unsafe { _mm512_mask_storeu_ps(target, masks[p], *sum) };
        }
    }
}
