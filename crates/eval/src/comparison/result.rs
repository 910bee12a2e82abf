//! What a comparison found.

use serde::Serialize;

use super::{Family, Role};
use crate::{Estimate, Options};

/// What a comparison of systems found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparisons {
    /// How many records each system was scored on.
    pub records: usize,
    /// How they were scored and resampled.
    pub options: Options,
    /// How many random assignments of signs are behind [`Comparison::p_randomization`].
    pub randomizations: usize,
    /// The metrics, in the order they are printed.
    pub metrics: Vec<String>,
    /// The systems, in the order they are printed.
    pub systems: Vec<SystemScores>,
    /// Every pair of systems by every metric: by metric, then first, then second system, as they are printed.
    pub comparisons: Vec<Comparison>,
}

/// The scores of one system.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SystemScores {
    /// What tables call it.
    pub name: String,
    /// What it stands for.
    pub role: Role,
    /// In the order of [`Comparisons::metrics`].
    pub scores: Vec<Estimate>,
}

/// What one metric says of two systems on the same records. All tests are two-sided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// By which metric.
    pub metric: String,
    /// The name of one system.
    pub first: String,
    /// The name of the other.
    pub second: String,
    /// The mean of the first less that of the second, with the 95 % interval of paired bootstrap resamples; fractions from
    /// -1 to 1.
    pub difference: Estimate,
    /// By the paired bootstrap: twice the share of resamples on the rarer side of 0. With B resamples, r of them on that
    /// side, `2 (r + 1) / (B + 1)`, at most 1; differences of 0 count on both sides. 1 without resampling.
    pub p_bootstrap: f64,
    /// By approximate randomization of the signs of the records' differences: of R random assignments, r give a sum at
    /// least as far from 0 as the one found, and p is `(r + 1) / (R + 1)`. Sums count as equal within what rounding can do
    /// (2e-12 a record).
    pub p_randomization: f64,
    /// `p_randomization` after the Holm-Bonferroni correction for all pairs of the same family by this metric: pairs of
    /// systems, pairs of a system and a baseline, or other pairs.
    pub p_corrected: f64,
    /// Records on which the first system scores higher, by more than 1e-12.
    pub wins: usize,
    /// Records on which the second does.
    pub losses: usize,
    /// The other records.
    pub ties: usize,
}

impl Comparison {
    /// Whether `p_corrected` is below 0.05.
    pub fn significant(&self) -> bool {
        self.p_corrected < 0.05
    }
}

impl Comparisons {
    /// Whether the randomizations are enough for the least p-value to be significant after correction in every family.
    pub(super) fn can_find_significance(&self) -> bool {
        let roles: Vec<Role> = self.systems.iter().map(|system| system.role).collect();
        let pairs = (0..roles.len()).flat_map(|first| (first + 1..roles.len()).map(move |second| (first, second)));
        let families: Vec<Family> = pairs.map(|(first, second)| Family::of([roles[first], roles[second]])).collect();
        let largest = Family::ALL.map(|family| families.iter().filter(|own| **own == family).count()).into_iter().max();
        (largest.unwrap_or(0) as f64) < 0.05 * (self.randomizations + 1) as f64
    }

    /// The comparison of two systems by a metric, whichever of the two is first.
    pub fn between(&self, metric: &str, one: &str, other: &str) -> Option<&Comparison> {
        let mut comparisons = self.comparisons.iter().filter(|comparison| comparison.metric == metric);
        comparisons.find(|found| {
            let pair = (found.first.as_str(), found.second.as_str());
            pair == (one, other) || pair == (other, one)
        })
    }
}
