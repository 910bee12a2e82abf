//! The tile with AVX-512: 12 rows by two vectors.

use super::{Bf16x2, Int8x2, Int8x4, PANEL, Tile};
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm256_loadu_si256, _mm512_and_si512, _mm512_castps_si512,
    _mm512_castsi512_ps, _mm512_cvtepi8_epi16, _mm512_dpbf16_ps, _mm512_dpbusd_epi32, _mm512_dpwssd_epi32,
    _mm512_fmadd_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi32,
};

/// Rows up to which a tile waits for B: with few rows, B is not in a cache and little is computed with it.
const FEW: usize = 4;

/// Rows of a panel that B is asked for ahead of its use.
const AHEAD: usize = 64;

/// Defines the tile of a kind of word: `$step` adds to the sums `$sum` the products of the words `$a` (of one row of A) and
/// `$b` (of a row of a panel), all three vectors of 16 lanes.
macro_rules! tile {
    ($(#[$meta:meta])* $name:ident, $word:ty, $features:literal, $load:ident, |$sum:ident, $a:ident, $b:ident| $step:expr) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// As [`Tile::compute`], and the machine has the instructions.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name<const ROWS: usize, const PANELS: usize>(tile: &Tile<'_, $word>) {
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
            let mut left = tile.left.as_ptr().cast::<i32>();
            for d in 0..tile.panels[0].len() {
                let mut row: [__m512i; PANELS] = [_mm512_setzero_si512(); PANELS];
                for (p, row) in row.iter_mut().enumerate() {
                    // SAFETY: both panels have the depth, and 16 words a row.
                    *row = unsafe { $load(tile.panels[p].as_ptr().add(d).cast()) };
                    if ROWS <= FEW {
                        _mm_prefetch::<_MM_HINT_T0>(tile.panels[p].as_ptr().wrapping_add(d + AHEAD).cast());
                    }
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: below the index that `compute` checked; a word has 32 bits.
                    let $a = _mm512_set1_epi32(unsafe { left.add(r * tile.row_stride).read() });
                    for (sum, $b) in sums.iter_mut().zip(row) {
                        let $sum = *sum;
                        *sum = $step;
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
    };
}

tile! {
    /// Of numbers.
    numbers, f32, "avx512f", words, |sum, a, b| _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum)
}

tile! {
    /// Of two bf16 a word.
    pairs, Bf16x2, "avx512f,avx512bf16", words, |sum, a, b| _mm512_dpbf16_ps(sum, bf16(a), bf16(b))
}

tile! {
    /// The same as two products of numbers.
    unpacked_pairs, Bf16x2, "avx512f", words, |sum, a, b| {
        let sum = _mm512_fmadd_ps(low(a), low(b), sum);
        _mm512_fmadd_ps(high(a), high(b), sum)
    }
}

tile! {
    /// Of four bytes a word; the sums are integers.
    quads, Int8x4, "avx512f,avx512vnni", words, |sum, a, b| {
        _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(sum), a, b))
    }
}

tile! {
    /// Of two bytes, multiplied as integers of 16 bits; the sums are integers.
    halves, Int8x2, "avx512f,avx512bw,avx512vnni", widened, |sum, a, b| {
        _mm512_castsi512_ps(_mm512_dpwssd_epi32(_mm512_castps_si512(sum), a, b))
    }
}

/// A row of a panel.
///
/// # Safety
/// There are 64 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn words(row: *const i32) -> __m512i {
    // SAFETY: by this function's contract.
    unsafe { _mm512_loadu_si512(row.cast()) }
}

/// A row of bytes, each as 16 bits.
///
/// # Safety
/// There are 32 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn widened(row: *const i32) -> __m512i {
    // SAFETY: by this function's contract.
    _mm512_cvtepi8_epi16(unsafe { _mm256_loadu_si256(row.cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn bf16(words: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits without invalid values.
    unsafe { std::mem::transmute(words) }
}

/// The first bf16 of each word as a number.
#[inline]
#[target_feature(enable = "avx512f")]
fn low(words: __m512i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
}

/// The second.
#[inline]
#[target_feature(enable = "avx512f")]
fn high(words: __m512i) -> __m512 {
    _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32)))
}
