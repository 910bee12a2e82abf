//! What is measured of a summary.

use serde::Serialize;

use super::ngrams::LONGEST_NGRAM;

/// How many values [`Measures`] has.
pub(super) const COUNT: usize = 16;

/// What is measured of a summary: a value each, or their mean over records, as `T` says.
///
/// Words are those ROUGE compares, without stemming; text in other scripts than the Latin has none. N-grams reach across
/// sentences. A summary has no value where there is nothing to measure: shares of no words, n-grams or sentences, and
/// everything that needs the document or reference where there is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measures<T> {
    /// Share of the words that lie in extractive fragments, 0 to 1 (Grusky et al. 2018).
    pub coverage: T,
    /// Mean over words of the length of the fragment each lies in, in words (the same source).
    pub density: T,
    /// Words of the document per word of the summary (the same source).
    pub compression: T,
    /// Share of n-grams that the document does not have, 0 to 1, for n from 1 to 4. Every occurrence counts.
    pub novel_ngrams: [T; LONGEST_NGRAM],
    /// Share of n-grams that stand earlier in the same summary, 0 to 1, for n from 1 to 4.
    pub repeated_ngrams: [T; LONGEST_NGRAM],
    /// Share of sentences with the same words as an earlier one, 0 to 1.
    pub repeated_sentences: T,
    /// 1 for a summary in which one to 64 words stand at least three times in a row, in at least ten words; else 0.
    pub has_loop: T,
    /// 1 for a summary without any word separated by white space, else 0.
    pub is_empty: T,
    /// 1 for a summary that ended at its length limit, else 0.
    pub is_cut: T,
    /// Words of the summary per word of the reference, both separated by white space.
    pub length_ratio: T,
}

impl<T> Measures<T> {
    /// What the values of [`Measures::rows`] are, and whether each is a share that is shown in percent.
    pub(crate) fn names() -> [(String, bool); COUNT] {
        let ngrams = |what: &str, n: usize| (format!("{what} {n}-grams"), true);
        let share = |name: &str| (name.to_owned(), true);
        let number = |name: &str| (name.to_owned(), false);
        Measures {
            coverage: share("coverage"),
            density: number("density"),
            compression: number("compression"),
            novel_ngrams: std::array::from_fn(|index| ngrams("novel", index + 1)),
            repeated_ngrams: std::array::from_fn(|index| ngrams("repeated", index + 1)),
            repeated_sentences: share("repeated sentences"),
            has_loop: share("with a loop"),
            is_empty: share("empty"),
            is_cut: share("cut at the length limit"),
            length_ratio: number("words per word of the reference"),
        }
        .into_array()
    }

    /// The values in the order of [`Measures::names`].
    pub(crate) fn rows(&self) -> [&T; COUNT] {
        let Self { coverage, density, compression, novel_ngrams, repeated_ngrams, .. } = self;
        let Self { repeated_sentences, has_loop, is_empty, is_cut, length_ratio, .. } = self;
        Measures {
            coverage,
            density,
            compression,
            novel_ngrams: novel_ngrams.each_ref(),
            repeated_ngrams: repeated_ngrams.each_ref(),
            repeated_sentences,
            has_loop,
            is_empty,
            is_cut,
            length_ratio,
        }
        .into_array()
    }

    /// The values in the order of the fields.
    pub(super) fn into_array(self) -> [T; COUNT] {
        let [novel1, novel2, novel3, novel4] = self.novel_ngrams;
        let [repeated1, repeated2, repeated3, repeated4] = self.repeated_ngrams;
        [
            self.coverage,
            self.density,
            self.compression,
            novel1,
            novel2,
            novel3,
            novel4,
            repeated1,
            repeated2,
            repeated3,
            repeated4,
            self.repeated_sentences,
            self.has_loop,
            self.is_empty,
            self.is_cut,
            self.length_ratio,
        ]
    }

    pub(super) fn from_array(values: [T; COUNT]) -> Self {
        let mut values = values.into_iter();
        let mut next = || values.next().expect("there is a value for every field");
        Self {
            coverage: next(),
            density: next(),
            compression: next(),
            novel_ngrams: [next(), next(), next(), next()],
            repeated_ngrams: [next(), next(), next(), next()],
            repeated_sentences: next(),
            has_loop: next(),
            is_empty: next(),
            is_cut: next(),
            length_ratio: next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Measures;

    #[test]
    fn order_is_that_of_the_fields() {
        let values = Measures::from_array(std::array::from_fn(|index| index));
        let json = serde_json::to_string(&values).expect("numbers");
        let digits: Vec<usize> =
            json.split(|c: char| !c.is_ascii_digit()).filter_map(|text| text.parse().ok()).collect();
        assert_eq!(digits, (0..16).collect::<Vec<_>>(), "{json}");
        assert_eq!(values.into_array(), std::array::from_fn(|index| index));
    }
}
