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

/// Attention of the global rows to all tokens of their documents, by re-association: `x` `[T, d]` holds all documents,
/// `a` `[G, H, d]` is `W_k^T q_g` for each head of each global row (q already scaled) and `c` `[G, H]` is `q_g . b_k`.
///
/// With `p_j = softmax_j(x_j . a + c)` over all tokens j of the row's document and m the dropout factors, the output
/// `[G, H, d + 1]` holds `sum_j m_j p_j x_j` and, in the last column, `sum_j m_j p_j`; the context of head h is then W_v
/// (that head's rows) times the former plus the latter times b_v. A document without tokens gives zeros. On a GPU x may be in
/// bf16; all else is in f32. Records no graph: [`global_attention_backward`] is its backward.
///
/// # Errors
/// When the shapes do not fit each other or the segments, or a tensor is in a graph.
pub fn global_attention(x: &Tensor, a: &Tensor, c: &Tensor, rows: GlobalRows<'_>) -> Result<Pooled> {
    let op = "global_attention";
    check(op, [x, a, c], rows)?;
    let (global, heads, width) = a.dims3()?;
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::global_attention([x, a, c], rows);
    }
    let (output, log_sum_exp) = compute(op, [x, a, c], |[x, a, c]| forward(&problem([x, a, c], (heads, width), rows)))?;
    Ok(Pooled {
        output: tensor(output, (global, heads, width + 1))?,
        log_sum_exp: tensor(log_sum_exp, (global, heads))?,
    })
}

/// The backward of [`global_attention`], given the gradient of its output: returns those of a and c, and adds that of x to `dx`
/// `[T, d]`, if anything asks for it.
///
/// # Errors
/// As [`global_attention`].
pub fn global_attention_backward(
    [x, a, c]: [&Tensor; 3],
    rows: GlobalRows<'_>,
    pooled: &Pooled,
    gradient: &Tensor,
    dx: Option<&Tensor>,
) -> Result<[Tensor; 2]> {
    let op = "global_attention_backward";
    check(op, [x, a, c], rows)?;
    let (_, heads, width) = a.dims3()?;
    if gradient.dims() != pooled.output.dims() || dx.is_some_and(|dx| dx.dims() != x.dims()) {
        let dx = dx.map(Tensor::dims);
        bail!("{op}: gradient {:?} of {:?}, dx {dx:?} for x {:?}", gradient.dims(), pooled.output.dims(), x.dims());
    }
    if let Some(dx) = dx {
        refuse_shared(op, dx, &[x, a, c, gradient])?;
    }
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::global_attention_backward([x, a, c], rows, pooled, gradient, dx);
    }
    let inputs = [x, a, c, &pooled.output, gradient, &pooled.log_sum_exp];
    let (da, dc) = compute(op, inputs, |[x, a, c, output, gradient, log_sum_exp]| {
        let (problem, incoming) =
            (problem([x, a, c], (heads, width), rows), Incoming { output, gradient, log_sum_exp });
        if let Some(dx) = dx {
            let gradients = token_gradients(&problem, &incoming);
            update(dx, |dx| add(dx, &gradients))?;
        }
        Ok::<_, candle_core::Error>(lane_gradients(&problem, &incoming))
    })??;
    Ok([tensor(da, a.shape())?, tensor(dc, c.shape())?])
}

fn check(op: &str, [x, a, c]: [&Tensor; 3], GlobalRows { rows, documents, dropout }: GlobalRows<'_>) -> Result<()> {
    let (&[tokens, width], &[global, heads, a_width]) = (x.dims(), a.dims()) else {
        bail!("{op}: x {:?} and a {:?} must be [T, d] and [G, H, d]", x.dims(), a.dims());
    };
    require_columns(op, x, width)?;
    if heads == 0 || a_width != width || c.dims() != [global, heads] {
        bail!("{op}: x {:?}, a {:?} and c {:?} do not fit", x.dims(), a.dims(), c.dims());
    }
    if (rows.total(), documents.total()) != (global, tokens) || rows.count() != documents.count() {
        let (x, a) = (x.dims(), a.dims());
        bail!("{op}: x {x:?} and a {a:?}, but segments {documents:?} of tokens and {rows:?} of rows");
    }
    super::check_dropout(op, dropout)
}

/// What the kernels of the CPU are given; a is `[G, heads, width]`.
fn problem<'a>([x, a, c]: [&'a [f32]; 3], (heads, width): (usize, usize), of: GlobalRows<'a>) -> Problem<'a> {
    Problem { x, a, c, rows: of.rows, documents: of.documents, mask: active(of.dropout).map(Mask::new), heads, width }
}
