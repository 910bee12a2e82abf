//! [`adamw_step`].

use super::elementwise::round_all;
use super::{cpu_values, cpu_values_mut};
use crate::cpu::adamw::{Betas, Update, update_moments, update_parameter};
#[cfg(gpu)]
use crate::cuda;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};

/// The settings of AdamW (Loshchilov and Hutter, 2019) that all parameters share, with the defaults of none of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the corrected second moment.
    pub epsilon: f64,
}

/// One parameter in a step of AdamW.
#[derive(Clone, Copy, Debug)]
pub struct AdamWParameter<'a> {
    /// Of any shape.
    pub parameter: &'a Tensor,
    /// `[2, ..]` with the parameter's shape behind: first and second moments, zeros before its step 1.
    pub moments: &'a Tensor,
    /// Of the parameter's shape.
    pub gradient: &'a Tensor,
    /// Of the parameter's shape and another type, on a GPU bf16: becomes what the parameter becomes.
    pub copy: Option<&'a Tensor>,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decoupled: the parameter first shrinks by `learning_rate * weight_decay` of itself.
    pub weight_decay: f64,
    /// Number of the parameter's step, from 1.
    pub step: usize,
}

/// One step of AdamW in place on parameters of one device, as `torch.optim.AdamW` does it; on a GPU in one launch. Gradients
/// are multiplied by `gradient_scale` (clipping) on the way.
///
/// # Errors
/// When the shapes do not fit, a tensor changed in place is not contiguous, or a step is 0; nothing has changed when a shape
/// or a step is wrong.
pub fn adamw_step(parameters: &[AdamWParameter<'_>], gradient_scale: f32, hyper: &AdamW) -> Result<()> {
    parameters.iter().try_for_each(AdamWParameter::check)?;
    #[cfg(gpu)]
    if parameters.first().is_some_and(|one| cuda::runs_on(one.parameter.device())) {
        return cuda::adamw_step(parameters, gradient_scale, hyper);
    }
    let betas = hyper.betas();
    parameters.iter().try_for_each(|one| {
        one.moments.inplace_op2(&one.gradient.contiguous()?, &Moments { scale: gradient_scale, betas })?;
        one.parameter.inplace_op2(one.moments, &Parameter(one.update(hyper)))?;
        one.copy.map_or(Ok(()), |copy| round_all(&[[one.parameter, copy]]))
    })
}

impl AdamW {
    pub(crate) fn betas(&self) -> Betas {
        // Complements in f64: 1 - 0.999 in f32 is already off by 5e-5 of itself.
        Betas { rest1: (1.0 - self.beta1) as f32, beta2: self.beta2 as f32, rest2: (1.0 - self.beta2) as f32 }
    }
}

impl AdamWParameter<'_> {
    fn check(&self) -> Result<()> {
        let Self { parameter, moments, gradient, step, .. } = self;
        if moments.dims().first() != Some(&2) || moments.dims()[1..] != *parameter.dims() {
            bail!("adamw_step: moments {:?} must be [2, ..] of parameter {:?}", moments.dims(), parameter.dims());
        }
        if gradient.dims() != parameter.dims() {
            bail!("adamw_step: gradient {:?} does not fit parameter {:?}", gradient.dims(), parameter.dims());
        }
        if let Some(copy) = self.copy.filter(|copy| copy.dims() != parameter.dims()) {
            bail!("adamw_step: copy {:?} does not fit parameter {:?}", copy.dims(), parameter.dims());
        }
        if *step == 0 {
            bail!("adamw_step: steps are counted from 1");
        }
        Ok(())
    }

    pub(crate) fn update(&self, hyper: &AdamW) -> Update {
        let step = self.step as f64;
        Update {
            decay: (1.0 - self.learning_rate * self.weight_decay) as f32,
            step_size: (self.learning_rate / (1.0 - hyper.beta1.powf(step))) as f32,
            correction: (1.0 - hyper.beta2.powf(step)).sqrt() as f32,
            epsilon: hyper.epsilon as f32,
        }
    }
}

struct Moments {
    scale: f32,
    betas: Betas,
}

impl InplaceOp2 for Moments {
    fn name(&self) -> &'static str {
        "adamw_step"
    }

    fn cpu_fwd(&self, moments: &mut CpuStorage, lm: &Layout, gradient: &CpuStorage, lg: &Layout) -> Result<()> {
        let moments = cpu_values_mut(self.name(), moments, lm)?;
        update_moments(moments, cpu_values(self.name(), gradient, lg)?, self.scale, self.betas);
        Ok(())
    }
}

struct Parameter(Update);

impl InplaceOp2 for Parameter {
    fn name(&self) -> &'static str {
        "adamw_step"
    }

    fn cpu_fwd(&self, parameter: &mut CpuStorage, lp: &Layout, moments: &CpuStorage, lm: &Layout) -> Result<()> {
        let parameter = cpu_values_mut(self.name(), parameter, lp)?;
        update_parameter(parameter, cpu_values(self.name(), moments, lm)?, self.0);
        Ok(())
    }
}
