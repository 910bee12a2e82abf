//! Attention by the kernels of `cuda/attention/`.

use super::check;
use super::element::{FLOATS, of_type};
use super::ffi::{self, Stream};
use super::key_splits::KeySplits;
use super::place::{self, address, address_mut, dense, room, row_address, rows, stream};
use super::plan::Plan;
use super::units::Units;
use crate::ops::attention::Attended;
use crate::random::{Mask, active};
use crate::{Attention, Dropout};
use candle_core::{DType, Device, Result, Tensor, bail};
use std::ffi::{c_int, c_void};

/// [`attention_forward`](crate::attention_forward): q `[Tq, H, D]`, k and v `[Tk, H, D]`, f32 or bf16.
///
/// # Errors
/// When shapes or types do not fit, or a launch fails.
pub fn attention_forward(q: &Tensor, k: &Tensor, v: &Tensor, spec: &Attention, units: Units) -> Result<Attended> {
    match KeySplits::new(q, spec, units)? {
        Some(splits) => splits.attend([q, k, v], units),
        None => attend([q, k, v], spec, units),
    }
}

/// The same without splits.
pub(super) fn attend(inputs: [&Tensor; 3], spec: &Attention, units: Units) -> Result<Attended> {
    let plan = PlacedPlan::new(Plan::new(spec)?, inputs[0].device())?;
    attend_by_plan(inputs, spec, &plan, units)
}

/// The same by a plan that is there already.
pub(super) fn attend_by_plan(
    [q, k, v]: [&Tensor; 3],
    spec: &Attention,
    plan: &PlacedPlan,
    units: Units,
) -> Result<Attended> {
    let call = Call::new([q, k, v], spec, plan)?;
    let output = call.like(0)?;
    let (heads, queries) = (call.problem.heads as usize, spec.queries.total());
    let log_sum_exp = room((heads, queries), DType::F32, q.device())?;
    let launch: ffi::AttentionForward = match call.fitting(units)? {
        Units::WarpGroups => ffi::epitome_attention_forward_warp_group_bf16,
        Units::Matrix => ffi::epitome_attention_forward_bf16,
        Units::Plain => {
            let [f32, bf16]: [ffi::AttentionForward; 2] =
                [ffi::epitome_attention_forward_any_f32, ffi::epitome_attention_forward_any_bf16];
            of_type("attention_forward", call.dtype, f32, bf16)?
        }
    };
    let (to, sums) = (address_mut(&output)?, address_mut(&log_sum_exp)?.cast());
    // SAFETY: what the problem points to outlives the launch, and the targets have the shapes that are written.
    check("attention_forward", unsafe { launch(&call.problem, to, sums, call.stream) })?;
    Ok(Attended { output, log_sum_exp })
}

/// [`attention_backward`](crate::attention_backward): the gradients of q, k and v, given that of the output, `[Tq, H, D]`.
///
/// # Errors
/// As [`attention_forward`].
pub fn attention_backward(
    [q, k, v]: [&Tensor; 3],
    spec: &Attention,
    attended: &Attended,
    gradient: &Tensor,
    units: Units,
) -> Result<[Tensor; 3]> {
    match KeySplits::new(q, spec, units)? {
        Some(splits) => splits.gradients([q, k, v], attended, gradient, units),
        None => gradients([q, k, v], spec, attended, gradient, units),
    }
}

/// The same without splits.
pub(super) fn gradients(
    inputs: [&Tensor; 3],
    spec: &Attention,
    attended: &Attended,
    gradient: &Tensor,
    units: Units,
) -> Result<[Tensor; 3]> {
    let op = "attention_backward";
    // Gradients lie as their tensors do, and are dense.
    let [q, k, v] = inputs.map(|input| dense(op, input, &FLOATS));
    let (q, k, v) = (q?, k?, v?);
    let plan = PlacedPlan::new(Plan::new(spec)?, q.device())?;
    let call = Call::new([&q, &k, &v], spec, &plan)?;
    let [output, gradient] = [&attended.output, gradient].map(|tensor| dense(op, tensor, &[call.dtype]));
    let (output, gradient) = (output?, gradient?);
    let fits = gradient.dims() == q.dims() && output.dims() == q.dims();
    if !fits || attended.log_sum_exp.dims() != [q.dim(1)?, q.dim(0)?] {
        bail!("{op}: q {:?}, output {:?}, gradient {:?}", q.dims(), output.dims(), gradient.dims());
    }
    let log_sum_exp = dense(op, &attended.log_sum_exp, &[DType::F32])?;
    let delta = room(log_sum_exp.shape(), DType::F32, q.device())?;
    let incoming = Incoming {
        output: address(&output)?,
        gradient: address(&gradient)?,
        log_sum_exp: address(&log_sum_exp)?.cast(),
        delta: address_mut(&delta)?.cast(),
    };
    match call.fitting(units)? {
        Units::WarpGroups => incoming.fast(
            &call,
            ffi::epitome_attention_backward_queries_warp_group_bf16,
            ffi::epitome_attention_backward_keys_warp_group_bf16,
        ),
        Units::Matrix => incoming.fast(
            &call,
            ffi::epitome_attention_backward_queries_bf16,
            ffi::epitome_attention_backward_keys_bf16,
        ),
        Units::Plain => incoming.plain(&call),
    }
}

/// What the backward starts from: the output, its gradient and log-sum-exp; and room for delta, their inner product.
struct Incoming {
    output: *const c_void,
    gradient: *const c_void,
    log_sum_exp: *const f32,
    delta: *mut f32,
}

impl Incoming {
    fn plain(&self, call: &Call) -> Result<[Tensor; 3]> {
        let op = "attention_backward";
        let gradients = [call.like(0)?, call.like(1)?, call.like(2)?];
        let [dq, dk, dv] = [address_mut(&gradients[0])?, address_mut(&gradients[1])?, address_mut(&gradients[2])?];
        let [f32, bf16]: [ffi::AttentionBackward; 2] =
            [ffi::epitome_attention_backward_any_f32, ffi::epitome_attention_backward_any_bf16];
        let launch = of_type(op, call.dtype, f32, bf16)?;
        let [f32, bf16]: [ffi::AttentionDelta; 2] =
            [ffi::epitome_attention_delta_f32, ffi::epitome_attention_delta_bf16];
        let launch_delta = of_type(op, call.dtype, f32, bf16)?;
        let Self { output, gradient, log_sum_exp, delta } = *self;
        let (rows, heads, size) = (call.problem.plan.queries.into(), call.problem.heads, call.problem.head_size);
        // SAFETY: output, gradient and delta have as many numbers as these say.
        check(op, unsafe { launch_delta(output, gradient, delta, rows, heads, size, call.stream) })?;
        // SAFETY: as in `attention_forward`; the gradients lie as their tensors.
        check(op, unsafe { launch(&call.problem, gradient, log_sum_exp, delta, dq, dk, dv, call.stream) })?;
        Ok(gradients)
    }

    fn fast(
        &self,
        call: &Call,
        queries: ffi::AttentionBackwardQueries,
        keys: ffi::AttentionBackwardKeys,
    ) -> Result<[Tensor; 3]> {
        let gradients = [call.like(0)?, call.like(1)?, call.like(2)?];
        let [dq, dk, dv] = [address_mut(&gradients[0])?, address_mut(&gradients[1])?, address_mut(&gradients[2])?];
        let width = (call.problem.heads * call.problem.head_size) as usize;
        let partial = || room((call.partial_rows, width), DType::F32, gradients[0].device());
        let partials = [partial()?, partial()?];
        let [pk, pv]: [*mut f32; 2] = [address_mut(&partials[0])?.cast(), address_mut(&partials[1])?.cast()];
        let Self { output, gradient, log_sum_exp, delta } = *self;
        let (problem, stream) = (&raw const call.problem, call.stream);
        // SAFETY: as in `plain`; the partial sums have the rows of the plan.
        let codes = unsafe {
            [
                queries(problem, output, gradient, log_sum_exp, delta, dq, stream),
                keys(problem, gradient, log_sum_exp, delta, dk, dv, pk, pv, stream),
                ffi::epitome_attention_reduce_global_bf16(problem, pk, pv, dk, dv, stream),
            ]
        };
        codes.into_iter().try_for_each(|code| check("attention_backward", code))?;
        Ok(gradients)
    }
}

/// A plan whose words lie in the memory of kernels.
#[derive(Debug)]
pub(super) struct PlacedPlan {
    pub(super) plan: Plan,
    words: Tensor,
}

impl PlacedPlan {
    pub(super) fn new(plan: Plan, device: &Device) -> Result<Self> {
        let words = place::words(plan.words(), device)?;
        Ok(Self { plan, words })
    }

    /// The address of [`Plan::arrivals`].
    pub(super) fn arrivals(&self) -> Result<*mut c_int> {
        Ok(address_mut(&self.words)?.cast::<c_int>().wrapping_add(self.plan.arrivals().start))
    }
}

/// A problem whose tensors and plan lie in the memory of kernels.
pub(super) struct Call {
    pub(super) problem: ffi::Problem,
    /// Of `Plan::partial_rows`.
    pub(super) partial_rows: usize,
    pub(super) dtype: DType,
    pub(super) stream: Stream,
    inputs: [Tensor; 3],
}

impl Call {
    pub(super) fn new([q, k, v]: [&Tensor; 3], spec: &Attention, placed: &PlacedPlan) -> Result<Self> {
        let (dtype, device) = (q.dtype(), q.device());
        let (queries, heads, head_size) = q.dims3()?;
        let keys = [spec.keys.total(), heads, head_size];
        if queries != spec.queries.total() || k.dims() != keys || v.dims() != keys {
            bail!("attention: queries {:?}, keys {:?}, values {:?}", q.dims(), k.dims(), v.dims());
        }
        // The maximum of scaled scores is found before they are scaled.
        if spec.scale.is_nan() || spec.scale <= 0.0 {
            bail!("attention: a scale of {}, which is not positive", spec.scale);
        }
        let inputs = [rows("attention", q, &FLOATS)?, rows("attention", k, &[dtype])?, rows("attention", v, &[dtype])?];
        let [q_stride, k_stride, v_stride] = inputs.each_ref().map(|input| input.stride()[0] as i64);
        let problem = ffi::Problem {
            plan: placed.plan.at(address(&placed.words)?.cast()),
            q: row_address(&inputs[0])?,
            k: row_address(&inputs[1])?,
            v: row_address(&inputs[2])?,
            q_stride,
            k_stride,
            v_stride,
            heads: heads as c_int,
            head_size: head_size as c_int,
            visibility: (&spec.visibility).into(),
            scale: spec.scale,
            draws: spec.dropout.into(),
        };
        Ok(Self { problem, partial_rows: placed.plan.partial_rows(), dtype, stream: stream(device)?, inputs })
    }

    fn fitting(&self, units: Units) -> Result<Units> {
        units.that_fit(self.inputs[0].device(), self.dtype, self.problem.head_size as usize)
    }

    /// Room for something of the shape of q, k or v.
    pub(super) fn like(&self, input: usize) -> Result<Tensor> {
        room(self.inputs[input].shape(), self.dtype, self.inputs[input].device())
    }
}

impl From<Option<Dropout>> for ffi::Draws {
    fn from(dropout: Option<Dropout>) -> Self {
        match active(dropout).map(Mask::new) {
            Some(Mask { key, threshold, keep }) => Self { key, threshold, keep },
            None => Self { key: 0, threshold: 0, keep: 1.0 },
        }
    }
}
