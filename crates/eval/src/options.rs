//! How predictions and references are compared.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use epitome_sentences::sentences;
use rouge::Metric;
use serde::Serialize;

use crate::{Error, Result};

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
    /// ROUGE-N for these N besides 1 and 2. None by default.
    pub extra_ngrams: Vec<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stemmer: false,
            sentence_split: SentenceSplit::default(),
            bootstrap: 1000,
            seed: 0,
            extra_ngrams: Vec::new(),
        }
    }
}

impl Options {
    /// ROUGE-1, ROUGE-2, the extra ones in ascending order, ROUGE-L, ROUGE-Lsum.
    pub(crate) fn metrics(&self) -> Result<Vec<Metric>> {
        let mut ngrams = self.extra_ngrams.clone();
        ngrams.extend([1, 2]);
        ngrams.sort_unstable();
        ngrams.dedup();
        if ngrams[0] == 0 {
            return Err(Error::ZeroNgram);
        }
        let ngrams = ngrams.into_iter().map(Metric::N);
        Ok(ngrams.chain([Metric::L, Metric::Lsum]).collect())
    }

    pub(crate) fn rouge(&self) -> rouge::Options {
        rouge::Options { stemmer: self.stemmer }
    }
}
