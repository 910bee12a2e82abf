//! Words of random bits, and what their sums are.

use super::super::{Bf16x2, Int8x2, Int8x4, Int16x2, Machine, Word};
use half::bf16;

/// A kind of word that can be made of random bits, with the numbers it then holds.
pub(super) trait Sample: Word {
    fn left(bits: u64) -> (Self::Left, Vec<f64>);
    fn right(bits: u64) -> (Self, Vec<f64>);
    /// What a sum may begin at.
    fn start(bits: u64) -> f32;
    /// Whether `found` is what `start` plus the products, added in this order, may be on a machine.
    fn agrees(machine: Machine, found: f32, start: f32, products: &[(f64, f64)]) -> bool;
}

/// Uniform in -1..1.
fn number(bits: u64) -> f32 {
    (bits >> 40) as f32 / 8_388_608.0 - 1.0
}

impl Sample for f32 {
    fn left(bits: u64) -> (f32, Vec<f64>) {
        (number(bits), vec![f64::from(number(bits))])
    }

    fn right(bits: u64) -> (f32, Vec<f64>) {
        Self::left(bits)
    }

    fn start(bits: u64) -> f32 {
        number(bits)
    }

    /// To the bit: one multiply-add a step, in one rounding on every machine that has one.
    fn agrees(machine: Machine, found: f32, start: f32, products: &[(f64, f64)]) -> bool {
        let fused = machine != Machine::Portable || cfg!(target_arch = "aarch64");
        let step = |sum: f32, (a, b): &(f64, f64)| {
            let (a, b) = (*a as f32, *b as f32);
            if fused { a.mul_add(b, sum) } else { a * b + sum }
        };
        found.to_bits() == products.iter().fold(start, step).to_bits()
    }
}

impl Sample for Bf16x2 {
    fn left(bits: u64) -> (Self, Vec<f64>) {
        let values = [bf16::from_f32(number(bits)), bf16::from_f32(number(bits.rotate_left(24)))];
        let word = u32::from(values[0].to_bits()) | u32::from(values[1].to_bits()) << 16;
        (Self(word), values.map(f64::from).to_vec())
    }

    fn right(bits: u64) -> (Self, Vec<f64>) {
        Self::left(bits)
    }

    fn start(bits: u64) -> f32 {
        number(bits)
    }

    /// Products of two bf16 are exact in f32; every addition may round once, in whatever order the two of a word are
    /// added.
    fn agrees(_: Machine, found: f32, start: f32, products: &[(f64, f64)]) -> bool {
        let sum = products.iter().fold(f64::from(start), |sum, (a, b)| sum + a * b);
        let size = products.iter().fold(f64::from(start.abs()), |size, (a, b)| size + (a * b).abs());
        (f64::from(found) - sum).abs() <= products.len() as f64 * f64::from(f32::EPSILON) / 2.0 * size * 1.001
    }
}

/// Whether a sum of integers is exact.
fn exact(found: f32, start: f32, products: &[(f64, f64)]) -> bool {
    let sum = products.iter().fold(f64::from(start.to_bits() as i32), |sum, (a, b)| sum + a * b);
    f64::from(found.to_bits() as i32) == sum
}

fn integer_start(bits: u64) -> f32 {
    f32::from_bits(((bits >> 40) as i32 - 8_000_000) as u32)
}

/// A byte of -127..=127, as quantization gives them.
fn byte(bits: u8) -> i8 {
    (bits as i8).max(-127)
}

impl Sample for Int8x4 {
    fn left(bits: u64) -> (Self, Vec<f64>) {
        let bytes = (bits as u32).to_le_bytes();
        (Self(bytes), bytes.map(f64::from).to_vec())
    }

    fn right(bits: u64) -> (Self, Vec<f64>) {
        let bytes = (bits as u32).to_le_bytes().map(byte);
        (Self(bytes.map(|byte| byte as u8)), bytes.map(f64::from).to_vec())
    }

    fn start(bits: u64) -> f32 {
        integer_start(bits)
    }

    fn agrees(_: Machine, found: f32, start: f32, products: &[(f64, f64)]) -> bool {
        exact(found, start, products)
    }
}

impl Sample for Int8x2 {
    fn left(bits: u64) -> (Int16x2, Vec<f64>) {
        let integers = [bits as i16, (bits >> 16) as i16];
        (Int16x2(integers), integers.map(f64::from).to_vec())
    }

    fn right(bits: u64) -> (Self, Vec<f64>) {
        let bytes = [byte(bits as u8), byte((bits >> 8) as u8)];
        (Self(bytes), bytes.map(f64::from).to_vec())
    }

    fn start(bits: u64) -> f32 {
        integer_start(bits)
    }

    fn agrees(_: Machine, found: f32, start: f32, products: &[(f64, f64)]) -> bool {
        exact(found, start, products)
    }
}
