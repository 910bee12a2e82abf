//! The types in which kernels keep numbers.

use half::bf16;

/// f32 or bf16.
pub trait Element: Copy + Default {
    /// Whether it is bf16.
    const IS_BF16: bool;
}

impl Element for f32 {
    const IS_BF16: bool = false;
}

impl Element for bf16 {
    const IS_BF16: bool = true;
}

/// The launcher of a type.
pub(super) fn of_type<T: Element, F>(of_f32: F, of_bf16: F) -> F {
    if T::IS_BF16 { of_bf16 } else { of_f32 }
}
