//! What summaries are like, beside how well they match their references: how much they copy and from where, how much they
//! repeat, how long they are.
//!
//! [`Characteristics`] are numbers of one record, a [`Profiler`] makes a [`Profile`] of those of many.

mod by_length;
mod document;
mod fragments;
mod measures;
mod ngrams;
mod profile;
#[cfg(test)]
mod random;
mod repetition;

pub use by_length::{LengthGroup, scores_by_document_length};
pub use document::SourceDocument;
pub use fragments::{Alignment, POSITION_BINS};
pub use measures::Measures;
pub use ngrams::LONGEST_NGRAM;
pub use profile::{LengthDistribution, LengthRange, MeanOfRecords, Profile, Profiler};

use crate::lengths::words;

/// What the summary, or the references, of one record are like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Characteristics {
    /// Words separated by white space; of several references their mean.
    pub words: f64,
    /// Everything that is averaged over records.
    pub measures: Measures<Option<f64>>,
    /// How many copied words stand in each twentieth of the document, as in [`Profile::source_words`].
    pub source_words: [u64; POSITION_BINS],
}

impl Characteristics {
    /// Of a text alone, with its document where that is known.
    ///
    /// ```
    /// use epitome_eval::{Characteristics, SourceDocument};
    ///
    /// let document = SourceDocument::new("The cat came in. It sat on the mat and slept.");
    /// let measures = Characteristics::of("A cat sat on the mat.", Some(&document)).measures;
    /// assert_eq!(measures.coverage, Some(5.0 / 6.0));
    /// assert_eq!(measures.density, Some((1.0 + 16.0) / 6.0));
    /// assert_eq!(measures.novel_ngrams[1], Some(2.0 / 5.0));
    /// ```
    pub fn of(text: &str, document: Option<&SourceDocument>) -> Self {
        let read = document.map_or_else(|| SourceDocument::new("").read(text), |document| document.read(text));
        let numbers = read.numbers.as_slice();
        let mut measures = Measures {
            repeated_ngrams: ngrams::repeated(numbers),
            repeated_sentences: repetition::repeated_sentences(text),
            has_loop: Some(flag(repetition::has_loop(numbers))),
            is_empty: Some(flag(words(text) == 0)),
            ..Measures::default()
        };
        let mut source_words = [0; POSITION_BINS];
        if let (Some(document), false) = (document, numbers.is_empty()) {
            let found = fragments::fragments(document, numbers);
            measures.coverage = Some(fragments::coverage(&found, numbers.len()));
            measures.density = Some(fragments::density(&found, numbers.len()));
            measures.compression = Some(document.len() as f64 / numbers.len() as f64);
            measures.novel_ngrams = ngrams::novel(document, numbers);
            source_words = fragments::source_positions(&found, document.len());
        }
        Self { words: words(text) as f64, measures, source_words }
    }

    /// Of a system's `summary`, with its length as a share of that of the `references`, of several of their mean.
    ///
    /// `is_cut` says whether the summary ended at its length limit, where that is known: whether its last token is not the
    /// one that ends a text.
    pub fn of_summary<S: AsRef<str>>(
        summary: &str,
        is_cut: Option<bool>,
        references: &[S],
        document: Option<&SourceDocument>,
    ) -> Self {
        let mut found = Self::of(summary, document);
        let reference_words = mean(references.iter().map(|text| Some(words(text.as_ref()) as f64)));
        found.measures.length_ratio =
            reference_words.filter(|&reference| reference > 0.0).map(|reference| found.words / reference);
        found.measures.is_cut = is_cut.map(flag);
        found
    }

    /// Of the references of one record: means over those that have a value, and the copied words of all together.
    pub fn of_references<S: AsRef<str>>(references: &[S], document: Option<&SourceDocument>) -> Self {
        let all: Vec<Self> = references.iter().map(|text| Self::of(text.as_ref(), document)).collect();
        let values: Vec<_> = all.iter().map(|found| found.measures.clone().into_array()).collect();
        Self {
            words: mean(all.iter().map(|found| Some(found.words))).unwrap_or_default(),
            measures: Measures::from_array(std::array::from_fn(|index| mean(values.iter().map(|row| row[index])))),
            source_words: std::array::from_fn(|bin| all.iter().map(|found| found.source_words[bin]).sum()),
        }
    }
}

/// 1 for true, so that the mean is a share.
fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// The mean of the values that are there; `None` without any.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.flatten().collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::random::Random;
    use super::*;

    #[test]
    fn an_identical_text_is_one_fragment() {
        let text = "One two three four five, six.";
        let measures =
            Characteristics::of_summary(text, Some(false), &[text], Some(&SourceDocument::new(text))).measures;
        assert_eq!((measures.coverage, measures.density, measures.compression), (Some(1.0), Some(6.0), Some(1.0)));
        assert_eq!(measures.novel_ngrams, [Some(0.0); 4]);
        assert_eq!((measures.length_ratio, measures.is_cut, measures.is_empty), (Some(1.0), Some(0.0), Some(0.0)));
    }

    #[test]
    fn empty_texts_have_no_shares() {
        let found = Characteristics::of_summary(" \n", Some(true), &["a b"], Some(&SourceDocument::new("a")));
        let expected = Measures {
            has_loop: Some(0.0),
            is_empty: Some(1.0),
            is_cut: Some(1.0),
            length_ratio: Some(0.0),
            ..Measures::default()
        };
        assert_eq!(found, Characteristics { words: 0.0, measures: expected, source_words: [0; 20] });
        let measures = Characteristics::of_summary("a b", None, &["", " "], Some(&SourceDocument::new(""))).measures;
        assert_eq!((measures.coverage, measures.compression), (Some(0.0), Some(0.0)));
        assert_eq!((measures.novel_ngrams[1], measures.length_ratio), (Some(1.0), None));
    }

    #[test]
    fn other_scripts_have_no_words_of_rouge() {
        let found = Characteristics::of("\u{4F60}\u{597D} \u{4E16}", Some(&SourceDocument::new("\u{4F60}")));
        assert_eq!((found.words, found.measures.is_empty), (2.0, Some(0.0)));
        assert_eq!((found.measures.coverage, found.measures.repeated_sentences), (None, None));
    }

    #[test]
    fn without_a_document_there_is_repetition_only() {
        let measures = Characteristics::of("no cats. no cats.", None).measures;
        assert_eq!((measures.coverage, measures.novel_ngrams), (None, [None; 4]));
        assert_eq!((measures.repeated_ngrams[0], measures.repeated_sentences), (Some(0.5), Some(0.5)));
    }

    #[test]
    fn references_are_averaged() {
        let document = SourceDocument::new("a b c d e f g h i j k l m n o p q r s t");
        let found = Characteristics::of_references(&["a b c", "x", ""], Some(&document));
        assert_eq!(found.words, 4.0 / 3.0);
        assert_eq!((found.measures.coverage, found.measures.compression), (Some(0.5), Some((20.0 / 3.0 + 20.0) / 2.0)));
        assert_eq!(found.measures.novel_ngrams[2], Some(0.0));
        assert_eq!(found.source_words[..4], [1, 1, 1, 0]);
        assert_eq!(Characteristics::of_references::<&str>(&[], None), Characteristics::default());
    }

    #[test]
    fn new_words_are_those_not_covered() {
        let mut random = Random(6);
        for _ in 0..300 {
            let document = SourceDocument::new(&random.text(40, 4));
            let measures = Characteristics::of(&random.text(20, 6), Some(&document)).measures;
            let sum = measures.coverage.zip(measures.novel_ngrams[0]).map(|(coverage, novel)| coverage + novel);
            assert!(sum.is_none_or(|sum| (sum - 1.0).abs() < 1e-12), "{measures:?}");
        }
    }
}
