//! Attention by the kernels of `cuda/attention/`.

use super::element::{Element, of_type};
use super::plan::Plan;
use super::{check, ffi};
use crate::random::{Mask, active};
use crate::{Attention, Dropout};
use candle_core::{Result, bail};
use std::ffi::{c_int, c_void};
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
    let plan = Plan::new(inputs.spec)?;
    let problem = inputs.problem(&plan)?;
    let mut output = vec![T::default(); inputs.q.len()];
    let mut log_sum_exp = vec![f32::INFINITY; inputs.heads * inputs.spec.queries.total()];
    let launch: ffi::AttentionForward = if inputs.is_fast(exact) {
        ffi::epitome_attention_forward_bf16
    } else {
        of_type::<T, ffi::AttentionForward>(
            ffi::epitome_attention_forward_any_f32,
            ffi::epitome_attention_forward_any_bf16,
        )
    };
    // SAFETY: `problem` and the plan it points to outlive the call, and the targets have the shapes it writes.
    let code = unsafe { launch(&problem, pointer(&mut output), log_sum_exp.as_mut_ptr(), null_mut()) };
    check("attention_forward", code)?;
    Ok(Attended { output, log_sum_exp })
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
    let plan = Plan::new(inputs.spec)?;
    let problem = inputs.problem(&plan)?;
    let Attended { output, log_sum_exp } = attended;
    if gradient.len() != inputs.q.len() || output.len() != inputs.q.len() {
        bail!("attention_backward: {} outputs, {} gradients", output.len(), gradient.len());
    }
    let mut delta = vec![0.0; log_sum_exp.len()];
    let rows = inputs.spec.queries.total() as i64;
    let (heads, size) = (inputs.heads as c_int, inputs.head_size as c_int);
    let (incoming, log_sum_exp) = (gradient.as_ptr().cast(), log_sum_exp.as_ptr());
    let launch = of_type::<T, ffi::AttentionDelta>(ffi::epitome_attention_delta_f32, ffi::epitome_attention_delta_bf16);
    // SAFETY: all three have as many numbers as `rows`, `heads` and `size` say.
    let code = unsafe { launch(output.as_ptr().cast(), incoming, delta.as_mut_ptr(), rows, heads, size, null_mut()) };
    check("attention_backward", code)?;
    let mut gradients = [inputs.q, inputs.k, inputs.v].map(|values| vec![T::default(); values.len()]);
    let [dq, dk, dv] = gradients.each_mut().map(|values| pointer(values));
    let delta = delta.as_ptr();
    if !inputs.is_fast(exact) {
        let launch = of_type::<T, ffi::AttentionBackward>(
            ffi::epitome_attention_backward_any_f32,
            ffi::epitome_attention_backward_any_bf16,
        );
        // SAFETY: as in `attention_forward`; the gradients lie as their tensors.
        check("attention_backward", unsafe { launch(&problem, incoming, log_sum_exp, delta, dq, dk, dv, null_mut()) })?;
        return Ok(gradients);
    }
    let mut partial = [(); 2].map(|()| vec![0f32; plan.partial_rows() * inputs.heads * inputs.head_size]);
    let [partial_k, partial_v] = partial.each_mut().map(|values| values.as_mut_ptr());
    // SAFETY: as above; the partial sums have the rows of the plan.
    let codes = unsafe {
        [
            ffi::epitome_attention_backward_queries_bf16(&problem, incoming, log_sum_exp, delta, dq, null_mut()),
            ffi::epitome_attention_backward_keys_bf16(
                &problem,
                incoming,
                log_sum_exp,
                delta,
                dk,
                dv,
                partial_k,
                partial_v,
                null_mut(),
            ),
            ffi::epitome_attention_reduce_global_bf16(&problem, partial_k, partial_v, dk, dv, null_mut()),
        ]
    };
    codes.into_iter().try_for_each(|code| check("attention_backward", code))?;
    Ok(gradients)
}

fn pointer<T>(values: &mut [T]) -> *mut c_void {
    values.as_mut_ptr().cast()
}

impl<T: Element> Inputs<'_, T> {
    fn is_fast(&self, exact: bool) -> bool {
        !exact && T::IS_BF16 && FAST_SIZES.contains(&self.head_size)
    }

    fn problem(&self, plan: &Plan) -> Result<ffi::Problem> {
        let Self { spec, q, k, v, heads, head_size } = *self;
        let width = heads * head_size;
        if (q.len(), k.len(), v.len())
            != (spec.queries.total() * width, spec.keys.total() * width, spec.keys.total() * width)
        {
            bail!("attention: {} queries, {} keys, {} values of width {width}", q.len(), k.len(), v.len());
        }
        // The maximum of scaled scores is found before they are scaled.
        if spec.scale.is_nan() || spec.scale <= 0.0 {
            bail!("attention: a scale of {}, which is not positive", spec.scale);
        }
        Ok(ffi::Problem {
            plan: plan.at(plan.words().as_ptr()),
            q: q.as_ptr().cast(),
            k: k.as_ptr().cast(),
            v: v.as_ptr().cast(),
            q_stride: width as i64,
            k_stride: width as i64,
            v_stride: width as i64,
            heads: heads as c_int,
            head_size: head_size as c_int,
            visibility: (&spec.visibility).into(),
            scale: spec.scale,
            draws: spec.dropout.into(),
        })
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
