//! Systems compared on the same records: differences with intervals, significance tests, tables for a paper.
//!
//! [`compare`] takes the scores of several systems, one a record, and gives [`Comparisons`], which hold every pair of
//! systems and render themselves as tables.
//!
//! # Modules
//!
//! `bootstrap`, `randomization` and `holm`: the statistics; `result`: what they found; `table`: what a table shows, which
//! `markdown`, `latex` and `html` lay out.

mod bootstrap;
mod error;
mod holm;
mod html;
mod latex;
mod markdown;
mod randomization;
mod result;
mod table;

use rayon::prelude::*;
use serde::Serialize;

use crate::Options;
use bootstrap::Resampled;
use randomization::SignedSums;

pub use error::ComparisonError;
pub use result::{Comparison, Comparisons, SystemScores};

/// How many random assignments of signs [`compare`] is usually given.
pub const RANDOMIZATIONS: usize = 10_000;

/// Scores of one record that differ by no more are a tie.
const TIE: f64 = 1e-12;

/// What a row of a comparison stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What is asked about.
    System,
    /// What systems should beat.
    Baseline,
    /// What saw the references, as an oracle does: compared like the others but never the best of a table.
    UpperBound,
}

/// Pairs whose p-values are corrected together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Systems,
    SystemsWithBaselines,
    Others,
}

impl Family {
    const ALL: [Self; 3] = [Self::Systems, Self::SystemsWithBaselines, Self::Others];

    fn of(pair: [Role; 2]) -> Self {
        match pair {
            [Role::System, Role::System] => Self::Systems,
            [Role::System, Role::Baseline] | [Role::Baseline, Role::System] => Self::SystemsWithBaselines,
            _ => Self::Others,
        }
    }
}

/// The scores of one system on the records that are compared. Higher is better.
#[derive(Clone, Debug, PartialEq)]
pub struct System<'a> {
    /// What tables call it.
    pub name: &'a str,
    /// What it stands for.
    pub role: Role,
    /// For each metric the scores (for ROUGE the F1) of all records, in the order in which all systems have them.
    pub scores: Vec<&'a [f64]>,
}

/// Compares every pair of systems by every metric.
///
/// `metrics` names the metrics in the order of [`System::scores`]. Of `options`, `bootstrap` and `seed` are used; the
/// others say how the scores were made and go into captions. `randomizations` is usually [`RANDOMIZATIONS`]; the smallest
/// p-value is 1 / (`randomizations` + 1).
///
/// - Intervals: percentiles of paired bootstrap resamples of the records (Koehn, "Statistical significance tests for
///   machine translation evaluation", EMNLP 2004). All systems and metrics share the draws, so the interval of a system is
///   that of [`rouge::bootstrap`].
/// - [`Comparison::p_bootstrap`]: from the same resamples.
/// - [`Comparison::p_randomization`]: approximate randomization (Noreen, "Computer-intensive methods for testing
///   hypotheses", 1989), with the same random signs for all pairs.
/// - [`Comparison::p_corrected`]: `p_randomization` corrected by Holm, "A simple sequentially rejective multiple test
///   procedure", Scandinavian Journal of Statistics 6, 1979. By one metric, pairs of systems are a family, pairs of a system
///   and a baseline another, and all other pairs a third, so that a question about systems does not depend on which
///   baselines stand beside them.
///
/// The same arguments give the same result with any number of threads. Time is proportional to the number of systems
/// times metrics, not of pairs.
///
/// ```
/// use epitome_eval::{Options, RANDOMIZATIONS, Role, System, compare};
///
/// let system = |name, scores| System { name, role: Role::System, scores: vec![scores] };
/// let systems = [system("ours", &[0.5, 0.75, 0.5]), system("theirs", &[0.5, 0.5, 0.25])];
/// let found = compare(&["rouge1"], &systems, &Options::default(), RANDOMIZATIONS)?;
/// assert_eq!((found.comparisons[0].wins, found.comparisons[0].ties), (2, 1));
/// println!("{}", found.markdown());
/// # Ok::<(), epitome_eval::ComparisonError>(())
/// ```
///
/// # Errors
/// Nothing to compare, names that are not unique, a missing or surplus score, a score that is not a finite number.
pub fn compare(
    metrics: &[&str],
    systems: &[System<'_>],
    options: &Options,
    randomizations: usize,
) -> Result<Comparisons, ComparisonError> {
    let records = error::check(metrics, systems)?;
    let statistics = Statistics::new(metrics, systems, options, randomizations);
    let summary = |(index, system): (usize, &System<'_>)| SystemScores {
        name: system.name.to_owned(),
        role: system.role,
        scores: (0..metrics.len()).map(|metric| statistics.resampled[metric][index].estimate()).collect(),
    };
    Ok(Comparisons {
        records,
        options: options.clone(),
        randomizations,
        metrics: metrics.iter().map(|&name| name.to_owned()).collect(),
        systems: systems.iter().enumerate().map(summary).collect(),
        comparisons: (0..metrics.len()).flat_map(|metric| statistics.pairs(metric)).collect(),
    })
}

/// What the comparisons are made of, by metric, then system.
struct Statistics<'a> {
    metrics: &'a [&'a str],
    systems: &'a [System<'a>],
    resampled: Vec<Vec<Resampled>>,
    signed: Vec<Vec<SignedSums>>,
}

impl<'a> Statistics<'a> {
    fn new(metrics: &'a [&'a str], systems: &'a [System<'a>], options: &Options, randomizations: usize) -> Self {
        let by_metric = (0..metrics.len()).flat_map(|metric| systems.iter().map(move |system| system.scores[metric]));
        let columns: Vec<&[f64]> = by_metric.collect();
        let unit = randomization::unit(&columns);
        let signed = columns.par_iter().map(|scores| SignedSums::new(scores, unit, randomizations, options.seed));
        let mut signed = signed.collect::<Vec<_>>().into_iter();
        let mut resampled = bootstrap::resampled(&columns, options.bootstrap, options.seed).into_iter();
        Self {
            metrics,
            systems,
            resampled: metrics.iter().map(|_| resampled.by_ref().take(systems.len()).collect()).collect(),
            signed: metrics.iter().map(|_| signed.by_ref().take(systems.len()).collect()).collect(),
        }
    }

    /// All pairs of systems by one metric.
    fn pairs(&self, metric: usize) -> Vec<Comparison> {
        let systems = self.systems.len();
        let pairs = (0..systems).flat_map(|first| (first + 1..systems).map(move |second| (first, second)));
        let role = |index: usize| self.systems[index].role;
        let mut found: Vec<(Family, Comparison)> = pairs
            .map(|(first, second)| (Family::of([first, second].map(role)), self.compare(metric, first, second)))
            .collect();
        for family in Family::ALL {
            let mut members: Vec<&mut Comparison> =
                found.iter_mut().filter(|(own, _)| *own == family).map(|(_, comparison)| comparison).collect();
            let p_values: Vec<f64> = members.iter().map(|comparison| comparison.p_randomization).collect();
            for (comparison, corrected) in members.iter_mut().zip(holm::holm(&p_values)) {
                comparison.p_corrected = corrected;
            }
        }
        found.into_iter().map(|(_, comparison)| comparison).collect()
    }

    /// Two systems by one metric, as if that were the only test.
    fn compare(&self, metric: usize, first: usize, second: usize) -> Comparison {
        let [a, b] = [first, second].map(|system| self.systems[system].scores[metric]);
        let differences = || a.iter().zip(b).map(|(a, b)| a - b);
        let wins = differences().filter(|&difference| difference > TIE).count();
        let losses = differences().filter(|&difference| difference < -TIE).count();
        let (difference, p_bootstrap) = self.resampled[metric][first].minus(&self.resampled[metric][second]);
        let p_randomization = self.signed[metric][first].p_value(&self.signed[metric][second], a.len());
        Comparison {
            metric: self.metrics[metric].to_owned(),
            first: self.systems[first].name.to_owned(),
            second: self.systems[second].name.to_owned(),
            difference,
            p_bootstrap,
            p_randomization,
            p_corrected: p_randomization,
            wins,
            losses,
            ties: a.len() - wins - losses,
        }
    }
}
