//! Attention by the kernels of `cuda/attention/`.

use super::buffer::Buffer;
use super::element::{Element, of_type};
use super::plan::Plan;
use super::{check, ffi};
use crate::random::{Mask, active};
use crate::{Attention, Dropout};
use candle_core::{Result, bail};
use std::ffi::c_int;
use std::ptr::null_mut;

/// Tensors of one call, dense: q `[Tq, H, D]`, k and v `[Tk, H, D]`.
pub struct Inputs<'a, T> {
    /// What is computed.
    pub spec: &'a Attention,
    /// Queries.
    pub q: &'a [T],
    /// Keys.
    pub k: &'a [T],
    /// Values.
    pub v: &'a [T],
    /// H.
    pub heads: usize,
    /// D.
    pub head_size: usize,
}

/// Output `[Tq, H, D]` and log-sum-exp `[H, Tq]`.
pub struct Attended<T> {
    /// The output.
    pub output: Vec<T>,
    /// Its log-sum-exp, plus infinity for a query that sees no key.
    pub log_sum_exp: Vec<f32>,
}

/// The head sizes that the kernels on matrix units have.
const FAST_SIZES: [usize; 2] = [64, 128];

/// `attention_forward`, on the matrix units for bf16 and a head size of 64 or 128. Where `exact`, without them.
///
/// # Errors
/// When shapes do not fit, or a launch fails.
pub fn attention_forward<T: Element>(inputs: &Inputs<'_, T>, exact: bool) -> Result<Attended<T>> {
    let call = Call::new(inputs, Plan::new(inputs.spec)?)?;
    let output = Buffer::<T>::room(inputs.q.len())?;
    let log_sum_exp = Buffer::<f32>::room(inputs.heads * inputs.spec.queries.total())?;
    let launch: ffi::AttentionForward = if inputs.is_fast(exact) {
        ffi::epitome_attention_forward_bf16
    } else {
        of_type::<T, ffi::AttentionForward>(
            ffi::epitome_attention_forward_any_f32,
            ffi::epitome_attention_forward_any_bf16,
        )
    };
    // SAFETY: what the problem points to outlives the call, and the targets have the shapes that are written.
    let code = unsafe { launch(&call.problem, output.any(), log_sum_exp.pointer(), null_mut()) };
    check("attention_forward", code)?;
    Ok(Attended { output: output.to_vec()?, log_sum_exp: log_sum_exp.to_vec()? })
}

/// The gradients of q, k and v, given that of the output, `[Tq, H, D]`.
///
/// # Errors
/// As [`attention_forward`].
pub fn attention_backward<T: Element>(
    inputs: &Inputs<'_, T>,
    attended: &Attended<T>,
    gradient: &[T],
    exact: bool,
) -> Result<[Vec<T>; 3]> {
    let Attended { output, log_sum_exp } = attended;
    if gradient.len() != inputs.q.len() || output.len() != inputs.q.len() {
        bail!("attention_backward: {} outputs, {} gradients", output.len(), gradient.len());
    }
    let call = Call::new(inputs, Plan::new(inputs.spec)?)?;
    let (output, gradient) = (Buffer::of(output)?, Buffer::of(gradient)?);
    let (delta, log_sum_exp) = (Buffer::<f32>::room(log_sum_exp.len())?, Buffer::of(log_sum_exp)?);
    let launch = of_type::<T, ffi::AttentionDelta>(ffi::epitome_attention_delta_f32, ffi::epitome_attention_delta_bf16);
    let rows = inputs.spec.queries.total() as i64;
    let (heads, size) = (inputs.heads as c_int, inputs.head_size as c_int);
    // SAFETY: all three have as many numbers as `rows`, `heads` and `size` say.
    let code = unsafe { launch(output.any(), gradient.any(), delta.pointer(), rows, heads, size, null_mut()) };
    check("attention_backward", code)?;
    let incoming = Incoming { gradient, log_sum_exp, delta };
    if inputs.is_fast(exact) { incoming.fast(&call) } else { incoming.exact(&call) }
}

/// What the backward starts from: the gradient of the output, log-sum-exp and delta.
struct Incoming<T> {
    gradient: Buffer<T>,
    log_sum_exp: Buffer<f32>,
    delta: Buffer<f32>,
}

impl<T: Element> Incoming<T> {
    fn exact(&self, call: &Call<T>) -> Result<[Vec<T>; 3]> {
        let [dq, dk, dv] = call.gradients()?;
        let launch = of_type::<T, ffi::AttentionBackward>(
            ffi::epitome_attention_backward_any_f32,
            ffi::epitome_attention_backward_any_bf16,
        );
        // SAFETY: as in `attention_forward`; the gradients lie as their tensors.
        check("attention_backward", unsafe {
            launch(
                &call.problem,
                self.gradient.any(),
                self.log_sum_exp.pointer(),
                self.delta.pointer(),
                dq.any(),
                dk.any(),
                dv.any(),
                null_mut(),
            )
        })?;
        Ok([dq.to_vec()?, dk.to_vec()?, dv.to_vec()?])
    }

    fn fast(&self, call: &Call<T>) -> Result<[Vec<T>; 3]> {
        let [dq, dk, dv] = call.gradients()?;
        let width = (call.problem.heads * call.problem.head_size) as usize;
        let [partial_k, partial_v] = [(); 2].map(|()| Buffer::<f32>::room(call.plan.partial_rows() * width));
        let (partial_k, partial_v) = (partial_k?, partial_v?);
        let (gradient, log_sum_exp, delta) = (self.gradient.any(), self.log_sum_exp.pointer(), self.delta.pointer());
        // SAFETY: as in `exact`; the partial sums have the rows of the plan.
        let codes = unsafe {
            [
                ffi::epitome_attention_backward_queries_bf16(
                    &call.problem,
                    gradient,
                    log_sum_exp,
                    delta,
                    dq.any(),
                    null_mut(),
                ),
                ffi::epitome_attention_backward_keys_bf16(
                    &call.problem,
                    gradient,
                    log_sum_exp,
                    delta,
                    dk.any(),
                    dv.any(),
                    partial_k.pointer(),
                    partial_v.pointer(),
                    null_mut(),
                ),
                ffi::epitome_attention_reduce_global_bf16(
                    &call.problem,
                    partial_k.pointer(),
                    partial_v.pointer(),
                    dk.any(),
                    dv.any(),
                    null_mut(),
                ),
            ]
        };
        codes.into_iter().try_for_each(|code| check("attention_backward", code))?;
        Ok([dq.to_vec()?, dk.to_vec()?, dv.to_vec()?])
    }
}

impl<T: Element> Inputs<'_, T> {
    fn is_fast(&self, exact: bool) -> bool {
        !exact && T::IS_BF16 && FAST_SIZES.contains(&self.head_size)
    }
}

/// A problem whose tensors and plan lie in the memory of kernels.
pub(super) struct Call<T> {
    pub(super) problem: ffi::Problem,
    pub(super) plan: Plan,
    _words: Buffer<c_int>,
    _tensors: [Buffer<T>; 3],
    lengths: [usize; 3],
}

impl<T: Element> Call<T> {
    pub(super) fn new(inputs: &Inputs<'_, T>, plan: Plan) -> Result<Self> {
        let Inputs { spec, q, k, v, heads, head_size } = *inputs;
        let width = heads * head_size;
        let rows = [spec.queries.total(), spec.keys.total(), spec.keys.total()];
        let lengths = [q.len(), k.len(), v.len()];
        if lengths != rows.map(|rows| rows * width) {
            bail!("attention: queries, keys, values of {lengths:?} numbers; {rows:?} rows of {width}");
        }
        // The maximum of scaled scores is found before they are scaled.
        if spec.scale.is_nan() || spec.scale <= 0.0 {
            bail!("attention: a scale of {}, which is not positive", spec.scale);
        }
        let words = Buffer::of(plan.words())?;
        let tensors = [Buffer::of(q)?, Buffer::of(k)?, Buffer::of(v)?];
        let problem = ffi::Problem {
            plan: plan.at(words.pointer()),
            q: tensors[0].any(),
            k: tensors[1].any(),
            v: tensors[2].any(),
            q_stride: width as i64,
            k_stride: width as i64,
            v_stride: width as i64,
            heads: heads as c_int,
            head_size: head_size as c_int,
            visibility: (&spec.visibility).into(),
            scale: spec.scale,
            draws: spec.dropout.into(),
        };
        Ok(Self { problem, plan, _words: words, _tensors: tensors, lengths })
    }

    /// Room for the gradients of q, k and v.
    fn gradients(&self) -> Result<[Buffer<T>; 3]> {
        let [q, k, v] = self.lengths;
        Ok([Buffer::room(q)?, Buffer::room(k)?, Buffer::room(v)?])
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
