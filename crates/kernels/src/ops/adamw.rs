//! [`adamw_step`].

use super::{cpu_values, cpu_values_mut};
use crate::cpu::adamw::{Update, update_moments, update_parameter};
#[cfg(gpu)]
use crate::cuda;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};

/// The settings of one AdamW step (Loshchilov and Hutter, 2019), with the defaults of none of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the corrected second moment.
    pub epsilon: f64,
    /// Decoupled: the parameter first shrinks by `learning_rate * weight_decay` of itself.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub step: usize,
}

/// One step of AdamW in place, as `torch.optim.AdamW` does it. `moments` is `[2, ..]` with the parameter's shape behind:
/// first and second moments, zeros before step 1. `gradient` is multiplied by `gradient_scale` (clipping) on the way.
///
/// # Errors
/// When the shapes do not fit, a tensor changed in place is not contiguous, or `hyper.step` is 0.
pub fn adamw_step(
    parameter: &Tensor,
    moments: &Tensor,
    gradient: &Tensor,
    gradient_scale: f32,
    hyper: &AdamW,
) -> Result<()> {
    if moments.dims().first() != Some(&2) || moments.dims()[1..] != *parameter.dims() {
        bail!("adamw_step: moments {:?} must be [2, ..] of parameter {:?}", moments.dims(), parameter.dims());
    }
    if gradient.dims() != parameter.dims() {
        bail!("adamw_step: gradient {:?} does not fit parameter {:?}", gradient.dims(), parameter.dims());
    }
    if hyper.step == 0 {
        bail!("adamw_step: steps are counted from 1");
    }
    #[cfg(gpu)]
    if cuda::runs_on(parameter.device()) {
        return gpu_step(parameter, moments, gradient, gradient_scale, hyper);
    }
    moments.inplace_op2(&gradient.contiguous()?, &Moments { scale: gradient_scale, hyper })?;
    parameter.inplace_op2(moments, &Parameter(hyper))
}

#[cfg(gpu)]
fn gpu_step(parameter: &Tensor, moments: &Tensor, gradient: &Tensor, gradient_scale: f32, hyper: &AdamW) -> Result<()> {
    let moment = |index: usize| moments.detach().narrow(0, index, 1)?.squeeze(0);
    let trained = cuda::Trained {
        parameter: &parameter.detach(),
        mean: &moment(0)?,
        square: &moment(1)?,
        gradient: &gradient.detach(),
        copy: None,
        learning_rate: hyper.learning_rate,
        weight_decay: hyper.weight_decay,
    };
    cuda::clipped_adamw_step(&[trained], gradient_scale, 0.0, hyper)?;
    Ok(())
}

struct Moments<'a> {
    scale: f32,
    hyper: &'a AdamW,
}

impl InplaceOp2 for Moments<'_> {
    fn name(&self) -> &'static str {
        "adamw_step"
    }

    fn cpu_fwd(&self, moments: &mut CpuStorage, lm: &Layout, gradient: &CpuStorage, lg: &Layout) -> Result<()> {
        let moments = cpu_values_mut(self.name(), moments, lm)?;
        let gradient = cpu_values(self.name(), gradient, lg)?;
        update_moments(moments, gradient, self.scale, (self.hyper.beta1, self.hyper.beta2));
        Ok(())
    }
}

struct Parameter<'a>(&'a AdamW);

impl InplaceOp2 for Parameter<'_> {
    fn name(&self) -> &'static str {
        "adamw_step"
    }

    fn cpu_fwd(&self, parameter: &mut CpuStorage, lp: &Layout, moments: &CpuStorage, lm: &Layout) -> Result<()> {
        let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step } = *self.0;
        let update = Update {
            decay: (1.0 - learning_rate * weight_decay) as f32,
            step_size: (learning_rate / (1.0 - beta1.powf(step as f64))) as f32,
            correction: (1.0 - beta2.powf(step as f64)).sqrt() as f32,
            epsilon: epsilon as f32,
        };
        let parameter = cpu_values_mut(self.name(), parameter, lp)?;
        update_parameter(parameter, cpu_values(self.name(), moments, lm)?, update);
        Ok(())
    }
}
