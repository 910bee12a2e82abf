//! The steps of a search by the kernels of `cuda/decoding/`.

use super::attention::{Call, PlacedPlan};
use super::element::{FLOATS, of_type};
use super::place::{address, address_mut, dense, room, row_address, rows, stream};
use super::plan::Plan;
use super::step::Step;
use super::{check, ffi};
use crate::{Attention, Precision, Segments, Visibility, read_best};
use candle_core::{DType, Result, Tensor, bail};
use std::ffi::c_int;
use std::ptr::null;

/// Blocks that share a row: `PARTS` of `cuda/decoding/top_k.cu`.
const TOP_K_PARTS: usize = 32;

/// [`AttentionMemory::attend`](crate::AttentionMemory::attend): softmax(scale q k^T) v of each query `[R, H, D]` over all keys
/// `[S, H, D]` of its document, in bf16; D is 64 or 128.
///
/// # Errors
/// When shapes or types do not fit, there is no kernel for the head size, or a launch fails.
pub fn memory_attention(inputs: [&Tensor; 3], (queries, keys): (&Segments, &Segments), scale: f32) -> Result<Tensor> {
    let plan = PlacedPlan::new(Plan::memory(queries, keys, inputs[0].dim(1)?)?, inputs[0].device())?;
    memory_attention_by_plan(inputs, (queries, keys), scale, &plan)
}

/// The same by a plan that is there already.
pub(super) fn memory_attention_by_plan(
    [q, k, v]: [&Tensor; 3],
    (queries, keys): (&Segments, &Segments),
    scale: f32,
    plan: &PlacedPlan,
) -> Result<Tensor> {
    let op = "memory_attention";
    if q.dtype() != DType::BF16 {
        bail!("{op}: queries in {:?}, not in bf16", q.dtype());
    }
    let call = Call::new([q, k, v], &full(queries, keys, scale), plan)?;
    let (heads, size) = (call.problem.heads as usize, call.problem.head_size as usize);
    let partial = |numbers: usize| room((call.partial_rows, heads, numbers), DType::F32, q.device());
    let (context, log_sum_exp, output) = (partial(size)?, partial(1)?, call.like(0)?);
    let [context, log_sum_exp]: [*mut f32; 2] = [address_mut(&context)?.cast(), address_mut(&log_sum_exp)?.cast()];
    let (arrivals, to) = (plan.arrivals()?, address_mut(&output)?);
    // SAFETY: what the problem points to outlives the launch; the targets have the rows of the plan, whose counters are nobody else's.
    check(op, unsafe {
        ffi::epitome_memory_attention_bf16(&call.problem, context, log_sum_exp, arrivals, to, call.stream)
    })?;
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

/// Attention of each query row of a step `[R, H, D]` to its past, whose rows are among the cache's keys and values `[.., H, D]`, which
/// those of the step's rows join in their places.
///
/// # Errors
/// When shapes or types do not fit, the cache has no room for the step, or a launch fails.
pub(super) fn past_attention(
    [q, new_keys, new_values]: [&Tensor; 3],
    [keys, values]: [&Tensor; 2],
    step: &Step,
    scale: f32,
) -> Result<Tensor> {
    let op = "past_attention";
    let (count, heads, size) = q.dims3()?;
    let stored = keys.dim(0)?;
    let fits = new_keys.dims() == q.dims() && new_values.dims() == q.dims() && values.dims() == keys.dims();
    if !fits || keys.dims()[1..] != [heads, size] || count != step.rows || stored < step.capacity {
        bail!("{op}: queries {:?}, keys {:?}, a cache {:?}", q.dims(), new_keys.dims(), keys.dims());
    }
    let q = rows(op, q, &FLOATS)?;
    let like_q = |tensor: &Tensor| rows(op, tensor, &[q.dtype()]);
    let (new_keys, new_values) = (like_q(new_keys)?, like_q(new_values)?);
    let stride = q.stride()[0];
    if new_keys.stride()[0] != stride || new_values.stride()[0] != stride || keys.dtype() != q.dtype() {
        bail!("{op}: queries and keys that lie apart differently, or have different types");
    }
    let output = room(q.shape(), q.dtype(), q.device())?;
    let [f32, bf16]: [ffi::PastAttention; 2] = [ffi::epitome_past_attention_f32, ffi::epitome_past_attention_bf16];
    let launch = of_type(op, q.dtype(), f32, bf16)?;
    // SAFETY: places and ancestors are rows of the cache, which has room for what the step says.
    check(op, unsafe {
        launch(
            row_address(&q)?,
            row_address(&new_keys)?,
            row_address(&new_values)?,
            stride as i64,
            address_mut(keys)?,
            address_mut(values)?,
            step.part(2)?,
            step.part(3)?,
            step.part(4)?,
            step.reach as c_int,
            count as c_int,
            heads as c_int,
            size as c_int,
            scale,
            address_mut(&output)?,
            stream(q.device())?,
        )
    })?;
    Ok(output)
}

/// The k most probable entries of each row of logits `[rows, stride]`, of which the first `vocabulary` count, with their
/// log-probabilities, the best first and of equal ones the first.
///
/// # Errors
/// When shapes or types do not fit, or a launch fails.
pub fn top_k(logits: &Tensor, vocabulary: usize, bias: Option<&Tensor>, k: usize) -> Result<Vec<Vec<(u32, f32)>>> {
    read_best(&find_top_k(logits, vocabulary, bias, k)?)
}

/// The same where it is found, for [`read_best`].
pub(crate) fn find_top_k(logits: &Tensor, vocabulary: usize, bias: Option<&Tensor>, k: usize) -> Result<Tensor> {
    let op = "top_k";
    let ((rows, stride), device) = (logits.dims2()?, logits.device());
    if vocabulary > stride || k > vocabulary || bias.is_some_and(|bias| bias.dims() != [vocabulary]) {
        bail!("{op}: {k} of {vocabulary} entries of logits {:?}", logits.dims());
    }
    let logits = dense(op, logits, &FLOATS)?;
    let bias = bias.map(|bias| dense(op, bias, &[DType::F32])).transpose()?;
    // Values and indices lie together, so that one copy brings both.
    let found = room((2, rows, k), DType::U32, device)?;
    let lists = room((rows, TOP_K_PARTS, 2 * (1 + k)), DType::U32, device)?;
    let values: *mut f32 = address_mut(&found)?.cast();
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
            address_mut(&lists)?,
            values,
            values.wrapping_add(rows * k).cast(),
            stream(device)?,
        )
    })?;
    Ok(found)
}
