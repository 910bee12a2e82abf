//! [`global_attention`] and [`global_attention_backward`].

use super::{compute, refuse_shared, require_columns, tensor, update};
use crate::cpu::global_attention::{Incoming, Problem, forward, lane_gradients, token_gradients};
use crate::cpu::linear::add;
#[cfg(gpu)]
use crate::cuda;
use crate::random::{Mask, active};
use crate::{Dropout, Segments};
use candle_core::{Result, Tensor, bail};

/// Which rows are global, of which documents, and what drops out of their attention.
#[derive(Clone, Copy, Debug)]
pub struct GlobalRows<'a> {
    /// Global rows of each document.
    pub rows: &'a Segments,
    /// Tokens of each document.
    pub documents: &'a Segments,
    /// Row g, head h and position j have the factor `Dropout::factor((g * H + h) << 32 | j)`.
    pub dropout: Option<Dropout>,
}

/// What [`global_attention`] returns.
#[derive(Clone, Debug)]
pub struct Pooled {
    /// `[G, H, d + 1]`.
    pub output: Tensor,
    /// Of the scores, `[G, H]`, in f32.
    pub log_sum_exp: Tensor,
}

/// Attention of the global rows to all tokens of their documents, by re-association: `x` `[T, d]` holds all documents, `folded`
/// `[G, H, d + 1]` is what [`fold_heads`](crate::fold_heads) makes of the rows' queries: `[a | c]` with `a = W_k^T q_g` for each head
/// (q already scaled) and `c = q_g . b_k`.
///
/// With `p_j = softmax_j(x_j . a + c)` over all tokens j of the row's document and m the dropout factors, the output
/// `[G, H, d + 1]` holds `sum_j m_j p_j x_j` and, in the last column, `sum_j m_j p_j`: what
/// [`project_heads`](crate::project_heads) with W_v and b_v makes a context of. A document without tokens gives zeros. On a GPU x may
/// be in bf16; all else is in f32. Records no graph: [`global_attention_backward`] is its backward.
///
/// # Errors
/// When the shapes do not fit each other or the segments, or a tensor is in a graph.
pub fn global_attention(x: &Tensor, folded: &Tensor, rows: GlobalRows<'_>) -> Result<Pooled> {
    let op = "global_attention";
    let (global, heads, width) = check(op, x, folded, rows)?;
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::global_attention(x, folded, rows);
    }
    let (output, log_sum_exp) =
        compute(op, [x, folded], |[x, folded]| forward(&problem(x, folded, (heads, width), rows)))?;
    Ok(Pooled { output: tensor(output, folded.shape())?, log_sum_exp: tensor(log_sum_exp, (global, heads))? })
}

/// The backward of [`global_attention`], given the gradient of its output: returns that of `folded`, and adds that of x to `dx`
/// `[T, d]`, if anything asks for it.
///
/// # Errors
/// As [`global_attention`].
pub fn global_attention_backward(
    x: &Tensor,
    folded: &Tensor,
    rows: GlobalRows<'_>,
    pooled: &Pooled,
    gradient: &Tensor,
    dx: Option<&Tensor>,
) -> Result<Tensor> {
    let op = "global_attention_backward";
    let (_, heads, width) = check(op, x, folded, rows)?;
    if gradient.dims() != pooled.output.dims() || dx.is_some_and(|dx| dx.dims() != x.dims()) {
        let dx = dx.map(Tensor::dims);
        bail!("{op}: gradient {:?} of {:?}, dx {dx:?} for x {:?}", gradient.dims(), pooled.output.dims(), x.dims());
    }
    if let Some(dx) = dx {
        refuse_shared(op, dx, &[x, folded, gradient])?;
    }
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::global_attention_backward(x, folded, rows, pooled, gradient, dx);
    }
    let inputs = [x, folded, &pooled.output, gradient, &pooled.log_sum_exp];
    let gradients = compute(op, inputs, |[x, folded, output, gradient, log_sum_exp]| {
        let (problem, incoming) =
            (problem(x, folded, (heads, width), rows), Incoming { output, gradient, log_sum_exp });
        if let Some(dx) = dx {
            let gradients = token_gradients(&problem, &incoming);
            update(dx, |dx| add(dx, &gradients))?;
        }
        Ok::<_, candle_core::Error>(lane_gradients(&problem, &incoming))
    })??;
    tensor(gradients, folded.shape())
}

/// G, H and d.
fn check(op: &str, x: &Tensor, folded: &Tensor, of: GlobalRows<'_>) -> Result<(usize, usize, usize)> {
    let GlobalRows { rows, documents, dropout } = of;
    let (&[tokens, width], &[global, heads, columns]) = (x.dims(), folded.dims()) else {
        bail!("{op}: x {:?} and folded queries {:?} must be [T, d] and [G, H, d + 1]", x.dims(), folded.dims());
    };
    require_columns(op, x, width)?;
    if heads == 0 || columns != width + 1 {
        bail!("{op}: x {:?} and folded queries {:?} do not fit", x.dims(), folded.dims());
    }
    if (rows.total(), documents.total()) != (global, tokens) || rows.count() != documents.count() {
        let (x, folded) = (x.dims(), folded.dims());
        bail!("{op}: x {x:?} and folded queries {folded:?}, but segments {documents:?} of tokens and {rows:?} of rows");
    }
    super::check_dropout(op, dropout)?;
    Ok((global, heads, width))
}

/// What the kernels of the CPU are given.
fn problem<'a>(x: &'a [f32], folded: &'a [f32], (heads, width): (usize, usize), of: GlobalRows<'a>) -> Problem<'a> {
    let GlobalRows { rows, documents, dropout } = of;
    Problem { x, folded, rows, documents, mask: active(dropout).map(Mask::new), heads, width }
}
