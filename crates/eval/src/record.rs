//! What is found of one record.

use rouge::{Metric, Pair, Score};

use crate::html::ShownRecord;
use crate::join::Joined;
use crate::lengths::words;
use crate::{BaselineInput, BaselineKind, Characteristics, Options, SourceDocument};

/// What one record adds to a report.
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) document_words: Option<usize>,
    pub(crate) reference_texts: usize,
    pub(crate) references: Characteristics,
    /// By system: the score by each metric, and what the summary is like.
    pub(crate) systems: Vec<(Vec<Score>, Characteristics)>,
    /// By baseline.
    pub(crate) baselines: Vec<Vec<Score>>,
    pub(crate) shown: Option<ShownRecord>,
}

/// How records are looked at.
pub(crate) struct Scorer<'a> {
    pub(crate) options: &'a Options,
    pub(crate) metrics: &'a [Metric],
    /// Those that are scored, which need documents.
    pub(crate) baselines: &'a [BaselineKind],
    /// The length of their summaries, in words.
    pub(crate) words: usize,
}

impl Scorer<'_> {
    pub(crate) fn find(&self, record: &Joined) -> Found {
        let Joined { index, reference, predictions } = record;
        let text = reference.document();
        let document = text.as_deref().map(SourceDocument::new);
        let split = self.options.sentence_split;
        let references: Vec<_> = reference.references.iter().map(|text| split.apply(text)).collect();
        let score = |summary: &str| self.score(&references, &split.apply(summary));
        let systems = predictions.iter().map(|prediction| {
            let (summary, is_cut) = (prediction.summary.as_str(), prediction.is_cut);
            (score(summary), Characteristics::of_summary(summary, is_cut, &reference.references, document.as_ref()))
        });
        let baseline = |kind: &BaselineKind| {
            let input = BaselineInput {
                document: text.as_deref().unwrap_or_default(),
                references: &references,
                words: self.words,
                seed: self.options.seed,
                record: *index as u64,
                rouge: self.options.rouge(),
            };
            score(&kind.summarize(&input))
        };
        Found {
            id: reference.id.clone(),
            document_words: text.as_deref().map(words),
            reference_texts: references.len(),
            references: Characteristics::of_references(&reference.references, document.as_ref()),
            systems: systems.collect(),
            baselines: self.baselines.iter().map(baseline).collect(),
            shown: (*index < self.options.shown_records)
                .then(|| ShownRecord::new(reference, predictions, document.as_ref())),
        }
    }

    /// The score by each metric; of several references as the options say.
    fn score<S: AsRef<str>>(&self, references: &[S], summary: &str) -> Vec<Score> {
        let rouge = self.options.rouge();
        let pairs: Vec<Pair> = references.iter().map(|text| Pair::new(text.as_ref(), summary, &rouge)).collect();
        let of_metric = |&metric: &Metric| {
            let scores: Vec<Score> = pairs.iter().map(|pair| pair.score(metric)).collect();
            self.options.several_references.of(&scores)
        };
        self.metrics.iter().map(of_metric).collect()
    }
}
