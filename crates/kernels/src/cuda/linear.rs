//! Linear layers, of inference and of training.

use super::few_rows::Layer;
use super::product::Product;
use super::rows::{bias_gelu, column_sums};
use crate::random::active;
use crate::{AffineSums, Norm, Precision, ResidualSum};
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

    /// See [`PackedLinear::joined`](crate::PackedLinear::joined).
    ///
    /// # Errors
    /// When the parts have different inputs or precisions, or some have a bias.
    pub fn joined(parts: &[&Self]) -> Result<(Self, Vec<Self>)> {
        let precision = parts.first().map_or_else(Precision::default, |part| part.precision);
        if parts.iter().any(|part| part.precision != precision || part.bias.is_some() != parts[0].bias.is_some()) {
            bail!("linear: layers of different kinds cannot be joined");
        }
        let weight = Tensor::cat(&parts.iter().map(|part| &part.weight).collect::<Vec<_>>(), 0)?;
        let biases = parts.iter().map(|part| part.bias.as_ref()).collect::<Option<Vec<_>>>();
        let bias = match biases {
            Some(biases) => {
                let cat = |n: usize| Tensor::cat(&biases.iter().map(|bias| &bias[n]).collect::<Vec<_>>(), 0);
                Some([cat(0)?, cat(1)?])
            }
            None => None,
        };
        let joined = Self { weight, bias, precision };
        let mut first = 0;
        let mut part = |outputs: usize| {
            let own = |tensor: &Tensor| tensor.narrow(0, first, outputs);
            let bias = joined
                .bias
                .as_ref()
                .map(|[single, own_type]| Ok::<_, candle_core::Error>([own(single)?, own(own_type)?]));
            let part = Self { weight: own(&joined.weight)?, bias: bias.transpose()?, precision };
            first += outputs;
            Ok(part)
        };
        let views = parts.iter().map(|each| part(each.weight.dim(0)?)).collect::<Result<_>>()?;
        Ok((joined, views))
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
        if x.rank() == 2
            && let Some(y) = self.few_rows(false).forward(x)?
        {
            return Ok(y);
        }
        let bias = self.bias.as_ref().map(|[_, bias]| bias);
        product(x, &self.weight, bias, self.weight.dtype())
    }

    /// The layer norm of a sum `[R, in]`, and [`Linear::forward`] of that, with GELU if asked for: of few rows only, and without dropout.
    ///
    /// # Errors
    /// When types do not fit or the launch fails.
    pub fn after_norm(&self, sum: ResidualSum<'_>, norm: Norm<'_>, gelu: bool) -> Result<Option<[Tensor; 2]>> {
        if sum.x.rank() != 2 || active(sum.dropout).is_some() {
            return Ok(None);
        }
        self.few_rows(gelu).after_norm(sum, norm)
    }

    fn few_rows(&self, gelu: bool) -> Layer<'_> {
        Layer { weight: &self.weight, bias: self.bias(), gelu }
    }

    /// [`Linear::forward`] of x `[R, in]` in f32, whatever the weight's type, in rows that begin at multiples of 16 bytes, `[R, out or a
    /// little more]`.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn forward_f32_aligned(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.to_dtype(self.weight.dtype())?;
        if let Some(logits) = self.few_rows(false).logits(&x)? {
            return Ok(logits);
        }
        Product::new(&x, &self.weight, [false, true])?.evaluate_aligned(self.bias(), DType::F32)
    }

    /// `second.forward(gelu(self.forward(x)))`: x `[T, in]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn feed_forward(&self, second: &Self, x: &Tensor) -> Result<Tensor> {
        let total = x.dim(0)?;
        let part = |first: usize| {
            let rows = x.narrow(0, first, FEED_FORWARD_ROWS.min(total - first))?;
            if let Some(inner) = self.few_rows(true).forward(&rows)? {
                return second.forward(&inner);
            }
            let inner = product(&rows, &self.weight, None, self.weight.dtype())?;
            second.forward(&bias_gelu(&inner, self.bias())?)
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

/// x `[.., in]` times the weight `[out, in]`, in the weight's type, plus a bias of the result's type `dtype`.
fn product(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, dtype: DType) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let Some(width) = shape.pop() else { bail!("linear needs rows, not a scalar") };
    let rows = x.to_dtype(weight.dtype())?.reshape((shape.iter().product::<usize>(), width))?;
    shape.push(weight.dim(0)?);
    Product::new(&rows, weight, [false, true])?.evaluate(bias, dtype)?.reshape(shape)
}

/// [`linear`](crate::linear) in the type of x, whatever that of the parameters.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if let Some(bias) = bias {
        crate::ops::refuse_tracked("linear", bias)?;
    }
    let (weight, bias) = (weight.to_dtype(x.dtype())?, bias.map(|bias| bias.to_dtype(x.dtype())).transpose()?);
    product(x, &weight, bias.as_ref(), x.dtype())
}

/// [`linear_backward`](crate::linear_backward): x and dy of one type, sums in f32.
pub(crate) fn parameter_gradients(x: &Tensor, dy: &Tensor, sums: &AffineSums) -> Result<()> {
    let (x, dy) = (x.detach(), dy.detach());
    if let Some(weight) = &sums.weight {
        Product::new(&dy, &x, [true, false])?.add_to(weight)?;
    }
    sums.bias.as_ref().map_or(Ok(()), |bias| column_sums(&[(&dy, bias)]))
}

/// [`linear_input_gradient`](crate::linear_input_gradient), in the type of dy.
pub(crate) fn input_gradient(dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    gradient(dy, weight)?.evaluate(None, dy.dtype())
}

/// [`add_linear_input_gradient`](crate::add_linear_input_gradient).
pub(crate) fn add_input_gradient(dx: &Tensor, dy: &Tensor, weight: &Tensor) -> Result<()> {
    gradient(dy, weight)?.add_to(dx)
}

fn gradient(dy: &Tensor, weight: &Tensor) -> Result<Product> {
    Product::new(&dy.detach(), &weight.detach().to_dtype(dy.dtype())?, [false, false])
}
