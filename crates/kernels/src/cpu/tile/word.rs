//! What a word of 32 bits of a product's operands holds.

use super::{Machine, Tile, for_rows, portable};
#[cfg(target_arch = "x86_64")]
use super::{PANEL, avx2, avx512};
use crate::cpu::math::{dispatch, multiply_add};
use crate::cpu::view::View;

/// Whether plain Rust multiplies and adds in one rounding.
const FUSED: bool = cfg!(target_arch = "aarch64");

/// One value or several neighbours in depth: 32 bits, or 16 that are widened on the way.
///
/// It is the word of the right operand; those of the left may hold the same values in another form.
pub(crate) trait Word: Copy + Default + Send + Sync + std::fmt::Debug + 'static {
    /// The word of the left operand, of 32 bits.
    type Left: Copy + Default + Send + Sync + std::fmt::Debug + 'static;
    /// What products are summed in.
    type Sum: Sum;
    /// Values of the depth in a word.
    const VALUES: usize;

    /// `sum` plus the products of the values of both words.
    fn multiply_add(sum: Self::Sum, left: Self::Left, right: Self) -> Self::Sum;

    /// What this processor can compute with, the fastest first.
    fn machines() -> Vec<Machine>;

    /// The fastest. Asked once for a kind of word; then one load.
    fn machine() -> Machine;

    /// # Safety
    /// As [`Tile::compute`], which has checked the tile.
    unsafe fn compute(tile: &Tile<'_, Self>, machine: Machine, rows: usize);
}

/// A sum of 32 bits, which lies in a product's target as the number that has its bits.
pub(crate) trait Sum: Copy {
    fn load(stored: f32) -> Self;
    fn store(self) -> f32;
}

impl Sum for f32 {
    #[inline(always)]
    fn load(stored: f32) -> Self {
        stored
    }

    #[inline(always)]
    fn store(self) -> f32 {
        self
    }
}

impl Sum for i32 {
    #[inline(always)]
    fn load(stored: f32) -> Self {
        stored.to_bits() as i32
    }

    #[inline(always)]
    fn store(self) -> f32 {
        f32::from_bits(self as u32)
    }
}

/// Two bf16, the first in the low half. As the left operand of a product one value is rounded to each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Bf16x2(pub(crate) u32);

/// Four bytes: unsigned in the left operand, signed in the right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(4))]
pub(crate) struct Int8x4(pub(crate) [u8; 4]);

/// Two signed bytes, in the right operand only: the word of the left is [`Int16x2`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Int8x2(pub(crate) [i8; 2]);

/// Two integers of 16 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(4))]
pub(crate) struct Int16x2(pub(crate) [i16; 2]);

impl Int16x2 {
    /// All integers of some words.
    pub(crate) fn values(words: &mut [Self]) -> &mut [i16] {
        // SAFETY: a word is two integers without padding, and any integers are a word.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 2 * words.len()) }
    }
}

impl Int8x4 {
    /// All bytes of some words.
    pub(crate) fn bytes(words: &mut [Self]) -> &mut [u8] {
        // SAFETY: a word is four bytes without padding, and any bytes are a word.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 4 * words.len()) }
    }
}

impl Bf16x2 {
    /// Rounds to nearest, ties to even; NaN stays NaN.
    #[inline(always)]
    pub(crate) fn new(first: f32, second: f32) -> Self {
        Self(u32::from(round(first)) | u32::from(round(second)) << 16)
    }

    /// Whether the processor has an instruction for them.
    pub(crate) fn is_native() -> bool {
        #[cfg(target_arch = "x86_64")]
        return Self::machine() == Machine::Avx512;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Rows of adjacent values, two to a word, the last of an odd number beside a zero.
    pub(crate) fn round_rows<'a>(pairs: &'a mut Vec<Self>, rows: View<'_>) -> View<'a, Self> {
        assert!(rows.columns <= 1 || rows.column_stride == 1, "rows of adjacent values");
        let depth = rows.columns.div_ceil(2);
        pairs.resize(rows.rows * depth, Self::default());
        for (row, pairs) in pairs.chunks_exact_mut(depth.max(1)).enumerate() {
            round_row(pairs, &rows.values[row * rows.row_stride..][..rows.columns]);
        }
        View::dense(pairs, rows.rows, depth)
    }

    /// Both as numbers.
    pub(crate) fn values(self) -> [f32; 2] {
        [self.first(), self.second()]
    }

    #[inline(always)]
    pub(crate) fn first(self) -> f32 {
        f32::from_bits(self.0 << 16)
    }

    #[inline(always)]
    pub(crate) fn second(self) -> f32 {
        f32::from_bits(self.0 & 0xffff_0000)
    }
}

dispatch! {
    /// Values as words of two.
    pub(crate) fn round_row(pairs: &mut [Bf16x2], values: &[f32]) = round_row_body
}

#[inline(always)]
fn round_row_body<const FMA: bool>(pairs: &mut [Bf16x2], values: &[f32]) {
    let (whole, rest) = values.as_chunks::<2>();
    for (pair, [first, second]) in pairs.iter_mut().zip(whole) {
        *pair = Bf16x2::new(*first, *second);
    }
    if let ([last], Some(pair)) = (rest, pairs.last_mut()) {
        *pair = Bf16x2::new(*last, 0.0);
    }
}

/// The bits of the nearest bf16.
#[inline(always)]
fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    // The sum could carry a NaN's payload away.
    (if value.is_nan() { bits >> 16 | 0x40 } else { rounded }) as u16
}

/// The parts of [`Word`] that choose the instructions: for each kind of AVX-512 machine the features and the tile, and the
/// tile of AVX2.
macro_rules! on_machines {
    (avx2: $avx2:ident, avx512: $([$machine:ident: $($feature:tt)&&+ => $avx512:ident])+) => {
        fn machines() -> Vec<Machine> {
            let mut machines = Vec::new();
            #[cfg(target_arch = "x86_64")]
            {
                $(if $(is_x86_feature_detected!($feature))&&+ {
                    machines.push(Machine::$machine);
                })+
                machines.extend(crate::cpu::math::has_avx2().then_some(Machine::Avx2));
            }
            machines.push(Machine::Portable);
            machines
        }

        #[inline]
        fn machine() -> Machine {
            static MACHINE: std::sync::OnceLock<Machine> = std::sync::OnceLock::new();
            *MACHINE.get_or_init(|| Self::machines()[0])
        }

        unsafe fn compute(tile: &Tile<'_, Self>, machine: Machine, rows: usize) {
            // SAFETY: by this function's contract.
            unsafe {
                match machine {
                    $(
                        #[cfg(target_arch = "x86_64")]
                        Machine::$machine if tile.columns > PANEL => {
                            for_rows!(rows, [1 2 3 4 5 6 7 8 9 10 11 12], N => avx512::$avx512::<N, 2>(tile));
                        }
                        #[cfg(target_arch = "x86_64")]
                        Machine::$machine => {
                            for_rows!(rows, [1 2 3 4 5 6 7 8 9 10 11 12], N => avx512::$avx512::<N, 1>(tile));
                        }
                    )+
                    #[cfg(target_arch = "x86_64")]
                    Machine::Avx2 => for_rows!(rows, [1 2 3 4 5 6], N => avx2::$avx2::<N>(tile)),
                    Machine::Portable => for_rows!(rows, [1 2 3 4 5 6], N => portable::tile::<Self, N>(tile)),
                    #[allow(unreachable_patterns)]
                    other => unreachable!("{other:?} has no tile of this kind of word"),
                }
            }
        }
    };
}

impl Word for f32 {
    type Left = f32;
    type Sum = f32;
    const VALUES: usize = 1;

    #[inline(always)]
    fn multiply_add(sum: f32, left: f32, right: f32) -> f32 {
        multiply_add::<FUSED>(left, right, sum)
    }

    on_machines!(avx2: numbers, avx512: [Avx512: "avx512f" => numbers]);
}

impl Word for Bf16x2 {
    type Left = Self;
    type Sum = f32;
    const VALUES: usize = 2;

    #[inline(always)]
    fn multiply_add(sum: f32, left: Self, right: Self) -> f32 {
        let sum = multiply_add::<FUSED>(left.first(), right.first(), sum);
        multiply_add::<FUSED>(left.second(), right.second(), sum)
    }

    on_machines! {
        avx2: pairs,
        avx512: [Avx512: "avx512f" && "avx512bf16" => pairs] [Avx512Unpacked: "avx512f" => unpacked_pairs]
    }
}

impl Word for Int8x4 {
    type Left = Self;
    type Sum = i32;
    const VALUES: usize = 4;

    #[inline(always)]
    fn multiply_add(sum: i32, left: Self, right: Self) -> i32 {
        let products = left.0.iter().zip(right.0).map(|(left, right)| i32::from(*left) * i32::from(right as i8));
        sum + products.sum::<i32>()
    }

    on_machines!(avx2: quads, avx512: [Avx512: "avx512f" && "avx512vnni" => quads]);
}

impl Word for Int8x2 {
    type Left = Int16x2;
    type Sum = i32;
    const VALUES: usize = 2;

    #[inline(always)]
    fn multiply_add(sum: i32, left: Int16x2, right: Self) -> i32 {
        let products = left.0.iter().zip(right.0).map(|(left, right)| i32::from(*left) * i32::from(right));
        sum + products.sum::<i32>()
    }

    on_machines!(avx2: halves, avx512: [Avx512: "avx512f" && "avx512bw" && "avx512vnni" => halves]);
}
