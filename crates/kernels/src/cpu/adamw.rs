//! The two passes of an AdamW step.

use super::math::dispatch;
use rayon::prelude::*;

/// Values of one task.
const CHUNK: usize = 16_384;

/// What the moments of all parameters share; read by the kernels of `cuda/`, too.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Betas {
    /// 1 - beta1.
    pub(crate) rest1: f32,
    pub(crate) beta2: f32,
    /// 1 - beta2.
    pub(crate) rest2: f32,
}

/// `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`, with the gradient scaled first. `moments` holds all m,
/// then all v.
pub(crate) fn update_moments(moments: &mut [f32], gradient: &[f32], scale: f32, betas: Betas) {
    let (first, second) = moments.split_at_mut(gradient.len());
    first
        .par_chunks_mut(CHUNK)
        .zip(second.par_chunks_mut(CHUNK))
        .zip(gradient.par_chunks(CHUNK))
        .for_each(|((m, v), g)| moments_chunk(m, v, g, scale, betas));
}

dispatch! {
    fn moments_chunk(m: &mut [f32], v: &mut [f32], g: &[f32], scale: f32, betas: Betas) = moments_chunk_body
}

#[inline(always)]
fn moments_chunk_body<const FMA: bool>(m: &mut [f32], v: &mut [f32], g: &[f32], scale: f32, betas: Betas) {
    for ((m, v), g) in m.iter_mut().zip(v).zip(g) {
        let g = scale * g;
        *m += betas.rest1 * (g - *m);
        *v = betas.beta2 * *v + betas.rest2 * g * g;
    }
}

/// The constants of one parameter's update; read by the kernels of `cuda/`, too.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Update {
    /// 1 - learning rate * weight decay.
    pub(crate) decay: f32,
    /// learning rate / (1 - beta1^step).
    pub(crate) step_size: f32,
    /// sqrt(1 - beta2^step).
    pub(crate) correction: f32,
    pub(crate) epsilon: f32,
}

/// `p = decay p - step_size m / (sqrt(v) / correction + epsilon)`.
pub(crate) fn update_parameter(parameter: &mut [f32], moments: &[f32], update: Update) {
    let (first, second) = moments.split_at(parameter.len());
    parameter
        .par_chunks_mut(CHUNK)
        .zip(first.par_chunks(CHUNK))
        .zip(second.par_chunks(CHUNK))
        .for_each(|((p, m), v)| parameter_chunk(p, m, v, update));
}

dispatch! {
    fn parameter_chunk(p: &mut [f32], m: &[f32], v: &[f32], update: Update) = parameter_chunk_body
}

#[inline(always)]
fn parameter_chunk_body<const FMA: bool>(p: &mut [f32], m: &[f32], v: &[f32], update: Update) {
    for ((p, m), v) in p.iter_mut().zip(m).zip(v) {
        *p = update.decay * *p - update.step_size * m / (v.sqrt() / update.correction + update.epsilon);
    }
}
