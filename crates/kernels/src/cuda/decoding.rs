//! The steps of a search by the kernels of `cuda/decoding/`.

use super::attention::{Call, Inputs};
use super::buffer::{Buffer, address_of, buffer_of};
use super::element::{Element, of_type};
use super::plan::Plan;
use super::{check, ffi};
use crate::{Attention, Precision, Segments, Visibility};
use candle_core::{Result, bail};
use half::bf16;
use std::ffi::c_int;
use std::ptr::null_mut;

/// `AttentionMemory::attend`: softmax(scale q k^T) v of each query `[R, H, D]` over all keys `[S, H, D]` of its document; D is 64
/// or 128.
///
/// # Errors
/// When shapes do not fit, there is no kernel for the head size, or a launch fails.
pub fn memory_attention(
    [q, k, v]: [&[bf16]; 3],
    (heads, head_size): (usize, usize),
    (queries, keys): (&Segments, &Segments),
    scale: f32,
) -> Result<Vec<bf16>> {
    let plan = Plan::memory(queries, keys)?;
    let spec = Attention {
        queries: queries.clone(),
        keys: keys.clone(),
        visibility: Visibility::Full,
        scale,
        dropout: None,
        precision: Precision::Bf16,
    };
    let call = Call::new(&Inputs { spec: &spec, q, k, v, heads, head_size }, plan)?;
    let context = Buffer::<f32>::room(call.plan.partial_rows() * heads * head_size)?;
    let log_sum_exp = Buffer::<f32>::room(call.plan.partial_rows() * heads)?;
    let output = Buffer::<bf16>::room(q.len())?;
    // SAFETY: what the problem points to outlives the call; the targets have the rows of the plan.
    check("memory_attention", unsafe {
        ffi::epitome_memory_attention_bf16(
            &call.problem,
            context.pointer(),
            log_sum_exp.pointer(),
            output.any(),
            null_mut(),
        )
    })?;
    output.to_vec()
}

/// `cached_attention`: each query row `[H, D]` sees the rows of keys and values that its list of ancestors names.
///
/// # Errors
/// When shapes do not fit, an ancestor is not a row, or a launch fails.
pub fn past_attention<T: Element>(
    [q, keys, values]: [&[T]; 3],
    (heads, head_size): (usize, usize),
    ancestors: &[Vec<u32>],
    scale: f32,
) -> Result<Vec<T>> {
    let (rows, width) = (ancestors.len(), heads * head_size);
    if width == 0 || q.len() != rows * width || keys.len() != values.len() || !keys.len().is_multiple_of(width) {
        bail!("past_attention: {rows} rows, {} queries, {} keys, {} values", q.len(), keys.len(), values.len());
    }
    if ancestors.iter().flatten().any(|ancestor| *ancestor as usize >= keys.len() / width) {
        bail!("past_attention: an ancestor outside {} rows", keys.len() / width);
    }
    let stride = ancestors.iter().map(Vec::len).max().unwrap_or(0);
    let lengths: Vec<u32> = ancestors.iter().map(|past| past.len() as u32).collect();
    let mut table = vec![0u32; rows * stride];
    for (row, past) in ancestors.iter().enumerate() {
        table[row * stride..][..past.len()].copy_from_slice(past);
    }
    let output = Buffer::<T>::room(q.len())?;
    let (table, lengths) = (Buffer::of(&table)?, Buffer::of(&lengths)?);
    let (q, keys, values) = (Buffer::of(q)?, Buffer::of(keys)?, Buffer::of(values)?);
    let launch = of_type::<T, ffi::PastAttention>(ffi::epitome_past_attention_f32, ffi::epitome_past_attention_bf16);
    // SAFETY: all ancestors are rows of keys and values.
    check("past_attention", unsafe {
        launch(
            q.any(),
            keys.any(),
            values.any(),
            table.pointer(),
            lengths.pointer(),
            stride as c_int,
            rows as c_int,
            heads as c_int,
            head_size as c_int,
            scale,
            output.any(),
            null_mut(),
        )
    })?;
    output.to_vec()
}

/// The k most probable entries of each row of logits `[rows, stride]`, of which the first `vocabulary` count: log-probabilities
/// and indices `[rows, k]`.
///
/// # Errors
/// When shapes do not fit, or a launch fails.
pub fn top_k<T: Element>(
    logits: &[T],
    (stride, vocabulary): (usize, usize),
    bias: Option<&[f32]>,
    k: usize,
) -> Result<(Vec<f32>, Vec<i32>)> {
    let fits = stride > 0 && logits.len().is_multiple_of(stride) && vocabulary <= stride && k <= vocabulary;
    if !fits || bias.is_some_and(|bias| bias.len() != vocabulary) {
        bail!("top_k: {k} of {vocabulary} entries in rows of {stride}, {} logits", logits.len());
    }
    let rows = logits.len() / stride;
    let (values, indices) = (Buffer::<f32>::room(rows * k)?, Buffer::<i32>::room(rows * k)?);
    let (logits, bias) = (Buffer::of(logits)?, buffer_of(bias)?);
    let launch = of_type::<T, ffi::TopK>(ffi::epitome_top_k_f32, ffi::epitome_top_k_bf16);
    // SAFETY: the slices have the shapes that rows, stride, vocabulary and k say.
    check("top_k", unsafe {
        launch(
            logits.any(),
            address_of(&bias),
            rows as i64,
            stride as i64,
            vocabulary as c_int,
            k as c_int,
            values.pointer(),
            indices.pointer(),
            null_mut(),
        )
    })?;
    Ok((values.to_vec()?, indices.to_vec()?))
}
