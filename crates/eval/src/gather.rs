//! From what was found of each record to the report on all of them.

use std::sync::Arc;

use rouge::{Metric, Score, bootstrap};

use crate::html::ShownRecord;
use crate::record::{Found, Scorer};
use crate::report::SCHEMA;
use crate::{
    Baseline, Comparisons, Error, LengthDistribution, MetricScores, Options, Profile, Profiler, RecordScores, Report,
    Result, Role, Scores, System, SystemRecord, SystemReport, compare, scores_by_document_length,
};

/// Groups of documents of about one length.
const LENGTH_GROUPS: usize = 5;

/// The numbers of all records so far.
pub(crate) struct Gathered {
    names: Vec<Arc<str>>,
    ids: Vec<String>,
    document_words: Vec<Option<usize>>,
    reference_texts: usize,
    references: Profiler,
    reference_words: Vec<f64>,
    systems: Vec<Column>,
    baselines: Vec<Column>,
    shown: Vec<ShownRecord>,
}

/// What one system, or baseline, made of every record.
#[derive(Default)]
struct Column {
    /// By record, then metric.
    scores: Vec<Vec<Score>>,
    words: Vec<usize>,
    profiler: Profiler,
}

impl Gathered {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self {
            systems: names.iter().map(|_| Column::default()).collect(),
            names: names.into_iter().map(Arc::from).collect(),
            ids: Vec::new(),
            document_words: Vec::new(),
            reference_texts: 0,
            references: Profiler::default(),
            reference_words: Vec::new(),
            baselines: Vec::new(),
            shown: Vec::new(),
        }
    }

    /// Adds the next record.
    pub(crate) fn add(&mut self, found: Found) {
        self.ids.push(found.id);
        self.document_words.push(found.document_words);
        self.reference_words.push(found.references.words);
        self.reference_texts += found.reference_texts;
        self.references.add(&found.references);
        for (column, (scores, characteristics)) in self.systems.iter_mut().zip(found.systems) {
            column.scores.push(scores);
            column.words.push(characteristics.words as usize);
            column.profiler.add(&characteristics);
        }
        self.baselines.resize_with(found.baselines.len(), Column::default);
        for (column, scores) in self.baselines.iter_mut().zip(found.baselines) {
            column.scores.push(scores);
        }
        self.shown.extend(found.shown);
    }

    /// What all records say together.
    pub(crate) fn report(mut self, scorer: &Scorer<'_>) -> Result<Report> {
        if self.ids.is_empty() {
            return Err(Error::NoRecords);
        }
        let Scorer { options, metrics, .. } = *scorer;
        let comparisons = self.comparisons(scorer)?;
        let document_words: Option<Vec<usize>> = self.document_words.iter().copied().collect();
        let profile = |profiler: &Profiler| profiler.profile(options.bootstrap, options.seed);
        let systems: Vec<SystemReport> = self
            .names
            .iter()
            .zip(&self.systems)
            .map(|(name, column)| {
                system(name, column, document_words.as_deref(), (options, metrics), profile(&column.profiler))
            })
            .collect();
        let baselines = scorer.baselines.iter().zip(&self.baselines);
        let baselines = baselines.map(|(&kind, column)| Baseline {
            name: kind.name(),
            description: kind.description(),
            upper_bound: kind.role() == Role::UpperBound,
            words: scorer.words,
            scores: column.aggregate(options, metrics),
        });
        Ok(Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            records: self.ids.len(),
            reference_texts: self.reference_texts,
            options: options.clone(),
            decoding: None,
            scores: systems.first().map(|system| system.scores.clone()).unwrap_or_default(),
            systems,
            baselines: baselines.collect(),
            comparisons,
            references: profile(&self.references),
            documents: document_words
                .map(|words| LengthDistribution::of(words.into_iter().map(|words| words as f64).collect())),
            ablation: Vec::new(),
            shown: std::mem::take(&mut self.shown),
            per_record: self.per_record(metrics),
        })
    }

    /// Systems and baselines, each with each.
    fn comparisons(&self, scorer: &Scorer<'_>) -> Result<Comparisons> {
        let names = self.names.iter().map(|name| (name.to_string(), Role::System));
        let kinds = scorer.baselines.iter().map(|&kind| (kind.name(), kind.role()));
        let names: Vec<(String, Role)> = names.chain(kinds).collect();
        let f1 = |column: &Column| column.f1(scorer.metrics.len());
        let columns: Vec<Vec<Vec<f64>>> = self.systems.iter().chain(&self.baselines).map(f1).collect();
        let systems = names.iter().zip(&columns).map(|((name, role), column)| System {
            name,
            role: *role,
            scores: column.iter().map(Vec::as_slice).collect(),
        });
        let metrics: Vec<String> = scorer.metrics.iter().map(Metric::to_string).collect();
        let metrics: Vec<&str> = metrics.iter().map(String::as_str).collect();
        Ok(compare(&metrics, &systems.collect::<Vec<_>>(), scorer.options, scorer.options.randomizations)?)
    }

    fn per_record(self, metrics: &[Metric]) -> Vec<RecordScores> {
        let mut systems: Vec<_> =
            self.systems.into_iter().map(|column| column.scores.into_iter().zip(column.words)).collect();
        let records = self.ids.into_iter().zip(self.document_words).zip(self.reference_words);
        let records = records.map(|((id, document_words), reference_words)| {
            let systems = self.names.iter().zip(&mut systems).map(|(name, column)| {
                let (scores, words) = column.next().expect("every column has every record");
                SystemRecord { system: Arc::clone(name), words, scores: metrics.iter().copied().zip(scores).collect() }
            });
            RecordScores { id, document_words, reference_words, systems: systems.collect() }
        });
        records.collect()
    }
}

fn system(
    name: &str,
    column: &Column,
    document_words: Option<&[usize]>,
    (options, metrics): (&Options, &[Metric]),
    profile: Profile,
) -> SystemReport {
    let by_length = |(metric, f1): (&Metric, Vec<f64>)| {
        let words = document_words?;
        Some((*metric, scores_by_document_length(words, &f1, LENGTH_GROUPS, options.bootstrap, options.seed)))
    };
    SystemReport {
        name: name.to_owned(),
        scores: column.aggregate(options, metrics),
        profile,
        by_document_length: metrics.iter().zip(column.f1(metrics.len())).filter_map(by_length).collect(),
    }
}

impl Column {
    /// By metric, the scores of all records together.
    fn aggregate(&self, options: &Options, metrics: &[Metric]) -> Scores {
        let aggregate = |(index, &metric): (usize, &Metric)| {
            let of_metric: Vec<Score> = self.scores.iter().map(|record| record[index]).collect();
            let found = bootstrap(&of_metric, options.bootstrap, options.seed).expect("there is at least one record");
            (metric, MetricScores::from_aggregate(&found))
        };
        Scores(metrics.iter().enumerate().map(aggregate).collect())
    }

    /// By metric, then record.
    fn f1(&self, metrics: usize) -> Vec<Vec<f64>> {
        (0..metrics).map(|metric| self.scores.iter().map(|record| record[metric].f1).collect()).collect()
    }
}
