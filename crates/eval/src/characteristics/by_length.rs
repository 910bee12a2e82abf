//! Scores by the length of the document.

use serde::Serialize;

use super::profile::estimate;
use crate::Estimate;

/// The scores of the records whose documents are about as long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LengthGroup {
    /// Words of the shortest document.
    pub shortest: usize,
    /// Words of the longest document.
    pub longest: usize,
    /// How many records there are.
    pub records: usize,
    /// The mean of their scores with its 95 % interval.
    pub score: Estimate,
}

/// Groups records by the length of their document and gives the mean score of each group, shortest documents first.
///
/// `document_words` and `scores` have one entry a record. The records, sorted by length, are cut into `groups` groups of
/// equal size, or sizes that differ by one; records of one length stay in their order and may come to different groups.
/// Fewer records than groups make a group each. `resamples` and `seed` as in [`rouge::bootstrap`].
///
/// ```
/// let groups = epitome_eval::scores_by_document_length(&[900, 100, 200, 800], &[0.1, 0.4, 0.2, 0.1], 2, 1000, 0);
/// assert_eq!((groups[0].shortest, groups[0].longest), (100, 200));
/// assert!(groups[0].score.mean > groups[1].score.mean);
/// ```
///
/// # Panics
/// If the two lists differ in length.
pub fn scores_by_document_length(
    document_words: &[usize],
    scores: &[f64],
    groups: usize,
    resamples: usize,
    seed: u64,
) -> Vec<LengthGroup> {
    assert_eq!(document_words.len(), scores.len(), "one length and one score a record");
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by_key(|&record| document_words[record]);
    let groups = groups.min(order.len());
    let group = |index: usize| {
        let members = &order[index * order.len() / groups..(index + 1) * order.len() / groups];
        let scores: Vec<f64> = members.iter().map(|&record| scores[record]).collect();
        Some(LengthGroup {
            shortest: document_words[*members.first()?],
            longest: document_words[*members.last()?],
            records: members.len(),
            score: estimate(&scores, resamples, seed)?,
        })
    };
    (0..groups).filter_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_equal_counts() {
        let words = [7, 1, 3, 3, 9, 2, 8];
        let scores = [0.7, 0.1, 0.3, 0.4, 0.9, 0.2, 0.8];
        let found = scores_by_document_length(&words, &scores, 3, 0, 0);
        let ranges: Vec<_> = found.iter().map(|group| (group.shortest, group.longest, group.records)).collect();
        assert_eq!(ranges, [(1, 2, 2), (3, 3, 2), (7, 9, 3)]);
        let means: Vec<_> = found.iter().map(|group| group.score.mean).collect();
        assert_eq!(means, [(0.1 + 0.2) / 2.0, (0.3 + 0.4) / 2.0, (0.7 + 0.8 + 0.9) / 3.0]);
    }

    #[test]
    fn few_records() {
        let found = scores_by_document_length(&[5, 4], &[0.5, 0.4], 5, 10, 0);
        assert_eq!(found.iter().map(|group| group.longest).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(scores_by_document_length(&[], &[], 5, 10, 0), []);
        assert_eq!(scores_by_document_length(&[5], &[0.5], 0, 10, 0), []);
    }
}
