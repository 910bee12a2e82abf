//! The report: what an evaluation found.

use rouge::{Aggregate, Metric, Score};
use serde::Serialize as DeriveSerialize;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::{LengthStatistics, Options};

/// What an evaluation found. Its serialized form is `report.json`.
#[derive(Clone, Debug, PartialEq, DeriveSerialize)]
pub struct Report {
    /// Version of this program.
    pub version: String,
    /// How many records were scored.
    pub records: usize,
    /// How they were compared.
    pub options: Options,
    /// The scores of the predictions.
    pub scores: Scores,
    /// Lead and tail; empty unless every record has its document.
    pub baselines: Vec<Baseline>,
    /// How long the texts are.
    pub lengths: Lengths,
    /// The scores of each record, in the order of the references.
    pub per_record: Vec<RecordScores>,
}

/// Scores by metric, in the order they are printed. Serialized as an object whose keys are the metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores(pub Vec<(Metric, MetricScores)>);

impl Scores {
    /// The scores of the metric of this name, such as `rougeLsum`.
    pub fn get(&self, metric: &str) -> Option<&MetricScores> {
        let found = self.0.iter().find(|(name, _)| name.to_string() == metric);
        found.map(|(_, scores)| scores)
    }
}

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(metric, scores)| (metric.to_string(), scores)))
    }
}

/// What one metric says of all records together.
#[derive(Clone, Copy, Debug, PartialEq, DeriveSerialize)]
pub struct MetricScores {
    /// Matches in what was predicted.
    pub precision: Estimate,
    /// Matches in the reference.
    pub recall: Estimate,
    /// Mean of the F1 of the records (not the F1 of the means).
    pub f1: Estimate,
}

impl MetricScores {
    pub(crate) fn from_aggregate(aggregate: &Aggregate) -> Self {
        let of = |field: fn(&Score) -> f64| Estimate {
            mean: field(&aggregate.mean),
            low: field(&aggregate.low),
            mid: field(&aggregate.mid),
            high: field(&aggregate.high),
        };
        Self { precision: of(|score| score.precision), recall: of(|score| score.recall), f1: of(|score| score.f1) }
    }
}

/// A mean over records with its 95 % bootstrap interval, as fractions from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, DeriveSerialize)]
pub struct Estimate {
    /// The mean of the records' scores.
    pub mean: f64,
    /// 2.5th percentile of the resampled means; the mean itself without resampling.
    pub low: f64,
    /// Median of the resampled means.
    pub mid: f64,
    /// 97.5th percentile of the resampled means.
    pub high: f64,
}

/// The scores of summaries taken from the document without a model, as long as the mean reference.
#[derive(Clone, Debug, PartialEq, DeriveSerialize)]
pub struct Baseline {
    /// `lead`: the first sentences; `tail`: the last words.
    pub name: String,
    /// The length aimed at, in words.
    pub words: usize,
    /// As for the predictions.
    pub scores: Scores,
}

/// How long the texts are, in words separated by white space.
#[derive(Clone, Debug, PartialEq, DeriveSerialize)]
pub struct Lengths {
    /// What the system wrote.
    pub predictions: LengthStatistics,
    /// What people wrote; of several references of a record, their mean length.
    pub references: LengthStatistics,
    /// What there was to summarize, when every record has its document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documents: Option<LengthStatistics>,
    /// Predictions without any word.
    pub empty_predictions: usize,
}

/// The scores of one record. Serialized with the metrics beside the other fields.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordScores {
    /// Which record.
    pub id: String,
    /// Words of the prediction.
    pub prediction_words: usize,
    /// Words of the reference, of several their mean.
    pub reference_words: f64,
    /// By metric, in the order of [`Report::scores`].
    pub scores: Vec<(Metric, Score)>,
}

impl Serialize for RecordScores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3 + self.scores.len()))?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("prediction_words", &self.prediction_words)?;
        map.serialize_entry("reference_words", &self.reference_words)?;
        for (metric, score) in &self.scores {
            let score = PlainScore { precision: score.precision, recall: score.recall, f1: score.f1 };
            map.serialize_entry(&metric.to_string(), &score)?;
        }
        map.end()
    }
}

#[derive(DeriveSerialize)]
struct PlainScore {
    precision: f64,
    recall: f64,
    f1: f64,
}
