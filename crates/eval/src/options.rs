//! How predictions and references are compared.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use epitome_sentences::sentences;
use rouge::{Metric, Score};
use serde::{Serialize, Serializer};

use crate::{BaselineKind, ComparisonError, RANDOMIZATIONS, Result};

/// Where the sentences of predictions and references end; ROUGE-Lsum depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SentenceSplit {
    /// Only at line breaks.
    #[default]
    Newline,
    /// At line breaks and where [`sentences`] finds the end of a sentence.
    Period,
}

impl SentenceSplit {
    /// The text with every sentence on a line of its own.
    pub(crate) fn apply(self, text: &str) -> Cow<'_, str> {
        match self {
            SentenceSplit::Newline => Cow::Borrowed(text),
            SentenceSplit::Period => Cow::Owned(sentences(text).join("\n")),
        }
    }
}

impl fmt::Display for SentenceSplit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            SentenceSplit::Newline => "newline",
            SentenceSplit::Period => "period",
        })
    }
}

/// A way of splitting that is neither `newline` nor `period`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown sentence split {0:?}: expected newline or period")]
pub struct UnknownSplit(String);

impl FromStr for SentenceSplit {
    type Err = UnknownSplit;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownSplit> {
        match name {
            "newline" => Ok(SentenceSplit::Newline),
            "period" => Ok(SentenceSplit::Period),
            other => Err(UnknownSplit(other.to_owned())),
        }
    }
}

/// Which score counts where a record has several references.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SeveralReferences {
    /// That with the best F1, for each metric on its own.
    #[default]
    Max,
    /// The mean of all.
    Mean,
}

impl SeveralReferences {
    /// The score that counts of those against each reference; 0 without any.
    pub(crate) fn of(self, scores: &[Score]) -> Score {
        let best = |best: Score, next: &Score| if next.f1 > best.f1 { *next } else { best };
        let count = scores.len().max(1) as f64;
        let mean = |field: fn(&Score) -> f64| scores.iter().map(field).sum::<f64>() / count;
        match self {
            Self::Max => scores.iter().skip(1).fold(scores.first().copied().unwrap_or_default(), best),
            Self::Mean => Score {
                precision: mean(|score| score.precision),
                recall: mean(|score| score.recall),
                f1: mean(|score| score.f1),
            },
        }
    }
}

impl fmt::Display for SeveralReferences {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Max => "max",
            Self::Mean => "mean",
        })
    }
}

/// A choice that is neither `max` nor `mean`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown choice {0:?}: expected max or mean")]
pub struct UnknownChoice(String);

impl FromStr for SeveralReferences {
    type Err = UnknownChoice;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownChoice> {
        match name {
            "max" => Ok(Self::Max),
            "mean" => Ok(Self::Mean),
            other => Err(UnknownChoice(other.to_owned())),
        }
    }
}

/// How predictions and references are compared. Written to `report.json` as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Options {
    /// Compare stems instead of words. Off by default.
    pub stemmer: bool,
    /// Where sentences end. At line breaks by default.
    pub sentence_split: SentenceSplit,
    /// Resamples for the intervals; 0 for none. 1000 by default.
    pub bootstrap: usize,
    /// Decides the resamples. 0 by default.
    pub seed: u64,
    /// Of several references the one with the best F1 counts by default.
    pub several_references: SeveralReferences,
    /// Summaries to score beside the systems, where every record has its document; `BaselineKind::STANDARD` by default.
    #[serde(serialize_with = "names")]
    pub baselines: Vec<BaselineKind>,
    /// Random assignments of signs for p-values; [`RANDOMIZATIONS`] by default.
    pub randomizations: usize,
    /// How many records `report.html` shows with their texts, the first ones; 1000 by default.
    pub shown_records: usize,
}

fn names<S: Serializer>(kinds: &[BaselineKind], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(kinds.iter().map(|kind| kind.name()))
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stemmer: false,
            sentence_split: SentenceSplit::default(),
            bootstrap: 1000,
            seed: 0,
            several_references: SeveralReferences::default(),
            baselines: BaselineKind::STANDARD.to_vec(),
            randomizations: RANDOMIZATIONS,
            shown_records: 1000,
        }
    }
}

/// What summaries are scored by, in this order.
pub(crate) const METRICS: [Metric; 4] = [Metric::N(1), Metric::N(2), Metric::L, Metric::Lsum];

impl Options {
    /// Checks that systems and baselines can be told apart.
    ///
    /// # Errors
    /// Names the first that cannot.
    pub fn check_names(&self, systems: &[String]) -> Result<()> {
        let mut known = HashSet::new();
        let names = systems.iter().cloned().chain(self.baselines.iter().map(|kind| kind.name()));
        match names.into_iter().find(|name| !known.insert(name.clone())) {
            Some(name) => Err(ComparisonError::DoubledName { name }.into()),
            None => Ok(()),
        }
    }

    pub(crate) fn rouge(&self) -> rouge::Options {
        rouge::Options { stemmer: self.stemmer }
    }
}
