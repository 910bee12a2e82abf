//! Updates of named parameters.

mod adafactor;
mod adamw;
mod config;
mod groups;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;

use candle_core::{DType, Tensor};
use epitome_model::Parameters;

pub(crate) use adafactor::RelativeStep;
pub(crate) use config::within;
pub use config::{GroupConfig, OptimConfig, OptimizerName};
use groups::Settings;

use crate::tensors::{load_tensors, save_tensors};
use crate::{Error, Gradients, Result};

/// A tensor that a rule keeps of a parameter, zeros at first: what follows the parameter's name in a checkpoint, and its
/// shape.
type Slot = (&'static str, Vec<usize>);

/// What changes parameters, given their gradients.
trait Rule: Debug + Send + Sync {
    /// What is kept of a parameter of the shape `dims`.
    fn slots(&self, dims: &[usize]) -> Vec<Slot>;

    /// One update in place of parameters, their copies and what is kept of them; gradients are multiplied by `gradient_scale` on the way.
    fn update(&self, updates: &[Update<'_>], gradient_scale: f32) -> Result<()>;
}

/// One update of one parameter.
#[derive(Clone, Copy)]
struct Update<'a> {
    parameter: &'a Tensor,
    /// What is kept of it, in the order of the slots.
    state: &'a [Tensor],
    gradient: &'a Tensor,
    /// The parameter as products read it, where that is another tensor.
    copy: Option<&'a Tensor>,
    learning_rate: f64,
    weight_decay: f64,
    /// Updates of the parameter, this one included.
    count: usize,
}

/// A rule with what it keeps, by parameter name. A parameter without a gradient is not touched: neither decayed nor counted.
#[derive(Debug)]
pub struct Optimizer {
    rule: Box<dyn Rule>,
    max_grad_norm: f64,
    /// Of the parameters that are trained.
    settings: BTreeMap<String, Settings>,
    state: BTreeMap<String, Vec<Tensor>>,
    updates: BTreeMap<String, usize>,
}

impl Optimizer {
    /// An optimizer that has made no update yet.
    ///
    /// # Errors
    /// When the pattern of a group matches no parameter, or all are frozen.
    pub fn new(config: &OptimConfig, parameters: &Parameters) -> Result<Self> {
        let names: Vec<&str> = parameters.iter().map(|(name, _)| name).collect();
        Ok(Self {
            rule: rule(config),
            max_grad_norm: config.max_grad_norm,
            settings: groups::resolve(config, &names)?,
            state: BTreeMap::new(),
            updates: BTreeMap::new(),
        })
    }

    /// Whether a parameter is trained: its group does not freeze it.
    pub fn is_trained(&self, name: &str) -> bool {
        self.settings.contains_key(name)
    }

    /// Updates made per parameter.
    pub(crate) fn updates(&self) -> &BTreeMap<String, usize> {
        &self.updates
    }

    /// Room for what the first update will make of these parameters, with nothing in it yet.
    ///
    /// # Errors
    /// When there is no room.
    pub(crate) fn room(&self, parameters: &Parameters) -> Result<Vec<Tensor>> {
        let missing = |(name, _): &(&str, &Tensor)| self.is_trained(name) && !self.state.contains_key(*name);
        let slots = |(_, parameter): (&str, &Tensor)| {
            let device = parameter.device().clone();
            let zeros = move |(_, shape): Slot| Ok(Tensor::zeros(shape, DType::F32, &device)?);
            self.rule.slots(parameter.dims()).into_iter().map(zeros)
        };
        parameters.iter().filter(missing).flat_map(slots).collect()
    }

    /// One update of every trained parameter that has a gradient; the gradients are multiplied by the clipping coefficient
    /// on the way, which follows from their L2 `norm`. Biases and layer norms are not decayed.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients,
        norm: f64,
        learning_rate: f64,
    ) -> Result<()> {
        let Self { rule, max_grad_norm, settings, state, updates } = self;
        let given = |(name, parameter)| Some((name, parameter, *settings.get(name)?, gradients.get(name)?));
        let given: Vec<_> = parameters.iter().filter_map(given).collect();
        for &(name, parameter, ..) in &given {
            *updates.entry(name.to_owned()).or_insert(0) += 1;
            if !state.contains_key(name) {
                let zeros = |(_, shape): Slot| Tensor::zeros(shape, DType::F32, parameter.device());
                let slots = rule.slots(parameter.dims()).into_iter().map(zeros);
                state.insert(name.to_owned(), slots.collect::<candle_core::Result<_>>()?);
            }
        }
        let copies = parameters.copies()?;
        let update = |(name, parameter, settings, gradient): (&str, _, Settings, _)| Update {
            parameter,
            state: &state[name],
            gradient,
            copy: copies.get(name),
            learning_rate: learning_rate * settings.learning_rate_scale,
            weight_decay: settings.weight_decay,
            count: updates[name],
        };
        let all: Vec<Update<'_>> = given.into_iter().map(update).collect();
        rule.update(&all, clip_coefficient(norm, *max_grad_norm) as f32)
    }

    /// Writes what the rule keeps.
    pub(crate) fn save(&self, path: &Path, parameters: &Parameters) -> Result<()> {
        let slots = parameters.iter().filter_map(|(name, parameter)| {
            let names = self.rule.slots(parameter.dims()).into_iter().map(move |(suffix, _)| format!("{name}{suffix}"));
            Some(names.zip(self.state.get(name)?.iter().cloned()))
        });
        save_tensors(path, &slots.flatten().collect())
    }

    /// Continues from what [`Optimizer::save`] wrote and the updates that were made.
    pub(crate) fn restore(
        &mut self,
        path: &Path,
        updates: BTreeMap<String, usize>,
        parameters: &Parameters,
    ) -> Result<()> {
        let mut saved = load_tensors(path)?;
        let complain = |message: String| Error::Checkpoint { path: path.to_owned(), message };
        for (name, parameter) in parameters.iter().filter(|(name, _)| updates.contains_key(*name)) {
            let slot = |(suffix, shape): Slot| {
                let name = format!("{name}{suffix}");
                let tensor = saved.remove(&name).ok_or_else(|| complain(format!("`{name}` is missing")))?;
                if tensor.dims() != shape {
                    return Err(complain(format!("`{name}` has shape {:?} instead of {shape:?}", tensor.dims())));
                }
                Ok(tensor.to_device(parameter.device())?)
            };
            let state = self.rule.slots(parameter.dims()).into_iter().map(slot).collect::<Result<_>>()?;
            self.state.insert(name.to_owned(), state);
        }
        if let Some(name) = saved.keys().next() {
            return Err(complain(format!("`{name}` belongs to no parameter that was updated")));
        }
        self.updates = updates;
        Ok(())
    }
}

fn rule(config: &OptimConfig) -> Box<dyn Rule> {
    match config.optimizer {
        OptimizerName::AdamW => Box::new(adamw::AdamW::new(config)),
        OptimizerName::Adafactor => Box::new(adafactor::Adafactor::new(config)),
    }
}

/// Which of the parameters `names` are trained.
///
/// # Errors
/// As [`Optimizer::new`].
pub(crate) fn trained(config: &OptimConfig, names: &[&str]) -> Result<BTreeSet<String>> {
    Ok(groups::resolve(config, names)?.into_keys().collect())
}

/// Bytes that are kept of a trained parameter of the shape `dims`.
pub(crate) fn state_bytes(config: &OptimConfig, dims: &[usize]) -> usize {
    let numbers = rule(config).slots(dims).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>();
    numbers * DType::F32.size_in_bytes()
}

/// PyTorch's `clip_grad_norm_`: `min(1, max_norm / (norm + 1e-6))`; 0 turns clipping off.
fn clip_coefficient(norm: f64, max_norm: f64) -> f64 {
    if max_norm == 0.0 { 1.0 } else { (max_norm / (norm + 1e-6)).min(1.0) }
}

#[cfg(test)]
mod tests {
    use epitome_model::{Config, ParameterKind, parameter_shapes};

    use super::*;

    #[test]
    fn clipping_scales_down_only() {
        assert_eq!(clip_coefficient(0.5, 1.0), 1.0);
        assert!((clip_coefficient(4.0, 1.0) - 0.25).abs() < 1e-6);
        assert_eq!(clip_coefficient(4.0, 0.0), 1.0);
    }

    /// Bytes that an optimizer keeps of LED-base.
    fn bytes_for_led_base(config: &OptimConfig) -> usize {
        let led_base = Config {
            d_model: 768,
            encoder_layers: 6,
            decoder_layers: 6,
            encoder_ffn_dim: 3072,
            decoder_ffn_dim: 3072,
            ..Config::default()
        };
        let trained =
            parameter_shapes(&led_base).into_iter().filter(|parameter| parameter.kind != ParameterKind::Buffer);
        trained.map(|parameter| state_bytes(config, &parameter.shape)).sum()
    }

    #[test]
    fn adafactor_keeps_little() {
        let adafactor = OptimConfig { optimizer: OptimizerName::Adafactor, ..OptimConfig::default() };
        let adamw = bytes_for_led_base(&OptimConfig::default());
        let with_mean = bytes_for_led_base(&OptimConfig { adafactor_beta1: Some(0.9), ..adafactor.clone() });
        let adafactor = bytes_for_led_base(&adafactor);
        assert_eq!(adamw, 2 * (with_mean - adafactor));
        assert_eq!((adamw, adafactor), (1_294_755_840, 1_858_916));
    }
}
