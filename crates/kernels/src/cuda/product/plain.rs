//! Products by candle, in f32: those of an emulated GPU, and of shapes for which the library has no algorithm.

use super::{Product, Then};
use crate::cuda::place::written_by_product;
use candle_core::{DType, Result, Tensor};

/// Writes or adds the product, rounded once.
pub(super) fn multiply(product: &Product, target: &Tensor, then: Then<'_>) -> Result<()> {
    let factor = |tensor: &Tensor, transposed: bool| {
        let tensor = tensor.to_dtype(DType::F32)?;
        if transposed { tensor.t()?.contiguous() } else { tensor.contiguous() }
    };
    let [a_transposed, b_transposed] = product.transposed;
    let mut result = factor(&product.a, a_transposed)?.matmul(&factor(&product.b, b_transposed)?)?;
    match then {
        Then::Write(Some(bias)) => result = result.broadcast_add(&bias.to_dtype(DType::F32)?)?,
        Then::Write(None) => {}
        // Sums have no longer rows.
        Then::Add => result = result.add(&target.detach().to_dtype(DType::F32)?)?,
    }
    // Rows of the target may be longer.
    let result = result.pad_with_zeros(1, 0, target.dim(1)? - result.dim(1)?)?;
    target.slice_set(&result.to_dtype(target.dtype())?, 0, 0)?;
    written_by_product(target)
}
