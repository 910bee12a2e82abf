//! The learning-rate finder (Smith, 2017, "Cyclical learning rates"): updates whose rate grows exponentially, and what the
//! loss makes of it.

use std::path::Path;

use epitome_distributed::ProcessGroup;
use epitome_kernels::Collective;
use serde::Serialize;

use crate::memory::{self, Processes};
use crate::monitor::draw_learning_rates;
use crate::setup::Setup;
use crate::update::{self, Update};
use crate::workers::Workers;
use crate::{Error, Event, Result, RunConfig};

/// Decay of the running mean of losses.
const SMOOTHING: f64 = 0.9;

/// The sweep ends when the smoothed loss is so many times its least.
const DIVERGED: f64 = 4.0;

/// The rates to try: from the first to the last in equal ratios.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sweep {
    /// The first rate.
    pub start: f64,
    /// The last.
    pub end: f64,
    /// How many.
    pub steps: usize,
}

/// One update of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SweepPoint {
    /// Counted from 1.
    pub step: usize,
    /// Rate of this update.
    pub learning_rate: f64,
    /// Loss before it, per target token.
    pub loss: f64,
    /// Mean of the losses so far, of which later ones weigh more.
    pub smoothed: f64,
}

/// What a sweep suggests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suggestion {
    /// Where the smoothed loss falls fastest over the logarithm of the rate.
    pub steepest: f64,
    /// A tenth of the rate with the least smoothed loss.
    pub tenth_of_minimum: f64,
}

impl Sweep {
    /// Fewer rates than this say nothing.
    pub const LEAST_STEPS: usize = 10;

    fn validate(&self) -> Result<()> {
        let Self { start, end, steps } = *self;
        if start > 0.0 && start < end && end.is_finite() && steps >= Self::LEAST_STEPS {
            return Ok(());
        }
        let least = Self::LEAST_STEPS;
        let message =
            format!("{steps} rates from {start} to {end}: needs 0 < start < end and at least {least} of them");
        Err(Error::config("the learning-rate finder", message))
    }

    fn learning_rate(&self, index: usize) -> f64 {
        self.start * (self.end / self.start).powf(index as f64 / (self.steps - 1) as f64)
    }
}

/// Trains on the data, batches and optimizer of `config` with the rates of `sweep`, writes no model, and returns the updates
/// made: fewer than asked for when the loss grows too far. They are also written to `output/learning_rates.jsonl` and
/// drawn in `output/learning_rates.svg`.
///
/// # Errors
/// When anything in the configuration or the data is wrong, or nothing follows a learning rate.
pub fn find_learning_rate(
    config: &RunConfig,
    sweep: Sweep,
    output: Option<&Path>,
    on_event: &mut dyn FnMut(Event),
) -> Result<Vec<SweepPoint>> {
    sweep.validate()?;
    if config.optim.has_relative_step() {
        let message = "sets the learning rate itself: there is none to find";
        return Err(Error::config("optim.adafactor_relative_step", message));
    }
    let mut config = config.clone();
    config.optim.ema_decay = None;
    let mut setup = Setup::new(&config, None, &ProcessGroup::single())?;
    setup.announce(on_event);
    memory::check(&mut setup, &config, sweep.steps, Processes::ALONE)?;
    on_event(Event::Started {
        parameters: setup.trained_parameters(),
        records: setup.training.len(),
        step: 0,
        total_steps: sweep.steps,
    });
    let points = run(&config, sweep, &mut setup, on_event)?;
    if let Some(output) = output {
        write(output, &points)?;
    }
    Ok(points)
}

fn run(
    config: &RunConfig,
    sweep: Sweep,
    setup: &mut Setup,
    on_event: &mut dyn FnMut(Event),
) -> Result<Vec<SweepPoint>> {
    let workers = Workers::new(config.run.parallel_micro_batches)?;
    let group = ProcessGroup::single();
    let alone = Collective::join(&group, &setup.device)?;
    let mut points = Vec::new();
    let mut mean = RunningMean::default();
    let mut least = f64::INFINITY;
    for index in 0..sweep.steps {
        let started = std::time::Instant::now();
        let update = match update::compute(setup, config, &workers, (&alone, None)) {
            // The loss has left the numbers, which is as far as it can grow.
            Err(Error::NotFinite { .. }) if index > 0 => break,
            update => update?,
        };
        let Update { gradients, norm, loss, source_tokens, target_tokens } = update;
        let (step, learning_rate) = (index + 1, sweep.learning_rate(index));
        let loss = loss.loss / target_tokens as f64;
        let smoothed = mean.add(loss);
        points.push(SweepPoint { step, learning_rate, loss, smoothed });
        least = least.min(smoothed);
        if smoothed > DIVERGED * least {
            break;
        }
        setup.optimizer.step(setup.trainable.parameters(), &gradients, norm, learning_rate)?;
        setup.state.step = step;
        let tokens_per_second = (source_tokens + target_tokens) as f64 / started.elapsed().as_secs_f64();
        on_event(Event::Step { step, loss, tokens_per_second });
    }
    Ok(points)
}

/// A mean in which a value's weight decays; the first ones do not pull it towards zero.
#[derive(Default)]
struct RunningMean {
    sum: f64,
    weight: f64,
}

impl RunningMean {
    fn add(&mut self, value: f64) -> f64 {
        self.sum = SMOOTHING * self.sum + (1.0 - SMOOTHING) * value;
        self.weight = SMOOTHING * self.weight + (1.0 - SMOOTHING);
        self.sum / self.weight
    }
}

fn write(output: &Path, points: &[SweepPoint]) -> Result<()> {
    std::fs::create_dir_all(output).map_err(Error::io(output))?;
    let path = output.join("learning_rates.jsonl");
    let line = |point| serde_json::to_string(point).expect("numbers under string keys") + "\n";
    let text: String = points.iter().map(line).collect();
    epitome_files::replace_content(&path, text).map_err(Error::io(&path))?;
    draw_learning_rates(&output.join("learning_rates.svg"), points)
}

impl Suggestion {
    /// What the points of a sweep suggest; nothing if the loss did not fall. The first tenth of the points does not count,
    /// whose smoothed losses are means of few.
    pub fn of(points: &[SweepPoint]) -> Option<Self> {
        let points = &points[points.len() / 10..];
        let minimum = points.iter().min_by(|one, other| one.smoothed.total_cmp(&other.smoothed))?;
        let slope = |around: &[SweepPoint]| around[2].smoothed - around[0].smoothed;
        // Rates grow in equal ratios, so that differences over equal numbers of points compare as slopes.
        let steepest = points
            .windows(3)
            .take_while(|around| around[1].step <= minimum.step)
            .min_by(|one, other| slope(one).total_cmp(&slope(other)))
            .filter(|around| slope(around) < 0.0)?;
        Some(Self { steepest: steepest[1].learning_rate, tenth_of_minimum: minimum.learning_rate / 10.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWEEP: Sweep = Sweep { start: 1e-6, end: 1.0, steps: 61 };

    /// Points whose smoothed losses are a function of the logarithm of the rate.
    fn points(loss: impl Fn(f64) -> f64) -> Vec<SweepPoint> {
        let point = |index| {
            let learning_rate = SWEEP.learning_rate(index);
            let smoothed = loss(learning_rate.log10());
            SweepPoint { step: index + 1, learning_rate, loss: smoothed, smoothed }
        };
        (0..SWEEP.steps).map(point).collect()
    }

    #[test]
    fn rates_grow_in_equal_ratios() {
        assert_eq!(SWEEP.learning_rate(0), 1e-6);
        assert!((SWEEP.learning_rate(10) - 1e-5).abs() < 1e-18);
        assert!((SWEEP.learning_rate(60) - 1.0).abs() < 1e-12);
        assert!(Sweep { start: 0.0, ..SWEEP }.validate().is_err());
        assert!(Sweep { steps: 9, ..SWEEP }.validate().is_err());
    }

    #[test]
    fn the_suggestion_is_where_the_loss_falls_fastest() {
        // Falls from 6 to 4 around 1e-3, is least at 1e-2, then grows.
        let valley = |log: f64| 5.0 - ((log + 3.0) * 3.0).tanh() + 0.5 * (log + 2.0).max(0.0).powi(2);
        let Suggestion { steepest, tenth_of_minimum } = Suggestion::of(&points(valley)).unwrap();
        assert!((steepest.log10() + 3.0).abs() < 0.11, "{steepest}");
        assert!((tenth_of_minimum.log10() + 3.0).abs() < 0.21, "{tenth_of_minimum}");
        assert_eq!(Suggestion::of(&points(|log| 9.0 + log)), None, "a loss that only grows suggests nothing");
        assert_eq!(Suggestion::of(&[]), None);
    }

    #[test]
    fn the_running_mean_starts_at_the_first_value() {
        let mut mean = RunningMean::default();
        assert!((mean.add(4.0) - 4.0).abs() < 1e-12);
        assert!((mean.add(2.0) - (0.9 * 4.0 + 2.0) / 1.9).abs() < 1e-12);
    }
}
