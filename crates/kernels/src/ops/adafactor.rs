//! [`adafactor_step`].

use super::elementwise::sum_of_squares;
use super::{cpu_values, cpu_values_mut, require_columns};
use crate::cpu::adafactor::{Factors, Statistics, update_moments};
use crate::cpu::elementwise::scale_and_add;
#[cfg(gpu)]
use crate::cuda;
use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, bail};

/// The settings of one Adafactor step (Shazeer and Stern, 2018, in the form of `transformers.optimization.Adafactor`), with
/// the defaults of none of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adafactor {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// With it the learning rate is multiplied by the root mean square of the parameter, or by this where that is less.
    pub least_scale: Option<f64>,
    /// Decay of the mean of updates; none is kept without one.
    pub beta1: Option<f64>,
    /// Decay of the mean of squared gradients in this step: 0 in the first.
    pub decay: f64,
    /// Added to every squared gradient.
    pub epsilon: f64,
    /// An update whose root mean square is larger is scaled down to it.
    pub clip_threshold: f64,
    /// Decoupled: the parameter first shrinks by `learning_rate * weight_decay` of itself.
    pub weight_decay: f64,
}

/// One step of Adafactor in place. `parameter` is a vector `[C]` or a matrix `[R, C]`. `moments` are the second moments of
/// rows and then of columns, `[R + C]`, or those of a vector, `[C]`: zeros before the first step. `mean`, of the parameter's
/// shape, goes with [`Adafactor::beta1`]. `gradient` is multiplied by `gradient_scale` (clipping) on the way.
///
/// # Errors
/// When the shapes do not fit, a tensor changed in place is not contiguous, or `mean` is missing or not needed.
pub fn adafactor_step(
    parameter: &Tensor,
    moments: &Tensor,
    mean: Option<&Tensor>,
    gradient: &Tensor,
    gradient_scale: f32,
    hyper: &Adafactor,
) -> Result<()> {
    let width = check(parameter, moments, mean, gradient)?;
    if mean.is_some() != hyper.beta1.is_some() {
        bail!("adafactor_step: a mean of updates and beta1 need each other");
    }
    #[cfg(gpu)]
    if cuda::runs_on(parameter.device()) {
        return cuda::adafactor_step(parameter, moments, mean, gradient, gradient_scale, hyper);
    }
    let gradient = gradient.contiguous()?;
    let Adafactor { beta1, decay, epsilon, clip_threshold, weight_decay, .. } = *hyper;
    let learning_rate = hyper.learning_rate * parameter_scale(parameter, hyper.least_scale)?;
    let statistics = Statistics { scale: gradient_scale, decay, epsilon };
    moments.inplace_op2(&gradient, &Moments { width, statistics })?;
    let keep = (1.0 - learning_rate * weight_decay) as f32;
    let update = |target: &Tensor, keep: f32, step: f64| {
        target.inplace_op3(&gradient, moments, &Update { width, scale: gradient_scale, clip_threshold, keep, step })
    };
    match mean.zip(beta1) {
        None => update(parameter, keep, -learning_rate),
        Some((mean, beta1)) => {
            update(mean, beta1 as f32, (1.0 - beta1) * learning_rate)?;
            parameter.inplace_op2(mean, &Subtract { keep })
        }
    }
}

/// The factor that the parameter's size puts on the learning rate.
fn parameter_scale(parameter: &Tensor, least: Option<f64>) -> Result<f64> {
    let Some(least) = least else { return Ok(1.0) };
    let mean = sum_of_squares(&[parameter])? / parameter.elem_count() as f64;
    Ok(mean.sqrt().max(least))
}

/// Checks the shapes; returns C.
fn check(parameter: &Tensor, moments: &Tensor, mean: Option<&Tensor>, gradient: &Tensor) -> Result<usize> {
    let (count, width) = match *parameter.dims() {
        [width] => (width, width),
        [rows, width] => (rows + width, width),
        _ => bail!("adafactor_step: parameter {:?} is neither a vector nor a matrix", parameter.dims()),
    };
    require_columns("adafactor_step", parameter, width)?;
    if moments.dims() != [count] {
        bail!("adafactor_step: moments {:?} must be [{count}] for parameter {:?}", moments.dims(), parameter.dims());
    }
    for (what, tensor) in [("gradient", Some(gradient)), ("mean", mean)] {
        if let Some(tensor) = tensor.filter(|tensor| tensor.dims() != parameter.dims()) {
            bail!("adafactor_step: {what} {:?} does not fit parameter {:?}", tensor.dims(), parameter.dims());
        }
    }
    Ok(width)
}

struct Moments {
    width: usize,
    statistics: Statistics,
}

impl InplaceOp2 for Moments {
    fn name(&self) -> &'static str {
        "adafactor_step"
    }

    fn cpu_fwd(&self, moments: &mut CpuStorage, lm: &Layout, gradient: &CpuStorage, lg: &Layout) -> Result<()> {
        let moments = cpu_values_mut(self.name(), moments, lm)?;
        update_moments(moments, cpu_values(self.name(), gradient, lg)?, self.width, self.statistics);
        Ok(())
    }
}

/// `target = keep target + step update`, the update clipped.
struct Update {
    width: usize,
    scale: f32,
    clip_threshold: f64,
    keep: f32,
    step: f64,
}

impl InplaceOp3 for Update {
    fn name(&self) -> &'static str {
        "adafactor_step"
    }

    fn cpu_fwd(
        &self,
        target: &mut CpuStorage,
        lt: &Layout,
        gradient: &CpuStorage,
        lg: &Layout,
        moments: &CpuStorage,
        lm: &Layout,
    ) -> Result<()> {
        let target = cpu_values_mut(self.name(), target, lt)?;
        let gradient = cpu_values(self.name(), gradient, lg)?;
        let factors = Factors::new(cpu_values(self.name(), moments, lm)?, self.width, self.scale);
        let clip = (factors.root_mean_square(gradient) / self.clip_threshold).max(1.0);
        factors.add(target, gradient, self.keep, (self.step / clip) as f32);
        Ok(())
    }
}

/// `parameter = keep parameter - mean`.
struct Subtract {
    keep: f32,
}

impl InplaceOp2 for Subtract {
    fn name(&self) -> &'static str {
        "adafactor_step"
    }

    fn cpu_fwd(&self, parameter: &mut CpuStorage, lp: &Layout, mean: &CpuStorage, lm: &Layout) -> Result<()> {
        let parameter = cpu_values_mut(self.name(), parameter, lp)?;
        scale_and_add(parameter, self.keep, cpu_values(self.name(), mean, lm)?, -1.0);
        Ok(())
    }
}
