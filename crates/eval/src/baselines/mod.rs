//! Summaries that need no model: sentences of the document itself.
//!
//! `ends` takes the first or the last ones, `random` any, `lexrank` the central ones, and `oracle` those that ROUGE likes
//! best. All are functions of their [`BaselineInput`] alone.

mod ends;
mod lexrank;
mod oracle;
mod random;

use std::fmt;
use std::str::FromStr;

use crate::Role;
use crate::lengths::words;
pub(crate) use ends::{lead, tail};

/// A way of making a summary out of sentences of the document, to be scored beside a model's summaries.
///
/// [`Display`](fmt::Display) and [`FromStr`] use [`BaselineKind::name`].
///
/// ```
/// use epitome_eval::{BaselineInput, BaselineKind};
///
/// let document = "The dog barked. A cat sat on the mat. It rained.";
/// let input = BaselineInput::new(document, &["A cat sat."]);
/// let summaries = BaselineKind::STANDARD.map(|kind| (kind.to_string(), kind.summarize(&input)));
/// assert_eq!(summaries[0], ("lead".to_owned(), "The dog barked.".to_owned()));
/// assert_eq!(summaries[4], ("oracle".to_owned(), "A cat sat on the mat.".to_owned()));
/// assert_eq!("tail-2".parse::<BaselineKind>()?.summarize(&input), "A cat sat on the mat.\nIt rained.");
/// # Ok::<(), epitome_eval::UnknownBaseline>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BaselineKind {
    /// The first whole sentences that together have at least the words asked for.
    Lead,
    /// The last words, as many as asked for.
    Tail,
    /// The first sentences, as many as it says.
    LeadSentences(usize),
    /// The last sentences, as many as it says.
    TailSentences(usize),
    /// Sentences drawn without replacement until they have at least the words asked for.
    Random,
    /// The most central sentences (Erkan and Radev 2004) that together have at least the words asked for.
    LexRank,
    /// The sentences that a greedy search for the best ROUGE takes (Nallapati et al. 2017); sees the references.
    Oracle,
}

/// What a baseline may look at. Summaries have one sentence a line.
#[derive(Clone, Copy, Debug)]
pub struct BaselineInput<'a, S> {
    /// The text to take sentences from.
    pub document: &'a str,
    /// The references, for the oracle alone.
    pub references: &'a [S],
    /// How long the summary should be, in words separated by white space. The oracle finds its own length, as do
    /// [`BaselineKind::LeadSentences`] and [`BaselineKind::TailSentences`].
    pub words: usize,
    /// Decides the random sentences, together with `record`.
    pub seed: u64,
    /// The place of the record in its data set, so that records differ in what is drawn.
    pub record: u64,
    /// How the oracle compares words.
    pub rouge: rouge::Options,
}

impl<'a, S: AsRef<str>> BaselineInput<'a, S> {
    /// As long as the first reference (0 words without any), seed 0, record 0, words compared unstemmed.
    pub fn new(document: &'a str, references: &'a [S]) -> Self {
        let words = references.first().map_or(0, |reference| words(reference.as_ref()));
        Self { document, references, words, seed: 0, record: 0, rouge: rouge::Options::default() }
    }
}

impl BaselineKind {
    /// Those worth standing beside every model: lead, tail, random, lexrank and oracle.
    pub const STANDARD: [Self; 5] = [Self::Lead, Self::Tail, Self::Random, Self::LexRank, Self::Oracle];

    /// `lead`, `tail`, `lead-3`, `tail-3` (any number), `random`, `lexrank` or `oracle`.
    pub fn name(self) -> String {
        match self {
            Self::Lead => "lead".to_owned(),
            Self::Tail => "tail".to_owned(),
            Self::LeadSentences(count) => format!("lead-{count}"),
            Self::TailSentences(count) => format!("tail-{count}"),
            Self::Random => "random".to_owned(),
            Self::LexRank => "lexrank".to_owned(),
            Self::Oracle => "oracle".to_owned(),
        }
    }

    /// What it stands for in a comparison.
    pub(crate) fn role(self) -> Role {
        if self == Self::Oracle { Role::UpperBound } else { Role::Baseline }
    }

    /// What it is, for readers of a report.
    pub fn description(self) -> String {
        match self {
            Self::Lead => "first whole sentences with at least the words asked for".to_owned(),
            Self::Tail => "last words, as many as asked for".to_owned(),
            Self::LeadSentences(count) => format!("sentences from the beginning: {count}"),
            Self::TailSentences(count) => format!("sentences from the end: {count}"),
            Self::Random => "random sentences with at least the words asked for".to_owned(),
            Self::LexRank => "most central sentences (LexRank) with at least the words asked for".to_owned(),
            Self::Oracle => "sentences chosen greedily by ROUGE-1 and ROUGE-2 against the references".to_owned(),
        }
    }

    /// The summary of `input.document`, one sentence a line; empty for a document without sentences.
    pub fn summarize<S: AsRef<str>>(self, input: &BaselineInput<'_, S>) -> String {
        let document = input.document;
        match self {
            Self::Lead => lead(document, input.words),
            Self::Tail => tail(document, input.words),
            Self::LeadSentences(count) => ends::lead_sentences(document, count),
            Self::TailSentences(count) => ends::tail_sentences(document, count),
            Self::Random => random::random(document, input.words, input.seed, input.record),
            Self::LexRank => lexrank::lexrank(document, input.words),
            Self::Oracle => oracle::oracle(document, input.references, &input.rouge),
        }
    }
}

impl fmt::Display for BaselineKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name())
    }
}

/// A name that belongs to no baseline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown baseline {0:?}: expected lead, tail, lead-N, tail-N, random, lexrank or oracle")]
pub struct UnknownBaseline(String);

impl FromStr for BaselineKind {
    type Err = UnknownBaseline;

    fn from_str(name: &str) -> Result<Self, UnknownBaseline> {
        if let Some(kind) = Self::STANDARD.into_iter().find(|kind| kind.name() == name) {
            return Ok(kind);
        }
        let count = |prefix| name.strip_prefix(prefix)?.parse().ok();
        let lead = count("lead-").map(Self::LeadSentences);
        lead.or_else(|| count("tail-").map(Self::TailSentences)).ok_or_else(|| UnknownBaseline(name.to_owned()))
    }
}

/// The sentences at the first of the places `ranked` that together have at least `words` words, in document order.
fn take_words(sentences: &[&str], ranked: impl IntoIterator<Item = usize>, words: usize) -> String {
    let mut taken = Vec::new();
    let mut count = 0;
    let mut ranked = ranked.into_iter();
    while count < words
        && let Some(index) = ranked.next()
    {
        count += self::words(sentences[index]);
        taken.push(index);
    }
    in_document_order(sentences, taken)
}

fn in_document_order(sentences: &[&str], mut taken: Vec<usize>) -> String {
    taken.sort_unstable();
    let taken: Vec<&str> = taken.into_iter().map(|index| sentences[index]).collect();
    taken.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{BaselineInput, BaselineKind};

    #[test]
    fn names_are_read_back() {
        let counted = [BaselineKind::LeadSentences(3), BaselineKind::TailSentences(12)];
        for kind in BaselineKind::STANDARD.into_iter().chain(counted) {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert_eq!(BaselineKind::LeadSentences(3).name(), "lead-3");
        let error = "lead-x".parse::<BaselineKind>().expect_err("x is no number");
        assert!(error.to_string().starts_with("unknown baseline \"lead-x\""), "{error}");
    }

    #[test]
    fn nothing_comes_of_nothing() {
        for kind in BaselineKind::STANDARD {
            let summary = kind.summarize(&BaselineInput::new(" \n ", &["a reference"]));
            assert_eq!(summary, "", "{kind}");
            let none: [&str; 0] = [];
            assert_eq!(kind.summarize(&BaselineInput::new("A sentence.", &none)), "", "{kind}");
        }
    }
}
