//! Attention of few rows to whole documents: products by the library, the rest by the kernels of `cuda/rows/global_attention.cu`.

use super::check;
use super::element::{FLOATS, of_type};
use super::ffi;
use super::place::{address, address_mut, dense, room, stream};
use super::product::Product;
use crate::{GlobalRows, Pooled};
use candle_core::{DType, Result, Tensor};
use std::ffi::c_int;
use std::ops::Range;
use std::ptr::null;

/// Scores that are in memory at a time, of which there are up to 24 bytes each.
const CHUNK_SCORES: usize = 1 << 27;

/// A document's lanes, which are heads of global rows, and tokens. Tensors over all lanes `[lanes, d + 1]` hold d numbers and one more.
struct Document<'a> {
    /// Tokens `[n, d]`, f32 or bf16.
    x: Tensor,
    /// Of the document's lanes `[L, d + 1]`, in f32.
    folded: Tensor,
    lanes: Range<usize>,
    of: GlobalRows<'a>,
}

/// [`global_attention`](crate::global_attention): x may be bf16, all else is f32.
///
/// # Errors
/// When shapes do not fit or an operation fails.
pub fn global_attention(x: &Tensor, folded: &Tensor, of: GlobalRows<'_>) -> Result<Pooled> {
    let (count, heads, columns) = folded.dims3()?;
    let output = new_lanes(of, (count * heads, columns), 0.0, x)?;
    let log_sum_exp = new_lanes(of, (count * heads, 1), f32::INFINITY, x)?.flatten_all()?;
    for (document, _) in documents(x, folded, of)? {
        document.pool(&document.own(&output)?, &document.own(&log_sum_exp)?)?;
    }
    Ok(Pooled { output: output.reshape((count, heads, columns))?, log_sum_exp: log_sum_exp.reshape((count, heads))? })
}

/// [`global_attention_backward`](crate::global_attention_backward).
///
/// # Errors
/// As [`global_attention`].
pub fn global_attention_backward(
    x: &Tensor,
    folded: &Tensor,
    of: GlobalRows<'_>,
    pooled: &Pooled,
    gradient: &Tensor,
    dx: Option<&Tensor>,
) -> Result<Tensor> {
    let (count, heads, columns) = folded.dims3()?;
    let gradient = dense("global_attention_backward", gradient, &[DType::F32])?.reshape((count * heads, columns))?;
    let log_sum_exp = pooled.log_sum_exp.flatten_all()?;
    let result = new_lanes(of, (count * heads, columns), 0.0, x)?;
    for (document, tokens) in documents(x, folded, of)? {
        let dx = dx.map(|dx| dx.narrow(0, tokens.start, tokens.len())).transpose()?;
        let incoming = [document.own(&gradient)?, document.own(&log_sum_exp)?];
        document.backward(&incoming, dx.as_ref(), &document.own(&result)?)?;
    }
    result.reshape(folded.shape())
}

/// Room for numbers of all lanes; those of documents without tokens, which nobody writes, are `value`.
fn new_lanes(of: GlobalRows<'_>, shape: (usize, usize), value: f32, x: &Tensor) -> Result<Tensor> {
    let is_empty = |(rows, tokens): (Range<usize>, Range<usize>)| tokens.is_empty() && !rows.is_empty();
    match of.rows.ranges().zip(of.documents.ranges()).any(is_empty) {
        true => Tensor::full(value, shape, x.device()),
        false => room(shape, DType::F32, x.device()),
    }
}

/// Documents that have global rows and tokens, with their tokens; one with many in parts.
fn documents<'a>(x: &Tensor, folded: &Tensor, of: GlobalRows<'a>) -> Result<Vec<(Document<'a>, Range<usize>)>> {
    let op = "global_attention";
    let (count, heads, columns) = folded.dims3()?;
    let x = dense(op, x, &FLOATS)?;
    let folded = dense(op, folded, &[DType::F32])?.reshape((count * heads, columns))?;
    let mut documents = Vec::new();
    for (rows, tokens) in of.rows.ranges().zip(of.documents.ranges()).filter(|(_, tokens)| !tokens.is_empty()) {
        let all = rows.start * heads..rows.end * heads;
        let most = (CHUNK_SCORES / tokens.len()).max(1);
        for first in all.clone().step_by(most) {
            let lanes = first..all.end.min(first + most);
            let folded = folded.narrow(0, lanes.start, lanes.len())?;
            let x = x.narrow(0, tokens.start, tokens.len())?;
            documents.push((Document { x, folded, lanes, of }, tokens.clone()));
        }
    }
    Ok(documents)
}

impl Document<'_> {
    /// The document's part of what all lanes have.
    fn own(&self, lanes: &Tensor) -> Result<Tensor> {
        lanes.narrow(0, self.lanes.start, self.lanes.len())
    }

    /// How many parts a number of a product has.
    fn parts(&self) -> usize {
        if self.x.dtype() == DType::F32 { 1 } else { 2 }
    }

    /// Writes the output `[L, d + 1]` and log-sum-exp `[L]`.
    fn pool(&self, output: &Tensor, log_sum_exp: &Tensor) -> Result<()> {
        let (device, lanes, (tokens, width)) = (self.x.device(), self.lanes.len(), self.x.dims2()?);
        let scores = self.products(&self.split(None)?)?;
        let p = room(scores.shape(), self.x.dtype(), device)?;
        let [f32, bf16]: [ffi::GlobalSoftmax; 2] = [ffi::epitome_global_softmax_f32, ffi::epitome_global_softmax_bf16];
        let launch = of_type("global_attention", self.x.dtype(), f32, bf16)?;
        // SAFETY: the tensors have the shapes that lanes, tokens and stride say; rows of lanes have a number behind `width` others.
        check("global_attention", unsafe {
            launch(
                lanes as c_int,
                tokens as c_int,
                scores.dim(1)? as i64,
                self.of.dropout.into(),
                self.lanes.start as u32,
                width as i64 + 1,
                address(&scores)?.cast(),
                address(&self.folded)?.cast::<f32>().wrapping_add(width),
                address_mut(&p)?,
                address_mut(output)?.cast::<f32>().wrapping_add(width),
                address_mut(log_sum_exp)?.cast(),
                stream(device)?,
            )
        })?;
        self.join(&self.sums(&p)?, output)
    }

    /// Writes the gradient of the folded queries `[L, d + 1]`, given that of the output `[L, d + 1]` and log-sum-exp `[L]`; adds that of
    /// x to `dx` `[n, d]`.
    fn backward(&self, [gradient, log_sum_exp]: &[Tensor; 2], dx: Option<&Tensor>, result: &Tensor) -> Result<()> {
        let (device, lanes, (tokens, width)) = (self.x.device(), self.lanes.len(), self.x.dims2()?);
        let factors = self.split(Some(gradient))?;
        let products = self.products(&factors)?;
        let (rows, stride) = (self.parts() * lanes, products.dim(1)?);
        // Gradients of scores, in parts, then probabilities.
        let both = room((rows + lanes, stride), self.x.dtype(), device)?;
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
                width as i64 + 1,
                address(&products)?.cast(),
                address(&products.narrow(0, rows, rows)?)?.cast(),
                address(&self.folded)?.cast::<f32>().wrapping_add(width),
                address(gradient)?.cast::<f32>().wrapping_add(width),
                address(log_sum_exp)?.cast(),
                address_mut(&both)?,
                address_mut(&both.narrow(0, rows, lanes)?)?,
                address_mut(result)?.cast::<f32>().wrapping_add(width),
                stream(device)?,
            )
        })?;
        if let Some(dx) = dx {
            // Higher parts are enough: those of the scores' gradients lie before the probabilities, those of folded queries before
            // those of the gradient.
            let higher = |tensor: &Tensor| tensor.narrow(0, rows - lanes, 2 * lanes);
            Product::new(&higher(&both)?.narrow(1, 0, tokens)?, &higher(&factors)?, [true, false])?.add_to(dx)?;
        }
        self.join(&self.sums(&both.narrow(0, 0, rows)?)?, result)
    }

    /// The folded queries and, if there is one, another `[L, d + 1]`, as factors in the type of x: `[parts L, d]` each.
    fn split(&self, second: Option<&Tensor>) -> Result<Tensor> {
        let (lanes, width) = (self.lanes.len(), self.x.dim(1)?);
        let count = if second.is_some() { 2 } else { 1 } * self.parts() * lanes;
        let parts = room((count, width), self.x.dtype(), self.x.device())?;
        let [f32, bf16]: [ffi::SplitLanes; 2] = [ffi::epitome_split_lanes_f32, ffi::epitome_split_lanes_bf16];
        let launch = of_type("global_attention", self.x.dtype(), f32, bf16)?;
        let second = second.map_or(Ok(null()), |second| Ok::<_, candle_core::Error>(address(second)?.cast()))?;
        let (first, to, stream) = (address(&self.folded)?.cast(), address_mut(&parts)?, stream(self.x.device())?);
        // SAFETY: as in `pool`.
        check("global_attention", unsafe { launch(lanes as c_int, width as c_int, first, second, to, stream) })?;
        Ok(parts)
    }

    /// `[.., stride]` in f32: of factors `[.., d]` with all tokens, whose parts are to be added.
    fn products(&self, factors: &Tensor) -> Result<Tensor> {
        Product::new(factors, &self.x, [false, true])?.evaluate_aligned(None, DType::F32)
    }

    /// `[parts L, d]` in f32: of weights `[parts L, stride]` of all tokens.
    fn sums(&self, weights: &Tensor) -> Result<Tensor> {
        let weights = weights.narrow(1, 0, self.x.dim(0)?)?;
        Product::new(&weights, &self.x, [false, false])?.evaluate(None, DType::F32)
    }

    /// Writes the sums of parts `[parts L, d]` to the first columns of `rows` `[L, d + 1]`.
    fn join(&self, parts: &Tensor, rows: &Tensor) -> Result<()> {
        let [f32, bf16]: [ffi::JoinLanes; 2] = [ffi::epitome_join_lanes_f32, ffi::epitome_join_lanes_bf16];
        let launch = of_type("global_attention", self.x.dtype(), f32, bf16)?;
        let (lanes, width) = (self.lanes.len() as c_int, self.x.dim(1)? as c_int);
        let (from, to, stream) = (address(parts)?.cast(), address_mut(rows)?.cast(), stream(self.x.device())?);
        // SAFETY: as in `pool`.
        check("global_attention", unsafe { launch(lanes, width, from, to, stream) })
    }
}
