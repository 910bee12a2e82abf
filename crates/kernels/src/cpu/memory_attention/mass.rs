//! The same attention for many rows at a time, with the share of each row's softmax that falls on spans of keys.
//!
//! A task is some rows and a head. It goes through the keys chunk by chunk and adds up what a span's keys have in each, so
//! that nothing of size queries x keys is kept, and what is found depends on the row and its document alone.

use super::{HeadMemory, Partial, Scratch, Stored, merge};
use crate::cpu::math::exp;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a task: they share what is read of keys and values. A multiple of a tile's rows.
const ROWS: usize = 24;

/// The rows of a document, with what they attend to.
pub(crate) struct SpannedQueries<'a, W> {
    /// One a head.
    pub(crate) heads: &'a [HeadMemory<W>],
    pub(crate) rows: Range<usize>,
    /// Ascending, without overlap, within the document's keys.
    pub(crate) spans: &'a [Range<usize>],
}

/// The context [R, H, D] of all queries [R, H, D], whose documents follow each other, and for each row the mean over the
/// heads of what the softmax has on each of its document's spans.
pub(crate) fn attend_with_mass<W: Stored>(
    query: &[f32],
    head_size: usize,
    scale: f32,
    all: &[SpannedQueries<'_, W>],
) -> (Vec<f32>, Vec<Vec<f32>>) {
    let blocks: Vec<(&SpannedQueries<'_, W>, Range<usize>)> = all
        .iter()
        .flat_map(|one| {
            let end = one.rows.end;
            one.rows.clone().step_by(ROWS).map(move |first| (one, first..end.min(first + ROWS)))
        })
        .collect();
    let found: Vec<(Vec<f32>, Vec<Vec<f32>>)> =
        blocks.into_par_iter().map(|(one, rows)| block(query, head_size, scale, one, rows)).collect();
    let (contexts, masses): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    (contexts.concat(), masses.into_iter().flatten().collect())
}

/// Context [rows, H, D] and masses of some rows of a document.
fn block<W: Stored>(
    query: &[f32],
    head_size: usize,
    scale: f32,
    one: &SpannedQueries<'_, W>,
    rows: Range<usize>,
) -> (Vec<f32>, Vec<Vec<f32>>) {
    let heads = one.heads.len();
    let at = |row: usize, head: usize| (row * heads + head) * head_size;
    let found: Vec<Vec<HeadRow>> = (0..heads)
        .into_par_iter()
        .map(|head| {
            let mut scratch = Scratch::<W>::default();
            scratch.take(query, rows.clone().map(|row| at(row, head)), head_size, scale);
            scratch.all_chunks(&one.heads[head], one.spans, rows.len())
        })
        .collect();
    let mut context = vec![0.0; rows.len() * heads * head_size];
    let mut masses = vec![vec![0.0; one.spans.len()]; rows.len()];
    for (head, found) in found.into_iter().enumerate() {
        for (row, found) in found.into_iter().enumerate() {
            context[at(row, head)..][..head_size].copy_from_slice(&found.context);
            masses[row].iter_mut().zip(found.masses).for_each(|(sum, mass)| *sum += mass / heads as f32);
        }
    }
    (context, masses)
}

/// What a head finds for a row.
struct HeadRow {
    context: Vec<f32>,
    /// Of each span.
    masses: Vec<f32>,
}

impl<W: Stored> Scratch<W> {
    fn all_chunks(&mut self, memory: &HeadMemory<W>, spans: &[Range<usize>], rows: usize) -> Vec<HeadRow> {
        let chunks: Vec<(Range<usize>, Vec<Partial>)> = (0..memory.chunks())
            .map(|chunk| {
                let keys = memory.chunk(chunk);
                let touched = touched(spans, &keys);
                (touched.clone(), self.chunk(memory, keys, rows, &spans[touched]))
            })
            .collect();
        (0..rows)
            .map(|row| {
                let mut found = HeadRow { context: vec![0.0; memory.values.columns()], masses: vec![0.0; spans.len()] };
                if chunks.is_empty() {
                    return found;
                }
                let [maximum, total] = merge(&mut found.context, chunks.iter().map(|(_, partials)| &partials[row]));
                for (touched, partials) in &chunks {
                    let partial = &partials[row];
                    let factor = exp::<false>(partial.maximum - maximum) / total;
                    let sums = found.masses[touched.clone()].iter_mut().zip(&partial.masses);
                    sums.for_each(|(sum, mass)| *sum += factor * mass);
                }
                found
            })
            .collect()
    }
}

/// Which of the spans have keys among `keys`.
fn touched(spans: &[Range<usize>], keys: &Range<usize>) -> Range<usize> {
    let first = spans.partition_point(|span| span.end <= keys.start);
    first..spans.partition_point(|span| span.start < keys.end).max(first)
}

/// Sums of a row of exponentials, those of `keys`, over each of the spans.
pub(super) fn sums_over(spans: &[Range<usize>], keys: &Range<usize>, exponentials: &[f32]) -> Vec<f32> {
    let within = |key: usize| key.clamp(keys.start, keys.end) - keys.start;
    spans.iter().map(|span| sum(&exponentials[within(span.start)..within(span.end)])).collect()
}

fn sum(values: &[f32]) -> f32 {
    const LANES: usize = 8;
    let (groups, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for group in groups {
        lanes.iter_mut().zip(group).for_each(|(lane, value)| *lane += value);
    }
    lanes.iter().chain(rest).sum()
}
