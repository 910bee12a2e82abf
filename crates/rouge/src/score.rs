//! Precision, recall and F1, and the names of the metrics they are computed for.

use std::fmt;
use std::str::FromStr;

/// Precision, recall and their harmonic mean, each a fraction from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Matches divided by what the prediction holds.
    pub precision: f64,
    /// Matches divided by what the reference holds.
    pub recall: f64,
    /// `2 P R / (P + R)`, and 0 where both are 0.
    pub f1: f64,
}

impl Score {
    /// The score of `matches` shared units between a reference and a prediction of the given sizes.
    ///
    /// An empty side counts as size 1, so that its score is 0 rather than undefined.
    ///
    /// ```
    /// assert_eq!(rouge::Score::from_matches(2, 4, 2).f1, 2.0 / 3.0);
    /// ```
    pub fn from_matches(matches: usize, reference: usize, prediction: usize) -> Self {
        let precision = matches as f64 / prediction.max(1) as f64;
        let recall = matches as f64 / reference.max(1) as f64;
        let sum = precision + recall;
        let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        Self { precision, recall, f1 }
    }
}

/// One kind of ROUGE, written `rouge1`, `rouge2`, ..., `rougeL` and `rougeLsum` as in Python.
///
/// ```
/// use rouge::Metric;
///
/// assert_eq!("rouge3".parse(), Ok(Metric::N(3)));
/// assert_eq!(Metric::Lsum.to_string(), "rougeLsum");
/// assert!("rouge0".parse::<Metric>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Overlap of n-grams, counted with clipping.
    N(usize),
    /// Longest common subsequence of the whole texts; line breaks are ignored.
    L,
    /// Union of the longest common subsequences of each reference line with every prediction line.
    Lsum,
}

impl fmt::Display for Metric {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Metric::N(n) => write!(out, "rouge{n}"),
            Metric::L => out.write_str("rougeL"),
            Metric::Lsum => out.write_str("rougeLsum"),
        }
    }
}

/// A metric name that is none of `rouge1`, `rouge2`, ..., `rougeL`, `rougeLsum`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMetric(String);

impl fmt::Display for UnknownMetric {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "unknown metric {:?}: expected rouge1, rouge2, ..., rougeL or rougeLsum", self.0)
    }
}

impl std::error::Error for UnknownMetric {}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        let unknown = || UnknownMetric(name.to_owned());
        match name.strip_prefix("rouge").ok_or_else(unknown)? {
            "L" => Ok(Metric::L),
            "Lsum" => Ok(Metric::Lsum),
            digits => match digits.parse() {
                Ok(n) if n > 0 => Ok(Metric::N(n)),
                _ => Err(unknown()),
            },
        }
    }
}
