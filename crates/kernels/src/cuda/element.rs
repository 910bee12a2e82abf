//! The types in which kernels keep numbers.

use candle_core::{DType, Result, bail};

/// f32 or bf16.
pub(super) const FLOATS: [DType; 2] = [DType::F32, DType::BF16];

/// The launcher of a type.
pub(super) fn of_type<F>(op: &str, dtype: DType, of_f32: F, of_bf16: F) -> Result<F> {
    match dtype {
        DType::F32 => Ok(of_f32),
        DType::BF16 => Ok(of_bf16),
        other => bail!("{op}: no kernel for {other:?}"),
    }
}
