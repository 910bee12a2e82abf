//! [`Precision`].

#[cfg(gpu)]
use crate::cuda;
use candle_core::{DType, Device, Result, bail};

/// What products are made of. Layer norms, softmax and all sums are computed in f32 throughout; activations are kept in f32 on the CPU,
/// and on a GPU in the type of the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Numbers as they are: results are exact.
    #[default]
    F32,
    /// Weights, the rows they are multiplied with, and the operands of attention rounded to bfloat16.
    Bf16,
    /// Weights as bytes with a scale for each output, the rows they are multiplied with as bytes with a scale of their own;
    /// the operands of attention rounded to bfloat16.
    Int8,
}

impl Precision {
    /// Bytes of a number of a weight, or of kept keys and values; scales not counted.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::Int8 => 1,
        }
    }

    /// The type of activations and embeddings on a device: on a GPU they are as narrow as the weights.
    ///
    /// # Errors
    /// When a GPU does not compute in this precision.
    pub fn activations(self, device: &Device) -> Result<DType> {
        #[cfg(gpu)]
        if cuda::runs_on(device) {
            return cuda::dtype_of(self);
        }
        match device.is_cpu() {
            true => Ok(DType::F32),
            false => bail!("this build computes on the CPU only"),
        }
    }
}
