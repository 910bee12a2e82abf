//! [`global_attention`].

use super::{cpu_values, output, require_columns, saved, tensor, with_values};
use crate::cpu::global_attention::{Incoming, Problem, forward, lane_gradients, token_gradients};
#[cfg(gpu)]
use crate::cuda;
use crate::random::{Mask, active};
use crate::{Dropout, Segments};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use std::sync::OnceLock;

/// Attention of the global rows to all tokens of their documents, by re-association: `x` `[T, d]` holds all documents,
/// `a` `[G, H, d]` is `W_k^T q_g` for each head of each global row (q already scaled), `c` `[G, H]` is `q_g . b_k`, and
/// `rows` says how many of the G rows each document has.
///
/// With `p_j = softmax_j(x_j . a + c)` over all tokens j of the row's document and m the dropout factors, the result
/// `[G, H, d + 1]` holds `sum_j m_j p_j x_j` and, in the last column, `sum_j m_j p_j`; the context of head h is then W_v
/// (that head's rows) times the former plus the latter times b_v. A document without tokens gives zeros. Differentiable
/// in `x`, `a` and `c`. The dropout factor of row g, head h and position j is `Dropout::factor((g * H + h) << 32 | j)`.
///
/// # Errors
/// When the shapes do not fit each other or the segments.
pub fn global_attention(
    x: &Tensor,
    a: &Tensor,
    c: &Tensor,
    rows: Segments,
    documents: Segments,
    dropout: Option<Dropout>,
) -> Result<Tensor> {
    let (&[tokens, width], &[global, heads, a_width]) = (x.dims(), a.dims()) else {
        bail!("global_attention: x {:?} and a {:?} must be [T, d] and [G, H, d]", x.dims(), a.dims());
    };
    require_columns("global_attention", x, width)?;
    if a_width != width || c.dims() != [global, heads] {
        bail!("global_attention: x {:?}, a {:?} and c {:?} do not fit", x.dims(), a.dims(), c.dims());
    }
    if (rows.total(), documents.total()) != (global, tokens) || rows.count() != documents.count() {
        bail!(
            "global_attention: x {:?} and a {:?}, but segments {documents:?} of tokens and {rows:?} of rows",
            x.dims(),
            a.dims()
        );
    }
    super::check_dropout("global_attention", dropout)?;
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::global_attention(x, a, c, (&rows, &documents), dropout);
    }
    let mask = active(dropout).map(Mask::new);
    let op = GlobalAttention { rows, documents, mask, heads, width, log_sum_exp: OnceLock::new() };
    x.contiguous()?.apply_op3(&a.contiguous()?, &c.contiguous()?, op)
}

struct GlobalAttention {
    rows: Segments,
    documents: Segments,
    mask: Option<Mask>,
    heads: usize,
    width: usize,
    /// [G * H], written by the forward.
    log_sum_exp: OnceLock<Vec<f32>>,
}

impl GlobalAttention {
    fn problem<'a>(&'a self, x: &'a [f32], a: &'a [f32], c: &'a [f32]) -> Problem<'a> {
        let Self { rows, documents, mask, heads, width, .. } = self;
        Problem { x, a, c, rows, documents, mask: *mask, heads: *heads, width: *width }
    }
}

impl CustomOp3 for GlobalAttention {
    fn name(&self) -> &'static str {
        "global_attention"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        a: &CpuStorage,
        la: &Layout,
        c: &CpuStorage,
        lc: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, a) = (cpu_values(self.name(), x, lx)?, cpu_values(self.name(), a, la)?);
        let c = cpu_values(self.name(), c, lc)?;
        let (values, log_sum_exp) = forward(&self.problem(x, a, c));
        self.log_sum_exp.get_or_init(|| log_sum_exp);
        Ok(output(values, (self.rows.total(), self.heads, self.width + 1)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        c: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let log_sum_exp = saved(self.name(), &self.log_sum_exp)?;
        let inputs = [x, a, c, result, &gradient.contiguous()?];
        let (dx, (da, dc)) = with_values(self.name(), inputs, |[x_values, a, c, output, gradient]| {
            let problem = self.problem(x_values, a, c);
            let incoming = Incoming { output, gradient, log_sum_exp };
            let dx = x.track_op().then(|| token_gradients(&problem, &incoming));
            (dx, lane_gradients(&problem, &incoming))
        })?;
        let dx = dx.map(|dx| tensor(dx, x.shape())).transpose()?;
        Ok((dx, Some(tensor(da, a.shape())?), Some(tensor(dc, c.shape())?)))
    }
}
