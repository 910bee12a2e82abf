//! The rows and notes of a report, before they are laid out.

use epitome_sentences::counted;

use crate::{Estimate, LengthStatistics, MeanOfRecords, Measures, Options, Profile, Report, SentenceSplit};

/// A header and rows of equally many cells; the first column is text, the others are mostly numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The names of the columns.
    pub header: Vec<String>,
    /// The rows, top to bottom.
    pub rows: Vec<Vec<String>>,
}

/// One row a system and baseline: F1 by each metric with its interval, in percent; marked as the
/// notes say.
pub(crate) fn systems(report: &Report) -> Table {
    report.comparisons.plain_table()
}

/// One row a system and metric: precision, recall, F1 and its median over resamples, in percent.
pub(crate) fn scores(report: &Report) -> Table {
    let header = ["system", "metric", "precision", "recall", "F1", "median F1"].map(str::to_owned).to_vec();
    let rows = report.systems.iter().flat_map(|system| {
        system.scores.0.iter().map(|(metric, scores)| {
            let numbers = [scores.precision.mean, scores.recall.mean, scores.f1.mean, scores.f1.mid].map(percent);
            [system.name.clone(), metric.to_string()].into_iter().chain(numbers).collect()
        })
    });
    Table { header, rows: rows.collect() }
}

/// One row a kind of text: mean, median, shortest and longest, in words.
pub(crate) fn lengths(report: &Report) -> Table {
    let header = ["words", "mean", "median", "shortest", "longest"].map(str::to_owned).to_vec();
    let row = |name: &str, of: &LengthStatistics| {
        let numbers = [of.mean, of.median, of.min, of.max].map(|words| format!("{words:.1}"));
        std::iter::once(name.to_owned()).chain(numbers).collect()
    };
    let systems = report.systems.iter().map(|system| row(&system.name, &system.profile.words.statistics));
    let references = row("references", &report.references.words.statistics);
    let documents = report.documents.as_ref().map(|documents| row("documents", &documents.statistics));
    Table { header, rows: systems.chain([references]).chain(documents).collect() }
}

/// What summaries are like: one row a measure, one column a system, and one for the references.
pub(crate) fn characteristics(report: &Report) -> Table {
    let profiles = report.systems.iter().map(|system| (system.name.as_str(), &system.profile));
    let profiles: Vec<(&str, &Profile)> = profiles.chain([("references", &report.references)]).collect();
    let header = std::iter::once("mean of records").chain(profiles.iter().map(|(name, _)| *name));
    let measures: Vec<_> = profiles.iter().map(|(_, profile)| profile.measures.rows()).collect();
    let row = |(index, (name, in_percent)): (usize, (String, bool))| {
        let cell = |found: &Option<MeanOfRecords>| match found {
            Some(found) if in_percent => format!("{:.1} %", 100.0 * found.estimate.mean),
            Some(found) => format!("{:.2}", found.estimate.mean),
            None => "-".to_owned(),
        };
        std::iter::once(name).chain(measures.iter().map(|rows| cell(rows[index]))).collect()
    };
    let rows = Measures::<()>::names().into_iter().enumerate().map(row).collect();
    Table { header: header.map(str::to_owned).collect(), rows }
}

/// One row a record: F1 of every metric in percent of the first system, and the lengths in words.
pub(crate) fn records(report: &Report) -> Table {
    let metrics = report.scores.0.iter().map(|(metric, _)| metric.to_string());
    let header = std::iter::once("record".to_owned()).chain(metrics);
    let header = header.chain(["words".to_owned(), "reference words".to_owned()]).collect();
    let rows = report.per_record.iter().filter_map(|record| {
        let first = record.systems.first()?;
        let scores = first.scores.iter().map(|(_, score)| percent(score.f1));
        let words = [first.words.to_string(), format!("{:.0}", record.reference_words)];
        Some(std::iter::once(record.id.clone()).chain(scores).chain(words).collect())
    });
    Table { header, rows: rows.collect() }
}

/// What else there is to say of how the numbers came about, one sentence each.
pub(crate) fn notes(report: &Report) -> Vec<String> {
    let options = &report.options;
    let mut notes = Vec::new();
    if report.reference_texts > report.records {
        notes.push(format!("Of several references of a record: {}.", options.several_references));
    }
    let baselines = report.baselines.iter().map(|baseline| format!("{}: {}", baseline.name, baseline.description));
    let baselines: Vec<String> = baselines.collect();
    if let Some(first) = report.baselines.first() {
        let words = first.words;
        notes.push(format!("Asked for: {words} words, like the mean reference. {}.", baselines.join("; ")));
    } else if !options.baselines.is_empty() {
        notes.push("No baselines: not every record has its document.".to_owned());
    }
    notes
}

/// What was scored, and how.
pub(crate) fn scoring(records: usize, options: &Options) -> String {
    let stemming = if options.stemmer { "with" } else { "without" };
    let split = match options.sentence_split {
        SentenceSplit::Newline => "newline (a sentence a line)",
        SentenceSplit::Period => {
            "period (at marks that end a sentence; abbreviations, initials and decimals are known)"
        }
    };
    let records = counted(records, "record");
    format!("{records}; ROUGE F1 in percent, {stemming} stemming; sentence split: {split}.")
}

pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.2}", 100.0 * fraction)
}

pub(crate) fn interval(estimate: &Estimate) -> String {
    format!("{} to {}", percent(estimate.low), percent(estimate.high))
}
