//! Attention of few rows to whole documents: products by the library, softmax by the kernels of `cuda/rows/global_softmax.cu`.

use super::check;
use super::element::{FLOATS, of_type};
use super::ffi;
use super::place::{address, address_mut, dense, room, stream};
use super::product::Product;
use crate::{GlobalRows, Pooled};
use candle_core::{DType, Result, Tensor};
use std::ffi::c_int;
use std::ops::Range;

/// Scores that are in memory at a time, of which there are up to 24 bytes each.
const CHUNK_SCORES: usize = 1 << 27;

/// A document's lanes, which are heads of global rows, and tokens.
struct Document<'a> {
    /// Tokens `[n, d]`, f32 or bf16.
    x: Tensor,
    /// `[L, d]` and `[L]`, in f32.
    a: Tensor,
    c: Tensor,
    lanes: Range<usize>,
    of: GlobalRows<'a>,
}

/// [`global_attention`](crate::global_attention): x may be bf16, a and c are f32, and so is the result.
///
/// # Errors
/// When shapes do not fit or an operation fails.
pub fn global_attention([x, a, c]: [&Tensor; 3], of: GlobalRows<'_>) -> Result<Pooled> {
    let (count, heads, width) = a.dims3()?;
    let parts = documents([x, a, c], of)?.iter().map(|(document, _)| document.pool()).collect::<Result<Vec<_>>>()?;
    let cat = |index: usize, width: usize| match parts.is_empty() {
        true => room((0, width), DType::F32, x.device()),
        false => Tensor::cat(&parts.iter().map(|part| &part[index]).collect::<Vec<_>>(), 0),
    };
    let output = cat(0, width + 1)?.reshape((count, heads, width + 1))?;
    Ok(Pooled { output, log_sum_exp: cat(1, 1)?.reshape((count, heads))? })
}

/// [`global_attention_backward`](crate::global_attention_backward).
///
/// # Errors
/// As [`global_attention`].
pub fn global_attention_backward(
    inputs: [&Tensor; 3],
    of: GlobalRows<'_>,
    pooled: &Pooled,
    gradient: &Tensor,
    dx: Option<&Tensor>,
) -> Result<[Tensor; 2]> {
    let [_, a, c] = inputs;
    let (count, heads, width) = a.dims3()?;
    let gradient = gradient.detach().reshape((count * heads, width + 1))?;
    let log_sum_exp = pooled.log_sum_exp.flatten_all()?;
    let mut parts: [Vec<Tensor>; 2] = Default::default();
    for (document, tokens) in documents(inputs, of)? {
        let of_lanes = |tensor: &Tensor| tensor.narrow(0, document.lanes.start, document.lanes.len());
        let dx = dx.map(|dx| dx.narrow(0, tokens.start, tokens.len())).transpose()?;
        let [da, dc] = document.backward(&of_lanes(&gradient)?, &of_lanes(&log_sum_exp)?, dx.as_ref())?;
        parts[0].push(da);
        parts[1].push(dc);
    }
    match parts[0].is_empty() {
        true => Ok([room(a.shape(), DType::F32, a.device())?, room(c.shape(), DType::F32, c.device())?]),
        false => Ok([Tensor::cat(&parts[0], 0)?.reshape(a.shape())?, Tensor::cat(&parts[1], 0)?.reshape(c.shape())?]),
    }
}

/// Documents that have global rows, with their tokens; one with many in parts.
fn documents<'a>([x, a, c]: [&Tensor; 3], of: GlobalRows<'a>) -> Result<Vec<(Document<'a>, Range<usize>)>> {
    let op = "global_attention";
    let (count, heads, width) = a.dims3()?;
    let x = dense(op, x, &FLOATS)?;
    let a = dense(op, a, &[DType::F32])?.reshape((count * heads, width))?;
    let c = dense(op, c, &[DType::F32])?.flatten_all()?;
    let mut documents = Vec::new();
    for (rows, tokens) in of.rows.ranges().zip(of.documents.ranges()) {
        let all = rows.start * heads..rows.end * heads;
        let most = (CHUNK_SCORES / tokens.len().max(1)).max(1);
        for first in all.clone().step_by(most) {
            let lanes = first..all.end.min(first + most);
            let of_lanes = |tensor: &Tensor| tensor.narrow(0, lanes.start, lanes.len());
            let (a, c, x) = (of_lanes(&a)?, of_lanes(&c)?, x.narrow(0, tokens.start, tokens.len())?);
            documents.push((Document { x, a, c, lanes, of }, tokens.clone()));
        }
    }
    Ok(documents)
}

impl Document<'_> {
    /// The output `[L, d + 1]` and log-sum-exp `[L]`.
    fn pool(&self) -> Result<[Tensor; 2]> {
        let (device, lanes, (tokens, width)) = (self.x.device(), self.lanes.len(), self.x.dims2()?);
        if tokens == 0 {
            let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, device);
            return Ok([zeros(&[lanes, width + 1])?, zeros(&[lanes])?]);
        }
        let scores = self.products(&self.a)?;
        let p = room(scores.shape(), self.x.dtype(), device)?;
        let (mass, log_sum_exp) = (room(lanes, DType::F32, device)?, room(lanes, DType::F32, device)?);
        let [f32, bf16]: [ffi::GlobalSoftmax; 2] = [ffi::epitome_global_softmax_f32, ffi::epitome_global_softmax_bf16];
        let launch = of_type("global_attention", self.x.dtype(), f32, bf16)?;
        // SAFETY: the tensors have the shapes that lanes, tokens and stride say.
        check("global_attention", unsafe {
            launch(
                lanes as c_int,
                tokens as c_int,
                scores.dim(1)? as i64,
                self.of.dropout.into(),
                self.lanes.start as u32,
                address(&scores)?.cast(),
                address(&self.c)?.cast(),
                address_mut(&p)?,
                address_mut(&mass)?.cast(),
                address_mut(&log_sum_exp)?.cast(),
                stream(device)?,
            )
        })?;
        let sums = self.sums(&p)?;
        Ok([Tensor::cat(&[&sums, &mass.unsqueeze(1)?], 1)?, log_sum_exp])
    }

    /// The gradients of a `[L, d]` and c `[L]`, given that of the output `[L, d + 1]`; adds that of x to `dx` `[n, d]`.
    fn backward(&self, gradient: &Tensor, log_sum_exp: &Tensor, dx: Option<&Tensor>) -> Result<[Tensor; 2]> {
        let (device, lanes, (tokens, width)) = (self.x.device(), self.lanes.len(), self.x.dims2()?);
        if tokens == 0 {
            return Ok([self.a.zeros_like()?, self.c.zeros_like()?]);
        }
        let dy = gradient.narrow(1, 0, width)?.contiguous()?;
        let mass_gradient = gradient.narrow(1, width, 1)?.contiguous()?;
        let (scores, products) = (self.products(&self.a)?, self.products(&dy)?);
        let (rows, stride) = scores.dims2()?;
        // Gradients of scores, in parts, then probabilities.
        let both = room((rows + lanes, stride), self.x.dtype(), device)?;
        let dc = room(lanes, DType::F32, device)?;
        let [f32, bf16]: [ffi::GlobalSoftmaxBackward; 2] =
            [ffi::epitome_global_softmax_backward_f32, ffi::epitome_global_softmax_backward_bf16];
        let launch = of_type("global_attention_backward", self.x.dtype(), f32, bf16)?;
        // SAFETY: as in `pool`.
        check("global_attention_backward", unsafe {
            launch(
                lanes as c_int,
                tokens as c_int,
                stride as i64,
                self.of.dropout.into(),
                self.lanes.start as u32,
                address(&scores)?.cast(),
                address(&products)?.cast(),
                address(&self.c)?.cast(),
                address(&mass_gradient)?.cast(),
                address(&log_sum_exp.contiguous()?)?.cast(),
                address_mut(&both)?,
                address_mut(&both.narrow(0, rows, lanes)?)?,
                address_mut(&dc)?.cast(),
                stream(device)?,
            )
        })?;
        if let Some(dx) = dx {
            // Of the gradients of scores the higher part, which lies before the probabilities, is enough.
            let factors = both.narrow(0, rows - lanes, 2 * lanes)?.narrow(1, 0, tokens)?;
            let values = Tensor::cat(&[&self.a, &dy], 0)?.to_dtype(self.x.dtype())?;
            Product::new(&factors, &values, [true, false])?.add_to(dx)?;
        }
        Ok([self.sums(&both.narrow(0, 0, rows)?)?, dc])
    }

    /// `[parts L, stride]` in f32: of numbers `[L, d]` with all tokens, in parts that are to be added.
    fn products(&self, numbers: &Tensor) -> Result<Tensor> {
        let parts = match self.x.dtype() {
            DType::F32 => numbers.clone(),
            dtype => {
                let high = numbers.to_dtype(dtype)?;
                let low = numbers.sub(&high.to_dtype(DType::F32)?)?.to_dtype(dtype)?;
                Tensor::cat(&[low, high], 0)?
            }
        };
        Product::new(&parts, &self.x, [false, true])?.evaluate_aligned(None, DType::F32)
    }

    /// `[L, d]` in f32: of weights `[parts L, stride]` of all tokens.
    fn sums(&self, weights: &Tensor) -> Result<Tensor> {
        let weights = weights.narrow(1, 0, self.x.dim(0)?)?;
        let sums = Product::new(&weights, &self.x, [false, false])?.evaluate(None, DType::F32)?;
        let lanes = self.lanes.len();
        match sums.dim(0)? == lanes {
            true => Ok(sums),
            false => sums.narrow(0, 0, lanes)?.add(&sums.narrow(0, lanes, lanes)?),
        }
    }
}
