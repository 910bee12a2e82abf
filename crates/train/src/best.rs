//! Which validation was the best so far, and when a run without a better one stops.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::RunOptions;

/// What validations are compared by; names are those of `transformers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metric {
    /// Nats per target token; less is better.
    #[default]
    #[serde(rename = "loss")]
    Loss,
    /// F1 of words.
    #[serde(rename = "rouge1")]
    Rouge1,
    /// F1 of word pairs.
    #[serde(rename = "rouge2")]
    Rouge2,
    /// F1 of the longest common subsequence.
    #[serde(rename = "rougeL")]
    RougeL,
    /// F1 of the longest common subsequences by line.
    #[serde(rename = "rougeLsum")]
    RougeLsum,
}

impl Metric {
    /// Whether `value` is better than `than`.
    fn prefers(self, value: f64, than: f64) -> bool {
        if self == Self::Loss { value < than } else { value > than }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loss => "loss",
            Self::Rouge1 => "rouge1",
            Self::Rouge2 => "rouge2",
            Self::RougeL => "rougeL",
            Self::RougeLsum => "rougeLsum",
        })
    }
}

/// The best validation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// What it is the best by.
    pub metric: Metric,
    /// The metric's value.
    pub value: f64,
    /// Updates made before it.
    pub step: usize,
}

/// What the validations have shown so far; part of a checkpoint, so that a resumed run stops at the same step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BestSoFar {
    pub(crate) best: Option<Best>,
    /// Validations in a row that were not better by more than the threshold.
    patience_counter: usize,
}

impl BestSoFar {
    /// Takes a validation after `step` into account: `metrics` has its loss and, where summaries were written, their scores.
    /// Returns whether it is the best so far.
    ///
    /// As in `transformers`, any improvement makes a new best, but only one by more than `early_stopping_threshold` counts
    /// for patience.
    pub(crate) fn update(&mut self, run: &RunOptions, step: usize, metrics: &BTreeMap<String, f64>) -> bool {
        let metric = run.metric_for_best_model;
        let Some(&value) = metrics.get(&metric.to_string()) else { return false };
        // Values of another metric, which the run was begun with, cannot be compared.
        let before = self.best.filter(|best| best.metric == metric);
        let is_better = before.is_none_or(|best| metric.prefers(value, best.value));
        let is_by_more = before.is_none_or(|best| (value - best.value).abs() > run.early_stopping_threshold);
        self.patience_counter = if is_better && is_by_more { 0 } else { self.patience_counter + 1 };
        if is_better {
            self.best = Some(Best { metric, value, step });
        }
        is_better
    }

    /// Whether patience is at its end.
    pub(crate) fn stops(&self, run: &RunOptions) -> bool {
        run.early_stopping_patience.is_some_and(|patience| self.patience_counter >= patience)
    }
}

impl RunOptions {
    /// Whether every new best gets a checkpoint, whatever `save_steps` says.
    pub(crate) fn saves_best(&self) -> bool {
        self.load_best_model_at_end || self.early_stopping_patience.is_some()
    }

    /// Checks the keys that say what validations are for.
    pub(crate) fn validate_selection(&self) -> Result<(), String> {
        for (name, value) in [
            ("early_stopping_patience", self.early_stopping_patience),
            ("generation_max_new_tokens", self.generation_max_new_tokens),
            ("generation_num_beams", self.generation_num_beams),
            ("max_generated_records", self.max_generated_records),
        ] {
            if value == Some(0) {
                return Err(format!("run.{name} is 0; it must be at least 1, or left out"));
            }
        }
        let threshold = self.early_stopping_threshold;
        if !(0.0..f64::INFINITY).contains(&threshold) {
            return Err(format!("run.early_stopping_threshold is {threshold}; it must be 0 or more"));
        }
        for (name, is_set) in [
            ("early_stopping_patience", self.early_stopping_patience.is_some()),
            ("load_best_model_at_end", self.load_best_model_at_end),
        ] {
            if is_set && self.eval_steps == 0 {
                return Err(format!(
                    "run.{name} compares validations, but run.eval_steps is 0: set it to how often to validate"
                ));
            }
        }
        if self.metric_for_best_model != Metric::Loss && !self.predict_with_generate {
            return Err(format!(
                "run.metric_for_best_model is `{}`, a score of summaries: set run.predict_with_generate = true, or use `loss`",
                self.metric_for_best_model
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(name: &str, value: f64) -> BTreeMap<String, f64> {
        BTreeMap::from([("loss".to_owned(), 1.0), (name.to_owned(), value)])
    }

    /// Which of the validations were the best, and after how many the run stopped.
    fn run(options: &RunOptions, values: &[f64]) -> (Vec<bool>, Option<usize>) {
        let mut so_far = BestSoFar::default();
        let mut bests = Vec::new();
        for (index, &value) in values.iter().enumerate() {
            bests.push(so_far.update(options, index, &metrics(&options.metric_for_best_model.to_string(), value)));
            if so_far.stops(options) {
                return (bests, Some(index + 1));
            }
        }
        (bests, None)
    }

    #[test]
    fn less_loss_and_more_rouge_are_better() {
        let options = RunOptions { early_stopping_patience: Some(2), ..RunOptions::default() };
        assert_eq!(
            run(&options, &[3.0, 2.0, 2.0, 1.0, 1.5, 1.2]),
            (vec![true, true, false, true, false, false], Some(6))
        );
        let options = RunOptions { metric_for_best_model: Metric::RougeLsum, ..options };
        assert_eq!(run(&options, &[0.1, 0.3, 0.2, 0.3]), (vec![true, true, false, false], Some(4)));
        let options = RunOptions { early_stopping_patience: None, ..options };
        assert_eq!(run(&options, &[0.1, 0.0, 0.0, 0.0]).1, None);
    }

    #[test]
    fn small_improvements_are_kept_but_cost_patience() {
        let options =
            RunOptions { early_stopping_patience: Some(2), early_stopping_threshold: 0.25, ..RunOptions::default() };
        assert_eq!(run(&options, &[2.0, 1.9, 1.8]), (vec![true, true, true], Some(3)));
        assert_eq!(run(&options, &[2.0, 1.5, 1.25, 0.5]), (vec![true; 4], None));
    }

    #[test]
    fn another_metric_begins_anew() {
        let mut so_far = BestSoFar::default();
        let by_loss = RunOptions::default();
        assert!(so_far.update(&by_loss, 1, &metrics("rouge1", 0.1)));
        let by_rouge = RunOptions { metric_for_best_model: Metric::Rouge1, ..RunOptions::default() };
        assert!(so_far.update(&by_rouge, 2, &metrics("rouge1", 0.05)));
        assert_eq!(so_far.best, Some(Best { metric: Metric::Rouge1, value: 0.05, step: 2 }));
    }
}
