//! The rows and notes of a report, before they are laid out.

use crate::{Estimate, LengthStatistics, Options, Report};

/// A header and rows of equally many cells; the first column is text, the others are numbers.
pub(crate) struct Cells {
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// One row a metric: precision, recall, F1 and its interval, then the F1 of each baseline, all in percent.
pub(crate) fn scores(report: &Report) -> Cells {
    let mut header = ["", "precision", "recall", "F1", "95 % interval"].map(str::to_owned).to_vec();
    header.extend(report.baselines.iter().map(|baseline| format!("{} F1", baseline.name)));
    let row = |(index, (metric, scores)): (usize, &(rouge::Metric, crate::MetricScores))| {
        let mut row = vec![metric.to_string()];
        row.extend([scores.precision, scores.recall, scores.f1].map(|estimate| percent(estimate.mean)));
        row.push(interval(&scores.f1));
        row.extend(report.baselines.iter().map(|baseline| percent(baseline.scores.0[index].1.f1.mean)));
        row
    };
    Cells { header, rows: report.scores.0.iter().enumerate().map(row).collect() }
}

/// One row a kind of text: mean, median, shortest and longest, in words.
pub(crate) fn lengths(report: &Report) -> Cells {
    let header = ["words", "mean", "median", "shortest", "longest"].map(str::to_owned).to_vec();
    let lengths = &report.lengths;
    let row = |name: &str, of: &LengthStatistics| {
        let numbers = [of.mean, of.median, of.min, of.max].map(|words| format!("{words:.1}"));
        std::iter::once(name.to_owned()).chain(numbers).collect()
    };
    let mut rows = vec![row("predictions", &lengths.predictions), row("references", &lengths.references)];
    rows.extend(lengths.documents.as_ref().map(|documents| row("documents", documents)));
    Cells { header, rows }
}

/// One row a record: F1 of every metric in percent, and the lengths in words.
pub(crate) fn records(report: &Report) -> Cells {
    let metrics = report.scores.0.iter().map(|(metric, _)| metric.to_string());
    let header = std::iter::once("record".to_owned()).chain(metrics);
    let header = header.chain(["words".to_owned(), "reference words".to_owned()]).collect();
    let rows = report.per_record.iter().map(|record| {
        let mut row = vec![record.id.clone()];
        row.extend(record.scores.iter().map(|(_, score)| percent(score.f1)));
        row.extend([record.prediction_words.to_string(), format!("{:.0}", record.reference_words)]);
        row
    });
    Cells { header, rows: rows.collect() }
}

/// How the numbers came about, one sentence each.
pub(crate) fn notes(report: &Report) -> Vec<String> {
    let options = &report.options;
    let mut notes = vec![scoring(report.records, options)];
    if options.bootstrap > 0 {
        notes.push(format!("Intervals from {} bootstrap resamples, seed {}.", options.bootstrap, options.seed));
    }
    if let Some(baseline) = report.baselines.first() {
        notes.push(format!(
            "lead and tail: the first sentences and the last words of the document, {} words like the mean reference.",
            baseline.words
        ));
    }
    if report.lengths.empty_predictions > 0 {
        notes.push(format!("{} predictions are empty and score 0.", report.lengths.empty_predictions));
    }
    notes
}

/// What was scored, and how.
pub(crate) fn scoring(records: usize, options: &Options) -> String {
    let stemming = if options.stemmer { "with" } else { "without" };
    let split = options.sentence_split;
    format!("{records} records; ROUGE in percent, {stemming} stemming; sentence split: {split}.")
}

pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.2}", 100.0 * fraction)
}

pub(crate) fn interval(estimate: &Estimate) -> String {
    format!("{} to {}", percent(estimate.low), percent(estimate.high))
}
