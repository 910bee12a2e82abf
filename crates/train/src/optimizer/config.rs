//! The `[optim]` table.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::schedule::{Schedule, SchedulerOptions};

/// The optimizer and its schedule; the defaults are those of `transformers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimConfig {
    /// Which rule updates parameters.
    pub optimizer: OptimizerName,
    /// The rate at the end of the warm-up.
    pub learning_rate: f64,
    /// The shape of the rate.
    pub lr_scheduler_type: Schedule,
    /// Updates of linear warm-up; the first has rate 0.
    pub warmup_steps: usize,
    /// Decoupled decay of weight matrices and embeddings; biases and layer norms are not decayed.
    pub weight_decay: f64,
    /// Decay of AdamW's first moment.
    pub adam_beta1: f64,
    /// Decay of AdamW's second moment.
    pub adam_beta2: f64,
    /// Added to the root of AdamW's second moment.
    pub adam_epsilon: f64,
    /// Adafactor multiplies the learning rate of a parameter by its root mean square.
    pub adafactor_scale_parameter: bool,
    /// Adafactor sets the learning rate itself: one over the root of the number of updates, at most 0.01.
    pub adafactor_relative_step: bool,
    /// With a relative step, the rate is at most a millionth of the number of updates.
    pub adafactor_warmup_init: bool,
    /// Adafactor scales an update down to this root mean square.
    pub adafactor_clip_threshold: f64,
    /// Adafactor's second moments decay by `1 - updates^decay_rate`.
    pub adafactor_decay_rate: f64,
    /// Added to Adafactor's squared gradients, and the least root mean square of a parameter that scales its rate.
    pub adafactor_eps: [f64; 2],
    /// Decay of Adafactor's mean of updates; unset, none is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adafactor_beta1: Option<f64>,
    /// Gradients are scaled down to this L2 norm; 0 turns clipping off.
    pub max_grad_norm: f64,
    /// Label smoothing.
    pub label_smoothing_factor: f64,
    /// Decay of an average of the weights, which is validated and becomes the final model; unset, none is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
    /// The average's decay is at most `(1 + updates) / (10 + updates)`, so that it leaves the first weights sooner.
    pub ema_warmup: bool,
    /// Details of the schedule.
    #[serde(skip_serializing_if = "SchedulerOptions::is_default")]
    pub lr_scheduler_kwargs: SchedulerOptions,
    /// Settings of some of the parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupConfig>,
}

/// The rules that update parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// AdamW (Loshchilov and Hutter, 2019), as `torch.optim.AdamW`.
    #[default]
    #[serde(rename = "adamw")]
    AdamW,
    /// Adafactor (Shazeer and Stern, 2018), as `transformers.optimization.Adafactor`: it keeps sums of rows and columns.
    Adafactor,
}

/// Settings of the parameters whose names match a pattern and that of no group before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupConfig {
    /// A name with or without its leading `led.`; `*` stands for any characters, `?` for one.
    pub pattern: String,
    /// Instead of `optim.learning_rate`; it follows the same schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// The same as a multiple of `optim.learning_rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate_scale: Option<f64>,
    /// Instead of `optim.weight_decay`; biases and layer norms are never decayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// The parameters stay as they are: they have no gradient, which counts in no norm, and no moments.
    pub frozen: bool,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            optimizer: OptimizerName::AdamW,
            learning_rate: 5e-5,
            lr_scheduler_type: Schedule::Linear,
            warmup_steps: 0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            adafactor_scale_parameter: false,
            adafactor_relative_step: false,
            adafactor_warmup_init: false,
            adafactor_clip_threshold: 1.0,
            adafactor_decay_rate: -0.8,
            adafactor_eps: [1e-30, 1e-3],
            adafactor_beta1: None,
            max_grad_norm: 1.0,
            label_smoothing_factor: 0.0,
            ema_decay: None,
            ema_warmup: false,
            lr_scheduler_kwargs: SchedulerOptions::default(),
            groups: Vec::new(),
        }
    }
}

const NON_NEGATIVE: Range<f64> = 0.0..f64::INFINITY;
const POSITIVE: Range<f64> = f64::MIN_POSITIVE..f64::INFINITY;
/// What an update divides by, which it does in `f32`.
const F32_POSITIVE: Range<f64> = f32::MIN_POSITIVE as f64..f64::INFINITY;
const FRACTION: Range<f64> = 0.0..1.0;

impl OptimConfig {
    /// Whether Adafactor sets the learning rate.
    pub(crate) fn has_relative_step(&self) -> bool {
        self.optimizer == OptimizerName::Adafactor && self.adafactor_relative_step
    }

    /// Says which key is wrong.
    pub(crate) fn validate(&self) -> Result<(), String> {
        for (key, value, range) in [
            ("learning_rate", self.learning_rate, NON_NEGATIVE),
            ("weight_decay", self.weight_decay, NON_NEGATIVE),
            ("adam_beta1", self.adam_beta1, FRACTION),
            ("adam_beta2", self.adam_beta2, FRACTION),
            (
                "adam_epsilon",
                self.adam_epsilon,
                if self.optimizer == OptimizerName::AdamW { F32_POSITIVE } else { NON_NEGATIVE },
            ),
            ("adafactor_clip_threshold", self.adafactor_clip_threshold, POSITIVE),
            ("adafactor_decay_rate", self.adafactor_decay_rate, -1.0..0.0),
            ("adafactor_eps[0]", self.adafactor_eps[0], F32_POSITIVE.start..1.0),
            ("adafactor_eps[1]", self.adafactor_eps[1], NON_NEGATIVE),
            ("adafactor_beta1", self.adafactor_beta1.unwrap_or(0.0), FRACTION),
            ("max_grad_norm", self.max_grad_norm, NON_NEGATIVE),
            ("label_smoothing_factor", self.label_smoothing_factor, FRACTION),
            ("ema_decay", self.ema_decay.unwrap_or(0.5), f64::MIN_POSITIVE..1.0),
        ] {
            within(key, value, range)?;
        }
        if self.ema_warmup && self.ema_decay.is_none() {
            return Err("optim.ema_warmup needs optim.ema_decay".into());
        }
        self.validate_relative_step()?;
        self.lr_scheduler_kwargs.validate(self.lr_scheduler_type, self.learning_rate)?;
        self.groups.iter().enumerate().try_for_each(|(index, group)| self.validate_group(index, group))
    }

    fn validate_relative_step(&self) -> Result<(), String> {
        if self.adafactor_warmup_init && !self.adafactor_relative_step {
            return Err("optim.adafactor_warmup_init needs optim.adafactor_relative_step".into());
        }
        let default = Self::default();
        let given = [
            ("learning_rate", self.learning_rate != default.learning_rate),
            ("lr_scheduler_type", self.lr_scheduler_type != default.lr_scheduler_type),
            ("lr_scheduler_kwargs", self.lr_scheduler_kwargs != default.lr_scheduler_kwargs),
            ("warmup_steps", self.warmup_steps != default.warmup_steps),
        ];
        match given.iter().find(|(_, given)| *given && self.has_relative_step()) {
            Some((key, _)) => Err(format!(
                "optim.{key}: with optim.adafactor_relative_step Adafactor sets the rate itself: leave it out"
            )),
            None => Ok(()),
        }
    }

    fn validate_group(&self, index: usize, group: &GroupConfig) -> Result<(), String> {
        let GroupConfig { pattern, learning_rate, learning_rate_scale, weight_decay, frozen } = group;
        let complain = |message: &str| Err(format!("optim.groups[{index}] (`{pattern}`) {message}"));
        for (key, value) in [
            ("learning_rate", learning_rate),
            ("learning_rate_scale", learning_rate_scale),
            ("weight_decay", weight_decay),
        ] {
            within(&format!("groups[{index}].{key}"), value.unwrap_or(0.0), NON_NEGATIVE)?;
        }
        let rates = [learning_rate, learning_rate_scale].into_iter().flatten().count();
        match (rates, weight_decay, frozen) {
            (0, None, false) => {
                complain("sets nothing: give learning_rate, learning_rate_scale, weight_decay or frozen")
            }
            (1.., _, true) | (_, Some(_), true) => {
                complain("is frozen: learning_rate and weight_decay have no meaning")
            }
            (2.., ..) => complain("has learning_rate and learning_rate_scale: give one"),
            (1, ..) if self.has_relative_step() => {
                complain("has a learning rate, which optim.adafactor_relative_step sets itself")
            }
            _ if learning_rate.is_some() && self.learning_rate == 0.0 => {
                complain("has a learning rate, but follows the schedule of optim.learning_rate, which is 0")
            }
            _ => Ok(()),
        }
    }
}

/// Whether the value of a key of the table lies in its range.
pub(crate) fn within(key: &str, value: f64, range: Range<f64>) -> Result<(), String> {
    if range.contains(&value) { Ok(()) } else { Err(format!("optim.{key} is {value}, outside {range:?}")) }
}
