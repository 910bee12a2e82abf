//! [`attention`] and [`banded_attention`].

use super::{cpu_values, output, tensor, with_values};
use crate::cpu::attention::{Incoming, Problem, backward, forward};
use crate::{Attention, Band, Segments, Visibility};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use std::sync::OnceLock;

/// Attention of packed documents: `softmax(scale * q k^T) v` over the keys that `spec.visibility` shows each query of a
/// document. A query that sees no key, and a global query of a band, gets zeros.
///
/// `q` is `[Tq, H, D]`, `k` and `v` are `[Tk, H, D]` with Tq and Tk the totals of `spec.queries` and `spec.keys`; the
/// result is `[Tq, H, D]`. Differentiable in all three. Memory beyond inputs and outputs: one float for each head and
/// query between forward and backward. The dropout factor of query row t, head h and key position j is
/// `Dropout::factor((t * H + h) << 32 | j)`, t counted in the packed tensor and j in the document.
///
/// # Errors
/// When shapes do not fit each other or the segments, or global positions are not ascending positions of the document.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, spec: Attention) -> Result<Tensor> {
    let (heads, head_size) = check(q, k, v, &spec)?;
    let op = AttentionOp { spec, heads, head_size, log_sum_exp: OnceLock::new() };
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

/// [`attention`] within a band plus global keys: the encoder's. `q`, `k`, `v` and the result are `[T, H, D]`.
///
/// # Errors
/// As [`attention`].
pub fn banded_attention(q: &Tensor, k: &Tensor, v: &Tensor, band: Band) -> Result<Tensor> {
    let Band { segments, radius, global, scale, dropout, precision } = band;
    let visibility = Visibility::Band { radius, global };
    attention(q, k, v, Attention { queries: segments.clone(), keys: segments, visibility, scale, dropout, precision })
}

/// Checks everything; returns the number of heads and the head size.
pub(crate) fn check(q: &Tensor, k: &Tensor, v: &Tensor, spec: &Attention) -> Result<(usize, usize)> {
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
    if spec.queries.count() != spec.keys.count() {
        bail!("attention: queries of {} documents, keys of {}", spec.queries.count(), spec.keys.count());
    }
    if let Visibility::Band { global, .. } = &spec.visibility {
        check_band(global, &spec.queries, &spec.keys)?;
    }
    super::check_dropout("attention", spec.dropout)?;
    Ok((heads, head_size))
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

struct AttentionOp {
    spec: Attention,
    heads: usize,
    head_size: usize,
    /// [H, Tq], written by the forward.
    log_sum_exp: OnceLock<Vec<f32>>,
}

impl AttentionOp {
    fn problem<'a>(&'a self, q: &'a [f32], k: &'a [f32], v: &'a [f32]) -> Problem<'a> {
        Problem { spec: &self.spec, q, k, v, heads: self.heads, head_size: self.head_size }
    }
}

impl CustomOp3 for AttentionOp {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let q = cpu_values(self.name(), q, q_layout)?;
        let k = cpu_values(self.name(), k, k_layout)?;
        let v = cpu_values(self.name(), v, v_layout)?;
        let (values, log_sum_exp) = forward(&self.problem(q, k, v));
        self.log_sum_exp.get_or_init(|| log_sum_exp);
        Ok(output(values, q_layout.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let log_sum_exp = super::saved(self.name(), &self.log_sum_exp)?;
        let gradient = gradient.contiguous()?;
        let gradients = with_values(self.name(), [q, k, v, result, &gradient], |[q, k, v, output, gradient]| {
            backward(&self.problem(q, k, v), &Incoming { output, gradient, log_sum_exp })
        })?;
        Ok((
            Some(tensor(gradients.q, q.shape())?),
            Some(tensor(gradients.k, k.shape())?),
            Some(tensor(gradients.v, v.shape())?),
        ))
    }
}
