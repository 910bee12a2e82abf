//! [`attention_forward`] and [`attention_backward`].

use super::{compute, tensor};
use crate::cpu::attention::{Incoming, Problem, backward, forward};
#[cfg(gpu)]
use crate::cuda;
use crate::{Attention, Segments, Visibility};
use candle_core::{Result, Tensor, bail};

/// What [`attention_forward`] keeps for [`attention_backward`].
#[derive(Clone, Debug)]
pub struct Attended {
    /// The output, `[Tq, H, D]`.
    pub output: Tensor,
    /// Log-sum-exp of each head and query, `[H, Tq]`.
    pub(crate) log_sum_exp: Tensor,
}

/// Attention of packed documents: `softmax(scale * q k^T) v` over the keys that `spec.visibility` shows each query of a
/// document. A query that sees no key, and a global query of a band, gets zeros.
///
/// `q` is `[Tq, H, D]`, `k` and `v` are `[Tk, H, D]` with Tq and Tk the totals of `spec.queries` and `spec.keys`; the
/// output is `[Tq, H, D]`. Records no graph: [`attention_backward`] is its backward, for which one float for each head and
/// query is kept beside the output. The dropout factor of query row t, head h and key position j is
/// `Dropout::factor((t * H + h) << 32 | j)`, t counted in the packed tensor and j in the document.
///
/// # Errors
/// When shapes do not fit each other or the segments, global positions are not ascending positions of the document, or a
/// tensor is in a graph.
pub fn attention_forward(q: &Tensor, k: &Tensor, v: &Tensor, spec: &Attention) -> Result<Attended> {
    let (heads, head_size) = check(q, k, v, spec)?;
    #[cfg(gpu)]
    if cuda::runs_on(q.device()) {
        return cuda::attention_forward(q, k, v, spec, cuda::Units::of(q.device())?);
    }
    let (output, log_sum_exp) =
        compute("attention_forward", [q, k, v], |[q, k, v]| forward(&Problem { spec, q, k, v, heads, head_size }))?;
    let log_sum_exp = tensor(log_sum_exp, (heads, spec.queries.total()))?;
    Ok(Attended { output: tensor(output, q.shape())?, log_sum_exp })
}

/// The backward of [`attention_forward`]: the gradients of `q`, `k` and `v`, of their shapes, given `dy`, that of the
/// output, `[Tq, H, D]`.
///
/// # Errors
/// As [`attention_forward`], and when `attended` or `dy` is of other queries.
pub fn attention_backward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spec: &Attention,
    attended: &Attended,
    dy: &Tensor,
) -> Result<[Tensor; 3]> {
    let (heads, head_size) = check(q, k, v, spec)?;
    let Attended { output, log_sum_exp } = attended;
    if output.dims() != q.dims() || dy.dims() != q.dims() {
        bail!("attention_backward: q {:?}, output {:?} and dy {:?} differ", q.dims(), output.dims(), dy.dims());
    }
    #[cfg(gpu)]
    if cuda::runs_on(q.device()) {
        return cuda::attention_backward([q, k, v], spec, attended, dy, cuda::Units::of(q.device())?);
    }
    let inputs = [q, k, v, output, dy, log_sum_exp];
    let gradients = compute("attention_backward", inputs, |[q, k, v, output, gradient, log_sum_exp]| {
        let problem = Problem { spec, q, k, v, heads, head_size };
        backward(&problem, &Incoming { output, gradient, log_sum_exp })
    })?;
    Ok([tensor(gradients.q, q.shape())?, tensor(gradients.k, k.shape())?, tensor(gradients.v, v.shape())?])
}

/// Checks everything; returns the number of heads and the head size.
fn check(q: &Tensor, k: &Tensor, v: &Tensor, spec: &Attention) -> Result<(usize, usize)> {
    let (&[tq, heads, head_size], &[tk, k_heads, k_size]) = (q.dims(), k.dims()) else {
        bail!("attention: q {:?} and k {:?} must be [T, H, D]", q.dims(), k.dims());
    };
    if k.dims() != v.dims() || (heads, head_size) != (k_heads, k_size) || head_size == 0 {
        bail!("attention: q {:?}, k {:?} and v {:?} do not fit", q.dims(), k.dims(), v.dims());
    }
    if (tq, tk) != (spec.queries.total(), spec.keys.total()) {
        let totals = (spec.queries.total(), spec.keys.total());
        bail!("attention: q {:?} and k {:?}, but segments of {totals:?} rows", q.dims(), k.dims());
    }
    check_spec(spec)?;
    Ok((heads, head_size))
}

/// Checks what is not a tensor.
pub(crate) fn check_spec(spec: &Attention) -> Result<()> {
    if spec.queries.count() != spec.keys.count() {
        bail!("attention: queries of {} documents, keys of {}", spec.queries.count(), spec.keys.count());
    }
    if let Visibility::Band { global, .. } = &spec.visibility {
        check_band(global, &spec.queries, &spec.keys)?;
    }
    super::check_dropout("attention", spec.dropout)
}

fn check_band(global: &[Vec<usize>], queries: &Segments, keys: &Segments) -> Result<()> {
    if queries != keys {
        bail!("attention: a band needs as many queries as keys in every document, not {queries:?} and {keys:?}");
    }
    if global.len() != keys.count() {
        bail!("attention: global positions of {} documents for {} documents", global.len(), keys.count());
    }
    for (b, positions) in global.iter().enumerate() {
        let ascending = positions.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || positions.last().is_some_and(|last| *last >= keys.length(b)) {
            bail!(
                "attention: global positions {positions:?} of document {b} must ascend and stay below its length {}",
                keys.length(b)
            );
        }
    }
    Ok(())
}
