//! Products with the weights of inference.

use super::rows::bias_gelu;
use crate::Precision;
use candle_core::{DType, Result, Tensor, bail};

/// Rows that pass a feed-forward layer at a time.
const FEED_FORWARD_ROWS: usize = 1 << 15;

/// A weight `[out, in]` and a bias `[out]`, if there is one, in f32 or bf16.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    /// In f32, and in the weight's type.
    bias: Option<[Tensor; 2]>,
    precision: Precision,
}

/// The type of activations and weights.
pub fn dtype_of(precision: Precision) -> Result<DType> {
    match precision {
        Precision::F32 => Ok(DType::F32),
        Precision::Bf16 => Ok(DType::BF16),
        Precision::Int8 => bail!("int8 is computed on the CPU only: a GPU has f32 and bf16"),
    }
}

impl Linear {
    /// Takes weight and bias in any type.
    ///
    /// # Errors
    /// When there is no such precision here.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, precision: Precision) -> Result<Self> {
        let dtype = dtype_of(precision)?;
        let both = |bias: &Tensor| Ok::<_, candle_core::Error>([bias.to_dtype(DType::F32)?, bias.to_dtype(dtype)?]);
        let bias = bias.map(|bias| both(&bias.detach())).transpose()?;
        let weight = weight.detach().to_dtype(dtype)?.contiguous()?;
        Ok(Self { weight, bias, precision })
    }

    /// What the weight is kept in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// `[out, in]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `[out]` in f32.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref().map(|[bias, _]| bias)
    }

    /// x `[.., in]` to `[.., out]` in the weight's type.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let product = self.product(x)?;
        match &self.bias {
            Some([_, bias]) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }

    fn product(&self, x: &Tensor) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let Some(width) = shape.pop() else { bail!("linear needs rows, not a scalar") };
        let rows = x.to_dtype(self.weight.dtype())?.contiguous()?.reshape((shape.iter().product::<usize>(), width))?;
        shape.push(self.weight.dim(0)?);
        rows.matmul(&self.weight.t()?)?.reshape(shape)
    }

    /// [`Linear::forward`] in f32, whatever the weight's type.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn forward_f32(&self, x: &Tensor) -> Result<Tensor> {
        let product = self.product(x)?.to_dtype(DType::F32)?;
        match &self.bias {
            Some([bias, _]) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }

    /// `second.forward(gelu(self.forward(x)))`: x `[T, in]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn feed_forward(&self, second: &Self, x: &Tensor) -> Result<Tensor> {
        let total = x.dim(0)?;
        let part = |first: usize| {
            let rows = x.narrow(0, first, FEED_FORWARD_ROWS.min(total - first))?;
            second.forward(&bias_gelu(&self.product(&rows)?, self.bias())?)
        };
        match total <= FEED_FORWARD_ROWS {
            true => part(0),
            false => {
                let parts = (0..total).step_by(FEED_FORWARD_ROWS).map(part);
                Tensor::cat(&parts.collect::<Result<Vec<Tensor>>>()?, 0)
            }
        }
    }
}
