//! What can be wrong with scores that are to be compared.

use std::collections::HashSet;

use super::System;
use crate::counted;

/// What can be wrong with scores that are to be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ComparisonError {
    /// No systems, no metrics or no records.
    #[error("there is nothing to compare: {}, {}, {}",
        counted(*.systems, "system"), counted(*.metrics, "metric"), counted(*.records, "record"))]
    Nothing {
        /// How many systems there are.
        systems: usize,
        /// How many metrics.
        metrics: usize,
        /// How many records.
        records: usize,
    },
    /// Two systems have one name.
    #[error("two systems or baselines are called {name:?}; name one of them differently, or leave it out")]
    DoubledName {
        /// The name.
        name: String,
    },
    /// A system has scores of too few or too many metrics.
    #[error("the system {system:?} has scores of {found} metrics, but {expected} are compared")]
    Metrics {
        /// The name of the system.
        system: String,
        /// How many metrics it has.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A system has scores of too few or too many records.
    #[error(
        "the system {system:?} has {metric} of {}, but {expected} are compared; score the same records",
        counted(*.found, "record")
    )]
    Records {
        /// The name of the system.
        system: String,
        /// The name of the metric.
        metric: String,
        /// How many records it has.
        found: usize,
        /// How many the first system has.
        expected: usize,
    },
    /// A score is infinite or not a number.
    #[error("{metric} of the system {system:?} is {value} for record {record} (counted from 0)")]
    NotFinite {
        /// The name of the system.
        system: String,
        /// The name of the metric.
        metric: String,
        /// The place of the record, from 0.
        record: usize,
        /// The score.
        value: f64,
    },
}

/// The number of records, if every system has a finite score of each of them by each metric.
pub(super) fn check(metrics: &[&str], systems: &[System<'_>]) -> Result<usize, ComparisonError> {
    let records = systems.first().and_then(|system| system.scores.first()).map_or(0, |scores| scores.len());
    if systems.is_empty() || metrics.is_empty() || records == 0 {
        return Err(ComparisonError::Nothing { systems: systems.len(), metrics: metrics.len(), records });
    }
    let mut names = HashSet::new();
    if let Some(doubled) = systems.iter().find(|system| !names.insert(system.name)) {
        return Err(ComparisonError::DoubledName { name: doubled.name.to_owned() });
    }
    systems.iter().try_for_each(|system| check_system(metrics, system, records))?;
    Ok(records)
}

fn check_system(metrics: &[&str], system: &System<'_>, expected: usize) -> Result<(), ComparisonError> {
    let name = || system.name.to_owned();
    if system.scores.len() != metrics.len() {
        let found = system.scores.len();
        return Err(ComparisonError::Metrics { system: name(), found, expected: metrics.len() });
    }
    for (&metric, scores) in metrics.iter().zip(&system.scores) {
        let (metric, found) = (metric.to_owned(), scores.len());
        if found != expected {
            return Err(ComparisonError::Records { system: name(), metric, found, expected });
        }
        if let Some(record) = scores.iter().position(|score| !score.is_finite()) {
            return Err(ComparisonError::NotFinite { system: name(), metric, record, value: scores[record] });
        }
    }
    Ok(())
}
