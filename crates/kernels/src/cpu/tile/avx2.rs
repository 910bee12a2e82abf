//! The tile with AVX2: 6 rows by a panel of two vectors.

use super::{Bf16x2, Int8x2, Int8x4, PANEL, Tile};
use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_and_si256, _mm256_castps_si256,
    _mm256_castsi256_ps, _mm256_cvtepi8_epi16, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_ps, _mm256_slli_epi32,
    _mm256_srli_epi16, _mm256_storeu_ps,
};

/// As the macro of the same name for AVX-512, with vectors of 8 lanes.
macro_rules! tile {
    ($(#[$meta:meta])* $name:ident, $word:ty, $load:ident, |$sum:ident, $a:ident, $b:ident| $step:expr) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// As [`Tile::compute`], and the machine has AVX2 and FMA.
        #[target_feature(enable = "avx2,fma")]
        pub(super) unsafe fn $name<const ROWS: usize>(tile: &Tile<'_, $word>) {
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
            let mut left = tile.left.as_ptr().cast::<i32>();
            for panel_row in tile.panels[0] {
                // SAFETY: a panel row has 16 words.
                let row = unsafe { $load(panel_row.as_ptr().cast()) };
                for (r, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: below the index that `compute` checked; a word has 32 bits.
                    let $a = _mm256_set1_epi32(unsafe { left.add(r * tile.row_stride).read() });
                    for (sum, $b) in sums.iter_mut().zip(row) {
                        let $sum = *sum;
                        *sum = $step;
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
    };
}

tile! {
    /// Of numbers.
    numbers, f32, words, |sum, a, b| _mm256_fmadd_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), sum)
}

tile! {
    /// Of two bf16 a word.
    pairs, Bf16x2, words, |sum, a, b| {
        let sum = _mm256_fmadd_ps(low(a), low(b), sum);
        _mm256_fmadd_ps(high(a), high(b), sum)
    }
}

tile! {
    /// Of four bytes a word; the sums are integers.
    quads, Int8x4, words, |sum, a, b| {
        // Products of whole unsigned and signed bytes would overflow the 16 bits of their sums; those of nibbles do not.
        let nibble = _mm256_set1_epi8(0x0f);
        let low = _mm256_maddubs_epi16(_mm256_and_si256(a, nibble), b);
        let high = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<4>(a), nibble), b);
        let low = _mm256_madd_epi16(low, _mm256_set1_epi16(1));
        let high = _mm256_madd_epi16(high, _mm256_set1_epi16(16));
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), _mm256_add_epi32(low, high)))
    }
}

tile! {
    /// Of two bytes, multiplied as integers of 16 bits; the sums are integers.
    halves, Int8x2, widened, |sum, a, b| {
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), _mm256_madd_epi16(a, b)))
    }
}

/// A row of a panel.
///
/// # Safety
/// There are 64 bytes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn words(row: *const __m256i) -> [__m256i; 2] {
    // SAFETY: by this function's contract.
    unsafe { [_mm256_loadu_si256(row), _mm256_loadu_si256(row.add(1))] }
}

/// A row of bytes, each as 16 bits.
///
/// # Safety
/// There are 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn widened(row: *const __m128i) -> [__m256i; 2] {
    // SAFETY: by this function's contract.
    unsafe { [_mm256_cvtepi8_epi16(_mm_loadu_si128(row)), _mm256_cvtepi8_epi16(_mm_loadu_si128(row.add(1)))] }
}

/// The first bf16 of each word as a number.
#[inline]
#[target_feature(enable = "avx2")]
fn low(words: __m256i) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
}

/// The second.
#[inline]
#[target_feature(enable = "avx2")]
fn high(words: __m256i) -> __m256 {
    _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000_u32 as i32)))
}
