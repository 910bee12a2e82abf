//! The report: what an evaluation found.

use std::sync::Arc;

use rouge::{Aggregate, Metric, Score};
use serde::Serialize as DeriveSerialize;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::html::ShownRecord;
use crate::{Comparisons, LengthDistribution, LengthGroup, Options, Profile};

/// The version of the form of `report.json`; it changes when a field changes its meaning or goes.
pub const SCHEMA: u32 = 3;

/// What an evaluation found. Its serialized form is `report.json`.
#[derive(Clone, Debug, PartialEq, DeriveSerialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of this program.
    pub version: String,
    /// How many records were scored.
    pub records: usize,
    /// How many texts they are scored against; more than records where some have several references.
    pub reference_texts: usize,
    /// How they were compared.
    pub options: Options,
    /// How a model made the summaries, where it did now: the model, its settings, what else decides them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoding: Option<serde_json::Value>,
    /// The scores of the first system.
    pub scores: Scores,
    /// Every system, in the order given.
    pub systems: Vec<SystemReport>,
    /// Summaries made of the documents' own sentences; empty unless every record has its document.
    pub baselines: Vec<Baseline>,
    /// Every pair of systems and baselines by every metric; in `report.json` a list of comparisons.
    #[serde(serialize_with = "pairs")]
    pub comparisons: Comparisons,
    /// What the references are like; of several of a record, their mean.
    pub references: Profile,
    /// How long the documents are, when every record has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documents: Option<LengthDistribution>,
    /// The systems that are one model reading so much of each document, from least to most; empty where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ablation: Vec<AblationPoint>,
    /// The scores of each record, in the order of the references.
    pub per_record: Vec<RecordScores>,
    /// What `report.html` shows of the first records.
    #[serde(skip)]
    pub(crate) shown: Vec<ShownRecord>,
}

fn pairs<S: Serializer>(comparisons: &Comparisons, serializer: S) -> Result<S::Ok, S::Error> {
    comparisons.comparisons.serialize(serializer)
}

/// What was found of one system.
#[derive(Clone, Debug, PartialEq, DeriveSerialize)]
pub struct SystemReport {
    /// What it is called.
    pub name: String,
    /// Its scores.
    pub scores: Scores,
    /// What its summaries are like.
    pub profile: Profile,
    /// F1 by the length of the document, for each metric in five groups of as many records; empty unless every record has
    /// its document.
    #[serde(serialize_with = "by_metric")]
    pub by_document_length: Vec<(Metric, Vec<LengthGroup>)>,
}

fn by_metric<T: Serialize, S: Serializer>(values: &[(Metric, T)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(values.iter().map(|(metric, value)| (metric.to_string(), value)))
}

/// A model that read so much of each document.
#[derive(Clone, Debug, PartialEq, DeriveSerialize)]
pub struct AblationPoint {
    /// The name of the system.
    pub system: String,
    /// How many tokens of a document it read at most; none for all.
    pub max_document_tokens: Option<usize>,
    /// How many tokens of a document it read in the mean.
    pub mean_document_tokens: f64,
    /// Wall time of decoding a document, in the mean.
    pub seconds_per_document: f64,
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
        by_metric(&self.0, serializer)
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

/// A mean over records with its 95 % bootstrap interval; of scores, as fractions from 0 to 1.
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

/// The scores of summaries made of the documents' own sentences, without a model.
#[derive(Clone, Debug, PartialEq, DeriveSerialize)]
pub struct Baseline {
    /// As [`BaselineKind::name`](crate::BaselineKind::name).
    pub name: String,
    /// What it is.
    pub description: String,
    /// Whether it sees the references, so that it bounds what extracts can reach.
    pub upper_bound: bool,
    /// The length that is aimed at, in words: that of the mean reference.
    pub words: usize,
    /// As for the systems.
    pub scores: Scores,
}

/// The scores of one record.
#[derive(Clone, Debug, PartialEq, DeriveSerialize)]
pub struct RecordScores {
    /// Which record.
    pub id: String,
    /// Words of the document, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document_words: Option<usize>,
    /// Words of the reference, of several their mean.
    pub reference_words: f64,
    /// By system, in the order of [`Report::systems`]; in `report.json` an object.
    #[serde(serialize_with = "by_system")]
    pub systems: Vec<SystemRecord>,
}

/// The scores of one record and system. Serialized with the metrics beside the other fields.
#[derive(Clone, Debug, PartialEq)]
pub struct SystemRecord {
    /// The name of the system.
    pub system: Arc<str>,
    /// Words of the summary.
    pub words: usize,
    /// By metric, in the order of [`Report::scores`].
    pub scores: Vec<(Metric, Score)>,
}

fn by_system<S: Serializer>(systems: &[SystemRecord], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(systems.iter().map(|record| (&*record.system, record)))
}

impl Serialize for SystemRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.scores.len()))?;
        map.serialize_entry("words", &self.words)?;
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
