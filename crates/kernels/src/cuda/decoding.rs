//! The steps of a search by the kernels of `cuda/decoding/`.

use super::attention::Call;
use super::element::{FLOATS, of_type};
use super::place::{address, address_mut, dense, room, stream};
use super::plan::Plan;
use super::{check, ffi};
use crate::{Attention, Precision, Segments, Visibility};
use candle_core::{DType, Result, Tensor, bail};
use std::ffi::c_int;
use std::ptr::null;

/// [`AttentionMemory::attend`](crate::AttentionMemory::attend): softmax(scale q k^T) v of each query `[R, H, D]` over all keys
/// `[S, H, D]` of its document, in bf16; D is 64 or 128.
///
/// # Errors
/// When shapes or types do not fit, there is no kernel for the head size, or a launch fails.
pub fn memory_attention(
    [q, k, v]: [&Tensor; 3],
    (queries, keys): (&Segments, &Segments),
    scale: f32,
) -> Result<Tensor> {
    let op = "memory_attention";
    dense(op, q, &[DType::BF16])?;
    let plan = Plan::memory(queries, keys)?;
    let spec = full(queries, keys, scale);
    let call = Call::new([q, k, v], &spec, plan)?;
    let (heads, size) = (call.problem.heads as usize, call.problem.head_size as usize);
    let partial = |numbers: usize| room((call.plan.partial_rows(), heads, numbers), DType::F32, q.device());
    let (context, log_sum_exp, output) = (partial(size)?, partial(1)?, call.like(0)?);
    let [context, log_sum_exp]: [*mut f32; 2] = [address_mut(&context)?.cast(), address_mut(&log_sum_exp)?.cast()];
    let to = address_mut(&output)?;
    // SAFETY: what the problem points to outlives the launch; the targets have the rows of the plan.
    check(op, unsafe { ffi::epitome_memory_attention_bf16(&call.problem, context, log_sum_exp, to, call.stream) })?;
    Ok(output)
}

/// Attention of every query to every key of its document.
pub(super) fn full(queries: &Segments, keys: &Segments, scale: f32) -> Attention {
    Attention {
        queries: queries.clone(),
        keys: keys.clone(),
        visibility: Visibility::Full,
        scale,
        dropout: None,
        precision: Precision::F32,
    }
}

/// [`cached_attention`](crate::cached_attention): each query row `[H, D]` of q `[R, H, D]` sees the rows of keys and values
/// `[N, H, D]` that its list of ancestors names.
///
/// # Errors
/// When shapes or types do not fit, an ancestor is not a row, or a launch fails.
pub fn past_attention([q, keys, values]: [&Tensor; 3], ancestors: &[Vec<u32>], scale: f32) -> Result<Tensor> {
    let op = "past_attention";
    let ((rows, heads, size), (stored, ..), device) = (q.dims3()?, keys.dims3()?, q.device());
    if rows != ancestors.len() || keys.dims() != [stored, heads, size] || values.dims() != keys.dims() {
        bail!("{op}: queries {:?}, keys {:?}, values {:?}", q.dims(), keys.dims(), values.dims());
    }
    if ancestors.iter().flatten().any(|ancestor| *ancestor as usize >= stored) {
        bail!("{op}: an ancestor outside {stored} rows");
    }
    let stride = ancestors.iter().map(Vec::len).max().unwrap_or(0);
    let lengths: Vec<u32> = ancestors.iter().map(|past| past.len() as u32).collect();
    let mut table = vec![0u32; (rows * stride).max(1)];
    for (row, past) in ancestors.iter().enumerate() {
        table[row * stride..][..past.len()].copy_from_slice(past);
    }
    let q = dense(op, q, &FLOATS)?;
    let [keys, values] = [keys, values].map(|tensor| dense(op, tensor, &[q.dtype()]));
    let (keys, values, output) = (keys?, values?, room(q.shape(), q.dtype(), device)?);
    let words = |words: &[u32]| Tensor::from_slice(words, words.len(), device);
    let (table, lengths) = (words(&table)?, words(&lengths)?);
    let [f32, bf16]: [ffi::PastAttention; 2] = [ffi::epitome_past_attention_f32, ffi::epitome_past_attention_bf16];
    let launch = of_type(op, q.dtype(), f32, bf16)?;
    // SAFETY: all ancestors are rows of keys and values.
    check(op, unsafe {
        launch(
            address(&q)?,
            address(&keys)?,
            address(&values)?,
            address(&table)?.cast(),
            address(&lengths)?.cast(),
            stride as c_int,
            rows as c_int,
            heads as c_int,
            size as c_int,
            scale,
            address_mut(&output)?,
            stream(device)?,
        )
    })?;
    Ok(output)
}

/// The k most probable entries of each row of logits `[rows, stride]`, of which the first `vocabulary` count: log-probabilities
/// in f32 and indices, both `[rows, k]`.
///
/// # Errors
/// When shapes or types do not fit, or a launch fails.
pub fn top_k(logits: &Tensor, vocabulary: usize, bias: Option<&Tensor>, k: usize) -> Result<[Tensor; 2]> {
    let op = "top_k";
    let ((rows, stride), device) = (logits.dims2()?, logits.device());
    if vocabulary > stride || k > vocabulary || bias.is_some_and(|bias| bias.dims() != [vocabulary]) {
        bail!("{op}: {k} of {vocabulary} entries of logits {:?}", logits.dims());
    }
    let logits = dense(op, logits, &FLOATS)?;
    let bias = bias.map(|bias| dense(op, bias, &[DType::F32])).transpose()?;
    let (values, indices) = (room((rows, k), DType::F32, device)?, room((rows, k), DType::I32, device)?);
    let [f32, bf16]: [ffi::TopK; 2] = [ffi::epitome_top_k_f32, ffi::epitome_top_k_bf16];
    let launch = of_type(op, logits.dtype(), f32, bf16)?;
    // SAFETY: the tensors have the shapes that rows, stride, vocabulary and k say.
    check(op, unsafe {
        launch(
            address(&logits)?,
            bias.as_ref().map_or(Ok(null()), address)?.cast(),
            rows as i64,
            stride as i64,
            vocabulary as c_int,
            k as c_int,
            address_mut(&values)?.cast(),
            address_mut(&indices)?.cast(),
            stream(device)?,
        )
    })?;
    Ok([values, indices])
}
