//! Where each document of a packed batch begins and ends.

use std::ops::Range;

/// Documents laid end to end: document `b` owns the rows `range(b)` of a `[T, ...]` tensor.
///
/// ```
/// use epitome_kernels::Segments;
/// let segments = Segments::from_lengths(&[3, 0, 2]);
/// assert_eq!(segments.total(), 5);
/// assert_eq!(segments.range(2), 3..5);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Row at which each document begins, then the total: one entry more than there are documents, the first 0.
    offsets: Vec<usize>,
}

impl Segments {
    /// Segments of the given lengths (rows), in order. Lengths of 0 are allowed.
    pub fn from_lengths(lengths: &[usize]) -> Self {
        let mut offsets = Vec::with_capacity(lengths.len() + 1);
        let mut end = 0;
        offsets.push(end);
        for length in lengths {
            end += length;
            offsets.push(end);
        }
        Self { offsets }
    }

    /// One document of `length` rows.
    pub fn single(length: usize) -> Self {
        Self::from_lengths(&[length])
    }

    /// Number of documents.
    pub fn count(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of rows of all documents together.
    pub fn total(&self) -> usize {
        self.offsets[self.count()]
    }

    /// Rows of document `b`. Panics when there is no document `b`.
    pub fn range(&self, b: usize) -> Range<usize> {
        self.offsets[b]..self.offsets[b + 1]
    }

    /// Number of rows of document `b`. Panics when there is no document `b`.
    pub fn length(&self, b: usize) -> usize {
        self.range(b).len()
    }

    /// Rows of the longest document; 0 without documents.
    pub fn max_length(&self) -> usize {
        self.ranges().map(|range| range.len()).max().unwrap_or(0)
    }

    /// The row range of every document, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.offsets.windows(2).map(|pair| pair[0]..pair[1])
    }
}
