//! Lengths of texts.

use serde::Serialize;

/// Lengths of a set of texts, in words separated by white space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LengthStatistics {
    /// The mean.
    pub mean: f64,
    /// The median; of an even number of texts the mean of the middle two.
    pub median: f64,
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
}

impl LengthStatistics {
    /// Of at least one length; all zero without any.
    pub(crate) fn of(mut lengths: Vec<f64>) -> Self {
        lengths.sort_unstable_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (lengths.first(), lengths.last()) else {
            return Self::default();
        };
        let count = lengths.len();
        let median = (lengths[(count - 1) / 2] + lengths[count / 2]) / 2.0;
        Self { mean: lengths.iter().sum::<f64>() / count as f64, median, min, max }
    }
}

/// Words separated by white space.
pub(crate) fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

#[cfg(test)]
mod tests {
    use super::LengthStatistics;

    #[test]
    fn statistics() {
        let found = LengthStatistics::of(vec![5.0, 1.0, 2.0, 10.0]);
        assert_eq!(found, LengthStatistics { mean: 4.5, median: 3.5, min: 1.0, max: 10.0 });
        assert_eq!(LengthStatistics::of(vec![3.0]).median, 3.0);
        assert_eq!(LengthStatistics::of(Vec::new()).max, 0.0);
    }
}
