//! What the summaries of many records are like.

use epitome_plot::{Scale, histogram};
use rouge::bootstrap_means;
use serde::Serialize;

use super::fragments::POSITION_BINS;
use super::measures::COUNT as MEASURES;
use super::{Characteristics, Measures};
use crate::{Estimate, LengthStatistics};

/// Collects the [`Characteristics`] of records: of one system's summaries, or of the references.
///
/// Holds one number a record and measure, no texts. Records added in parts that are merged in their order give the same
/// profile as records added one by one.
#[derive(Clone, Debug, Default)]
pub struct Profiler {
    words: Vec<f64>,
    /// By measure, of the records that have a value.
    values: [Vec<f64>; MEASURES],
    source_words: [u64; POSITION_BINS],
}

impl Profiler {
    /// Adds a record.
    pub fn add(&mut self, record: &Characteristics) {
        self.words.push(record.words);
        self.extend(record.measures.clone().into_array(), &record.source_words);
    }

    /// Adds the records of `later` after the own ones.
    pub fn merge(&mut self, later: Profiler) {
        self.words.extend(later.words);
        self.extend(later.values, &later.source_words);
    }

    fn extend<V: IntoIterator<Item = f64>>(&mut self, values: [V; MEASURES], source_words: &[u64; POSITION_BINS]) {
        for (own, new) in self.values.iter_mut().zip(values) {
            own.extend(new);
        }
        for (sum, count) in self.source_words.iter_mut().zip(source_words) {
            *sum += count;
        }
    }

    /// What the records are like together, with intervals from `resamples` bootstrap resamples drawn from `seed`.
    pub fn profile(&self, resamples: usize, seed: u64) -> Profile {
        Profile {
            records: self.words.len(),
            words: LengthDistribution::of(self.words.clone()),
            measures: Measures::from_array(self.values.each_ref().map(|values| {
                let estimate = estimate(values, resamples, seed)?;
                Some(MeanOfRecords { records: values.len(), estimate })
            })),
            source_words: self.source_words,
        }
    }
}

/// What the summaries of one system, or the references, are like. Part of `report.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// How many records there are.
    pub records: usize,
    /// How long the texts are.
    pub words: LengthDistribution,
    /// Means over the records that have a value; `None` where no record has one.
    pub measures: Measures<Option<MeanOfRecords>>,
    /// How many copied words stand in each twentieth of their document, first to last.
    ///
    /// Copied are the words of extractive fragments of at least three words. Of a text that occurs several times in the
    /// document the first place counts, which makes the beginning look more used than it is; compare with the references.
    pub source_words: [u64; POSITION_BINS],
}

impl Profile {
    /// The share of the copied words that stand in each twentieth of their document; all 0 when nothing is copied.
    pub fn source_shares(&self) -> [f64; POSITION_BINS] {
        let all = self.source_words.iter().sum::<u64>().max(1);
        self.source_words.map(|words| words as f64 / all as f64)
    }
}

/// A mean over the records that have a value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeanOfRecords {
    /// How many records have a value.
    pub records: usize,
    /// The mean of their values with its 95 % interval, in the measure's unit.
    #[serde(flatten)]
    pub estimate: Estimate,
}

/// How long texts are, in words separated by white space.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LengthDistribution {
    /// Mean, median, shortest and longest.
    #[serde(flatten)]
    pub statistics: LengthStatistics,
    /// How many texts have which length: up to 20 ranges, about equally wide, that leave no gap.
    pub histogram: Vec<LengthRange>,
}

/// How many texts have `low` words or more, and less than `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LengthRange {
    /// The shortest length in the range, in words.
    pub low: usize,
    /// The shortest length beyond it.
    pub high: usize,
    /// How many texts there are.
    pub texts: usize,
}

impl LengthDistribution {
    /// Of lengths in words; those that are means of several texts go to the histogram rounded. All 0 without any.
    pub fn of(lengths: Vec<f64>) -> Self {
        let rounded: Vec<usize> = lengths.iter().map(|length| length.round() as usize).collect();
        let ranges = histogram(&rounded, Scale::Whole).into_iter();
        let ranges = ranges.map(|bar| LengthRange { low: bar.low as usize, high: bar.high as usize, texts: bar.count });
        Self { histogram: ranges.collect(), statistics: LengthStatistics::of(lengths) }
    }
}

/// The mean of `values` with its bootstrap interval; `None` without values.
pub(super) fn estimate(values: &[f64], resamples: usize, seed: u64) -> Option<Estimate> {
    let rows: Vec<[f64; 1]> = values.iter().map(|&value| [value]).collect();
    let [found] = bootstrap_means(&rows, resamples, seed)?;
    Some(Estimate { mean: found.mean, low: found.low, mid: found.mid, high: found.high })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceDocument;
    use crate::characteristics::random::Random;

    #[test]
    fn means_are_of_the_records_that_have_a_value() {
        let document = SourceDocument::new("a b c d");
        let mut profiler = Profiler::default();
        for summary in ["a b c", "a x", ""] {
            profiler.add(&Characteristics::of(summary, Some(&document)));
        }
        let profile = profiler.profile(100, 0);
        let mean = |value: &Option<MeanOfRecords>| value.map(|found| (found.records, found.estimate.mean));
        assert_eq!(profile.records, 3);
        assert_eq!(mean(&profile.measures.coverage), Some((2, 0.75)));
        assert_eq!(mean(&profile.measures.density), Some((2, (3.0 + 0.5) / 2.0)));
        assert_eq!(mean(&profile.measures.compression), Some((2, (4.0 / 3.0 + 2.0) / 2.0)));
        assert_eq!(mean(&profile.measures.novel_ngrams[2]), Some((1, 0.0)));
        assert_eq!(mean(&profile.measures.novel_ngrams[3]), None);
        assert_eq!(mean(&profile.measures.is_empty), Some((3, 1.0 / 3.0)));
        assert_eq!(mean(&profile.measures.is_cut), None);
        assert_eq!((profile.source_words[0], profile.source_words[5], profile.source_words[10]), (1, 1, 1));
        assert_eq!(profile.source_shares().iter().sum::<f64>(), 1.0);
        let coverage = profile.measures.coverage.expect("two records have words").estimate;
        assert_eq!((coverage.low, coverage.high), (0.5, 1.0));
    }

    #[test]
    fn parts_merged_in_order_give_the_same_profile() {
        let mut random = Random(5);
        let mut one_by_one = Profiler::default();
        let mut merged = Profiler::default();
        for _ in 0..10 {
            let mut part = Profiler::default();
            for _ in 0..random.below(4) {
                let document = SourceDocument::new(&random.text(50, 5));
                let references = [random.text(20, 6), random.text(20, 6), random.text(20, 6)];
                let record = Characteristics::of_references(&references, Some(&document));
                part.add(&record);
                one_by_one.add(&record);
            }
            merged.merge(part);
        }
        assert_eq!(merged.profile(50, 1), one_by_one.profile(50, 1));
    }

    #[test]
    fn nothing_has_no_means() {
        let profile = Profiler::default().profile(100, 0);
        assert_eq!((profile.records, profile.measures.coverage), (0, None));
        assert_eq!(profile.source_shares(), [0.0; 20]);
        assert_eq!(profile.words, LengthDistribution::default());
    }

    #[test]
    fn lengths_are_counted() {
        let found = LengthDistribution::of(vec![3.0, 4.5, 3.0]);
        let range = |low, texts| LengthRange { low, high: low + 1, texts };
        assert_eq!(found.histogram, [range(3, 2), range(4, 0), range(5, 1)]);
        assert_eq!((found.statistics.median, found.statistics.max), (3.0, 4.5));
    }

    #[test]
    fn json_has_the_fields_side_by_side() {
        let mut profiler = Profiler::default();
        profiler.add(&Characteristics::of("a b", None));
        let json = serde_json::to_value(profiler.profile(0, 0)).expect("no map has odd keys");
        assert_eq!(json["words"]["median"], 2.0);
        assert_eq!(json["words"]["histogram"][0]["texts"], 1);
        assert_eq!(json["measures"]["coverage"], serde_json::Value::Null);
        assert_eq!(json["measures"]["repeated_ngrams"][1]["mean"], 0.0);
        assert_eq!(json["measures"]["repeated_ngrams"][1]["records"], 1);
        assert_eq!(json["source_words"].as_array().map(Vec::len), Some(20));
    }
}
