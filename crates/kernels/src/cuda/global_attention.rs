//! Attention of few rows to whole documents, of candle's operations, through whose graph its gradients go.

use super::elementwise::dropout_part;
use crate::random::active;
use crate::{Dropout, Segments};
use candle_core::{DType, Device, Result, Tensor};
use std::ops::Range;

/// Rows of a document that are in f32 at a time.
const ROWS: usize = 1 << 16;

/// [`global_attention`](crate::global_attention): x `[T, d]` may be bf16, a and c are f32, and so is the result.
///
/// # Errors
/// When shapes do not fit or an operation fails.
pub fn global_attention(
    x: &Tensor,
    a: &Tensor,
    c: &Tensor,
    (rows, documents): (&Segments, &Segments),
    dropout: Option<Dropout>,
) -> Result<Tensor> {
    let (count, heads, width) = a.dims3()?;
    let parts = rows.ranges().zip(documents.ranges()).filter(|(rows, _)| !rows.is_empty()).map(|(rows, tokens)| {
        let lanes = rows.len() * heads;
        let a = a.narrow(0, rows.start, rows.len())?.reshape((lanes, width))?;
        let c = c.narrow(0, rows.start, rows.len())?.reshape((lanes, 1))?;
        let factors =
            active(dropout).map(|dropout| factors(dropout, rows.start * heads, (lanes, tokens.len()), x.device()));
        document(&x.narrow(0, tokens.start, tokens.len())?, &a, &c, factors.transpose()?)
    });
    let parts = parts.collect::<Result<Vec<Tensor>>>()?;
    match parts.is_empty() {
        true => Tensor::zeros((count, heads, width + 1), DType::F32, x.device()),
        false => Tensor::cat(&parts, 0)?.reshape((count, heads, width + 1)),
    }
}

/// The rows of one document: x `[n, d]`, a `[lanes, d]`, c `[lanes, 1]`, `[lanes, d + 1]`.
fn document(x: &Tensor, a: &Tensor, c: &Tensor, factors: Option<Tensor>) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    if tokens == 0 {
        return Tensor::zeros((a.dim(0)?, width + 1), DType::F32, x.device());
    }
    let part = |rows: &Range<usize>| x.narrow(0, rows.start, rows.len())?.to_dtype(DType::F32);
    let parts: Vec<Range<usize>> = (0..tokens).step_by(ROWS).map(|first| first..tokens.min(first + ROWS)).collect();
    let scores = parts.iter().map(|rows| a.matmul(&part(rows)?.t()?)).collect::<Result<Vec<Tensor>>>()?;
    let scores = Tensor::cat(&scores, 1)?.broadcast_add(c)?;
    let exponentials = scores.broadcast_sub(&scores.max_keepdim(1)?.detach())?.exp()?;
    let mut p = exponentials.broadcast_div(&exponentials.sum_keepdim(1)?)?;
    if let Some(factors) = factors {
        p = p.mul(&factors)?;
    }
    let sum_of = |rows: &Range<usize>| p.narrow(1, rows.start, rows.len())?.contiguous()?.matmul(&part(rows)?);
    let mut sums = sum_of(&parts[0])?;
    for rows in &parts[1..] {
        sums = sums.add(&sum_of(rows)?)?;
    }
    Tensor::cat(&[sums, p.sum_keepdim(1)?], 1)
}

/// What dropout multiplies the probabilities by, `[lanes, tokens]`, of lanes from `first` on.
fn factors(dropout: Dropout, first: usize, (lanes, tokens): (usize, usize), device: &Device) -> Result<Tensor> {
    let ones = Tensor::ones(tokens, DType::F32, device)?;
    let lane = |lane: usize| dropout_part(&ones, Some(dropout), ((first + lane) as u64) << 32);
    Tensor::stack(&(0..lanes).map(lane).collect::<Result<Vec<Tensor>>>()?, 0)
}
