//! Which keys a query sees: the three masks of LED as ranges, so that no mask tensor ever exists.

use crate::{Dropout, Precision, Segments};
use std::ops::Range;

/// Which keys of its own document a query sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Query i sees key j when |i - j| <= `radius` or j is global. Rows of global queries are skipped (output 0, no
    /// gradient): [`global_attention`](crate::global_attention) writes those.
    Band {
        /// Keys seen on each side of a query: half of LED's `attention_window`.
        radius: usize,
        /// For each document its global positions, counted from the document's start, ascending and without repeats.
        global: Vec<Vec<usize>>,
    },
    /// Query i sees the keys 0..=i + `past`.
    Causal {
        /// Number of keys before the first query.
        past: usize,
    },
    /// Every query sees every key.
    Full,
}

/// What one call of [`attention_forward`](crate::attention_forward) computes, apart from its tensors.
#[derive(Clone, Debug)]
pub struct Attention {
    /// The documents of the queries.
    pub queries: Segments,
    /// The same documents' keys and values.
    pub keys: Segments,
    /// Which of them a query sees.
    pub visibility: Visibility,
    /// What queries are multiplied by: 1 / sqrt(head size).
    pub scale: f32,
    /// Dropout of the probabilities, over global and band keys alike.
    pub dropout: Option<Dropout>,
    /// What the forward's products are made of: below f32 where the processor has an instruction for it. The backward
    /// computes in f32.
    pub precision: Precision,
}

impl Visibility {
    /// The document's global positions.
    pub(crate) fn global(&self, document: usize) -> &[usize] {
        match self {
            Visibility::Band { global, .. } => &global[document],
            Visibility::Causal { .. } | Visibility::Full => &[],
        }
    }

    /// The smallest range that holds every non-global key visible to one of `queries`, of `keys` keys.
    pub(crate) fn key_range(&self, queries: &Range<usize>, keys: usize) -> Range<usize> {
        let (first, end) = match self {
            Visibility::Band { radius, .. } => {
                (queries.start.saturating_sub(*radius), queries.end.saturating_add(*radius))
            }
            Visibility::Causal { past } => (0, queries.end.saturating_add(*past)),
            Visibility::Full => (0, keys),
        };
        let end = end.min(keys);
        first.min(end)..end
    }

    /// Those of `queries` that see the non-global key `key`, counted from the first of `queries`.
    pub(crate) fn query_range(&self, queries: &Range<usize>, key: usize) -> Range<usize> {
        let (first, end) = match self {
            Visibility::Band { radius, .. } => (key.saturating_sub(*radius), key.saturating_add(*radius + 1)),
            Visibility::Causal { past } => (key.saturating_sub(*past), usize::MAX),
            Visibility::Full => (0, usize::MAX),
        };
        let first = first.clamp(queries.start, queries.end);
        let end = end.clamp(first, queries.end);
        first - queries.start..end - queries.start
    }
}
