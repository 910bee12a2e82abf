//! One prediction against one reference.

use crate::lcs::Aligner;
use crate::tokenize::{Text, Vocabulary};
use crate::{Metric, Options, Score, ngram};

/// A reference and a prediction, tokenized once for all metrics.
///
/// ```
/// use rouge::{Metric, Options, Pair};
///
/// let pair = Pair::new("The cat sat on the mat.", "The cat lay on the mat.", &Options::default());
/// assert_eq!(pair.score(Metric::N(3)).f1, 0.25); // "on the mat"
/// assert_eq!(pair.score(Metric::L).recall, 5.0 / 6.0);
/// ```
#[derive(Debug)]
pub struct Pair {
    reference: Text,
    prediction: Text,
    /// Different tokens in both texts.
    vocabulary: usize,
}

impl Pair {
    /// Tokenizes both texts.
    pub fn new(reference: &str, prediction: &str, options: &Options) -> Self {
        let mut vocabulary = Vocabulary::new(options);
        Self {
            reference: vocabulary.read(reference),
            prediction: vocabulary.read(prediction),
            vocabulary: vocabulary.len(),
        }
    }

    /// The score of one metric.
    pub fn score(&self, metric: Metric) -> Score {
        match metric {
            Metric::N(n) => self.rouge_n(n),
            Metric::L => self.rouge_l(),
            Metric::Lsum => self.rouge_lsum(),
        }
    }

    /// ROUGE-N: overlap of the n-grams, each counted at most as often as in the other text. 0 for `n` = 0.
    pub fn rouge_n(&self, n: usize) -> Score {
        ngram::score(&self.reference.tokens, &self.prediction.tokens, n)
    }

    /// ROUGE-L: longest common subsequence of the whole texts, line breaks ignored.
    ///
    /// Memory is linear in the lengths, time their product / 64.
    pub fn rouge_l(&self) -> Score {
        let (reference, prediction) = (&self.reference.tokens, &self.prediction.tokens);
        let mut aligner = Aligner::new(self.vocabulary);
        aligner.load(prediction);
        let matches = aligner.length(reference);
        Score::from_matches(matches, reference.len(), prediction.len())
    }

    /// ROUGE-Lsum: for each reference line, the union of its longest common subsequences with all prediction lines.
    ///
    /// No token counts more often than it occurs in either text.
    pub fn rouge_lsum(&self) -> Score {
        let matches = self.lsum_matches();
        let (reference, prediction) = (&self.reference.tokens, &self.prediction.tokens);
        Score::from_matches(matches, reference.len(), prediction.len())
    }

    fn lsum_matches(&self) -> usize {
        let mut in_union = vec![false; self.reference.tokens.len()];
        let mut aligner = Aligner::new(self.vocabulary);
        for line in self.prediction.lines() {
            aligner.load(line);
            let mut start = 0;
            for line in self.reference.lines() {
                let end = start + line.len();
                aligner.mark(line, &mut in_union[start..end]);
                start = end;
            }
        }
        // A marked token is in the reference, so only the prediction's counts can run out.
        let mut remaining = vec![0usize; self.vocabulary];
        for &token in &self.prediction.tokens {
            remaining[token as usize] += 1;
        }
        let marked = self.reference.tokens.iter().zip(in_union);
        let mut take = |token: u32| {
            let left = &mut remaining[token as usize];
            let taken = *left > 0;
            *left -= usize::from(taken);
            taken
        };
        marked.filter(|&(&token, marked)| marked && take(token)).count()
    }
}
