//! From texts to a report.

use rayon::prelude::*;
use rouge::{Metric, Score, bootstrap, score_metrics};

use crate::baselines::{lead, tail};
use crate::join::{Joined, join};
use crate::lengths::{mean_words, words};
use crate::{
    Baseline, Error, LengthStatistics, Lengths, MetricScores, Options, Prediction, RecordScores, Reference, Report,
    Result, Scores,
};

/// Scores `predictions` against the `references` of the same ids, in parallel over records.
///
/// Every prediction must have its reference record and every reference record its prediction; records are reported in
/// the order of `references`. With several reference texts the best F1 counts, for each metric on its own. When every
/// reference record has its document, the lead and tail of the documents are scored too, with one sentence a line, each
/// as long as the mean reference (the first of each record, rounded down to whole words).
///
/// # Errors
/// A missing or doubled id, a record without reference text, no records at all, or ROUGE-0.
pub fn evaluate(predictions: &[Prediction], references: &[Reference], options: &Options) -> Result<Report> {
    let metrics = options.metrics()?;
    let records = join(predictions, references)?;
    if records.is_empty() {
        return Err(Error::NoRecords);
    }
    let scorer = Scorer { options, metrics, references };
    let summaries: Vec<&str> = records.iter().map(|(prediction, _)| prediction.summary.as_str()).collect();
    let scores = scorer.score(&summaries);
    let lengths = lengths(&records);
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        records: records.len(),
        options: options.clone(),
        scores: scorer.aggregate(&scores),
        baselines: scorer.baselines(),
        lengths,
        per_record: scorer.per_record(&records, scores),
    })
}

/// The lead and tail scores of `references` alone, as in the report of [`evaluate`]; none unless every record has its
/// document.
///
/// # Errors
/// A record without reference text, no records at all, or ROUGE-0.
pub fn baselines(references: &[Reference], options: &Options) -> Result<Vec<Baseline>> {
    let metrics = options.metrics()?;
    if references.is_empty() {
        return Err(Error::NoRecords);
    }
    if let Some(without) = references.iter().find(|reference| reference.references.is_empty()) {
        return Err(Error::NoReferenceText { id: without.id.clone() });
    }
    Ok(Scorer { options, metrics, references }.baselines())
}

struct Scorer<'a> {
    options: &'a Options,
    metrics: Vec<Metric>,
    references: &'a [Reference],
}

impl Scorer<'_> {
    /// One list of scores a record, in the order of the metrics.
    fn score<S: AsRef<str> + Sync>(&self, summaries: &[S]) -> Vec<Vec<Score>> {
        let split = self.options.sentence_split;
        let records = self.references.par_iter().zip(summaries);
        let scores = records.map(|(reference, summary)| {
            let references: Vec<_> = reference.references.iter().map(|text| split.apply(text)).collect();
            score_metrics(&references, &split.apply(summary.as_ref()), &self.metrics, &self.options.rouge())
        });
        scores.collect()
    }

    fn aggregate(&self, scores: &[Vec<Score>]) -> Scores {
        let aggregate = |(index, &metric): (usize, &Metric)| {
            let of_metric: Vec<Score> = scores.iter().map(|record| record[index]).collect();
            let found = bootstrap(&of_metric, self.options.bootstrap, self.options.seed);
            let found = found.expect("there is at least one record");
            (metric, MetricScores::from_aggregate(&found))
        };
        Scores(self.metrics.iter().enumerate().map(aggregate).collect())
    }

    fn baselines(&self) -> Vec<Baseline> {
        let documents = self.references.iter().map(|reference| reference.document.as_deref());
        let Some(documents) = documents.collect::<Option<Vec<&str>>>() else {
            return Vec::new();
        };
        let lengths = self.references.iter().map(|reference| words(&reference.references[0]));
        let words = lengths.sum::<usize>() / documents.len();
        let baseline = |name: &str, take: fn(&str, usize) -> String| {
            let summaries: Vec<String> = documents.par_iter().map(|document| take(document, words)).collect();
            Baseline { name: name.to_owned(), words, scores: self.aggregate(&self.score(&summaries)) }
        };
        vec![baseline("lead", lead), baseline("tail", tail)]
    }

    fn per_record(&self, records: &[Joined<'_>], scores: Vec<Vec<Score>>) -> Vec<RecordScores> {
        let records = records.iter().zip(scores);
        let records = records.map(|((prediction, reference), scores)| RecordScores {
            id: reference.id.clone(),
            prediction_words: words(&prediction.summary),
            reference_words: mean_words(&reference.references),
            scores: self.metrics.iter().copied().zip(scores).collect(),
        });
        records.collect()
    }
}

fn lengths(records: &[Joined<'_>]) -> Lengths {
    let predictions: Vec<f64> = records.iter().map(|(prediction, _)| words(&prediction.summary) as f64).collect();
    let references = records.iter().map(|(_, reference)| mean_words(&reference.references));
    let documents = records.iter().map(|(_, reference)| reference.document.as_deref().map(|text| words(text) as f64));
    Lengths {
        empty_predictions: predictions.iter().filter(|&&words| words == 0.0).count(),
        predictions: LengthStatistics::of(predictions),
        references: LengthStatistics::of(references.collect()),
        documents: documents.collect::<Option<Vec<f64>>>().map(LengthStatistics::of),
    }
}
