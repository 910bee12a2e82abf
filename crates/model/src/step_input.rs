//! What goes from sublayer to sublayer in a decoding step.

use candle_core::Tensor;
use epitome_kernels::PackedLinear;

use crate::Result;
use crate::layers::{LayerNorm, Linear, residual_sum};

/// What a sublayer of a decoding step is given: rows `[R, d]`, or the sum at the end of the sublayer before, which is normalised
/// together with its first product.
#[derive(Debug)]
pub(crate) enum StepInput<'a> {
    Rows(Tensor),
    Sum { x: Tensor, residual: Tensor, norm: &'a LayerNorm },
}

impl StepInput<'_> {
    /// The rows.
    pub(crate) fn rows(&self) -> Result<Tensor> {
        match self {
            Self::Rows(rows) => Ok(rows.clone()),
            Self::Sum { x, residual, norm } => norm.add(residual_sum(x, residual, None)),
        }
    }

    /// The rows and what a packed layer makes of them.
    pub(crate) fn forward_packed(&self, linear: &PackedLinear) -> Result<[Tensor; 2]> {
        Ok(match self {
            Self::Rows(rows) => [rows.clone(), linear.forward(rows)?],
            Self::Sum { x, residual, norm } => {
                linear.forward_after_norm(residual_sum(x, residual, None), norm.parameters())?
            }
        })
    }

    /// The rows and what a layer makes of them.
    pub(crate) fn forward(&self, linear: &Linear) -> Result<[Tensor; 2]> {
        match linear {
            Linear::Packed(packed) => self.forward_packed(packed),
            Linear::Plain(_) => {
                let rows = self.rows()?;
                let product = linear.forward(&rows)?;
                Ok([rows, product])
            }
        }
    }

    /// The rows and what two packed layers with GELU between make of them.
    pub(crate) fn feed_forward(&self, first: &PackedLinear, second: &PackedLinear) -> Result<[Tensor; 2]> {
        Ok(match self {
            Self::Rows(rows) => [rows.clone(), first.feed_forward(second, rows)?],
            Self::Sum { x, residual, norm } => {
                first.feed_forward_after_norm(second, residual_sum(x, residual, None), norm.parameters())?
            }
        })
    }
}
