//! Attention of few queries to many keys that stay the same from call to call: the cross-attention of a decoding step.
//!
//! It is bound by the bytes of keys and values, so those lie in the order in which they are read, in the precision of the
//! decoding, and all queries of a document (its beams) read them together. Keys are split into chunks between the
//! threads, each with a softmax of its own; these are merged by their log-sum-exp in the order of the keys, so the result
//! depends on neither threads nor other documents.

use super::math::{dispatch, exp, larger};
use super::panels::{PANEL, Panels};
use super::product::{Part, Target, multiply_part};
use super::tile::{Pair, Word, round_row};
use super::view::View;
use rayon::prelude::*;
use std::ops::Range;

/// Keys of a chunk: 256 KiB of keys of 64 numbers and as much of values.
const CHUNK: usize = 1024;

/// Keys [D, n] and values [n, D] of one document and head, depths in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadMemory<W> {
    keys: Panels<W>,
    values: Panels<W>,
}

/// A kind of word that keys and values can be kept in.
pub(crate) trait Stored: Word {
    /// Keys in a word of values.
    const GROUP: usize;
    fn pack(panels: &mut Panels<Self>, source: View<'_>);
    /// A row of numbers as words, in place or in `buffer`.
    fn row<'a>(buffer: &'a mut Vec<Self>, row: &'a [f32]) -> &'a [Self];
}

impl Stored for f32 {
    const GROUP: usize = 1;

    fn pack(panels: &mut Panels, source: View<'_>) {
        panels.pack(source, 1.0);
    }

    fn row<'a>(_: &'a mut Vec<f32>, row: &'a [f32]) -> &'a [f32] {
        row
    }
}

impl Stored for Pair {
    const GROUP: usize = 2;

    fn pack(panels: &mut Panels<Self>, source: View<'_>) {
        panels.pack_pairs(source, 1.0);
    }

    fn row<'a>(buffer: &'a mut Vec<Self>, row: &'a [f32]) -> &'a [Self] {
        buffer.resize(row.len().div_ceil(2), Pair::default());
        round_row(buffer, row);
        buffer
    }
}

impl<W: Stored> HeadMemory<W> {
    /// Both [n, D].
    pub(crate) fn new(keys: View<'_>, values: View<'_>) -> Self {
        let mut memory = Self::default();
        W::pack(&mut memory.keys, keys.transposed());
        W::pack(&mut memory.values, values);
        memory
    }

    fn length(&self) -> usize {
        self.keys.columns()
    }

    fn chunks(&self) -> usize {
        self.length().div_ceil(CHUNK)
    }

    fn chunk(&self, index: usize) -> Range<usize> {
        index * CHUNK..self.length().min((index + 1) * CHUNK)
    }
}

/// Queries [R, D] of one document and head, `stride` apart, with what they attend to and where their output is.
pub(crate) struct Queries<'a, W> {
    pub(crate) memory: &'a HeadMemory<W>,
    pub(crate) rows: Range<usize>,
    pub(crate) head: usize,
}

/// What a chunk adds to each row: the greatest score, the sum of the exponentials, and the weighted sum of values [D].
struct Partial {
    maximum: f32,
    sum: f32,
    context: Vec<f32>,
}

#[derive(Default)]
struct Scratch<W> {
    query: Vec<f32>,
    query_words: Vec<W>,
    scores: Vec<f32>,
    words: Vec<W>,
    row: Vec<W>,
    context: Vec<f32>,
}

/// The context [R, H, D] of all queries [R, H, D]; rows of documents without keys are zeros. `scale` multiplies the query.
pub(crate) fn attend<W: Stored>(
    query: &[f32],
    heads: usize,
    head_size: usize,
    scale: f32,
    all: &[Queries<'_, W>],
) -> Vec<f32> {
    let tasks: Vec<(&Queries<'_, W>, usize)> =
        all.iter().flat_map(|one| (0..one.memory.chunks()).map(move |chunk| (one, chunk))).collect();
    let row = |row: usize, head: usize| (row * heads + head) * head_size;
    let partials: Vec<Vec<Partial>> = tasks
        .into_par_iter()
        .map_init(Scratch::<W>::default, |scratch, (one, chunk)| {
            scratch.query.clear();
            for at in one.rows.clone().map(|at| row(at, one.head)) {
                scratch.query.extend(query[at..][..head_size].iter().map(|value| scale * value));
            }
            scratch.chunk(one.memory, one.memory.chunk(chunk), one.rows.len())
        })
        .collect();
    let mut output = vec![0.0; query.len()];
    let mut partials = partials.into_iter();
    for one in all {
        let chunks: Vec<Vec<Partial>> = partials.by_ref().take(one.memory.chunks()).collect();
        for (index, at) in one.rows.clone().enumerate() {
            merge(&mut output[row(at, one.head)..][..head_size], chunks.iter().map(|chunk| &chunk[index]));
        }
    }
    output
}

impl<W: Stored> Scratch<W> {
    fn chunk(&mut self, memory: &HeadMemory<W>, keys: Range<usize>, rows: usize) -> Vec<Partial> {
        let head_size = memory.values.columns();
        self.query_words.clear();
        for query in self.query.chunks_exact(head_size) {
            self.query_words.extend_from_slice(W::row(&mut self.row, query));
        }
        let depth = 0..memory.keys.depth();
        self.scores.resize(rows * keys.len(), 0.0);
        let target = Target { values: &mut self.scores, row_stride: keys.len(), accumulate: false };
        let queries = View::dense(&self.query_words, rows, depth.len());
        multiply_part(queries, &memory.keys, &Part { depth, columns: keys.clone() }, target);
        self.words.clear();
        let mut partials = Vec::with_capacity(rows);
        for scores in self.scores.chunks_exact_mut(keys.len()) {
            let mut statistics = [0.0; 2];
            exponentials(scores, &mut statistics);
            self.words.extend_from_slice(W::row(&mut self.row, scores));
            partials.push(Partial { maximum: statistics[0], sum: statistics[1], context: Vec::new() });
        }
        self.context.resize(rows * head_size, 0.0);
        let target = Target { values: &mut self.context, row_stride: head_size, accumulate: false };
        let depth = keys.start / W::GROUP..keys.end.div_ceil(W::GROUP);
        let probabilities = View::dense(&self.words, rows, depth.len());
        multiply_part(probabilities, &memory.values, &Part { depth, columns: 0..head_size }, target);
        for (partial, context) in partials.iter_mut().zip(self.context.chunks_exact(head_size)) {
            partial.context = context.to_vec();
        }
        partials
    }
}

/// Adds what the chunks found, relative to the greatest of their scores.
fn merge<'p>(output: &mut [f32], partials: impl Iterator<Item = &'p Partial> + Clone) {
    let maximum = partials.clone().map(|partial| partial.maximum).fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for partial in partials {
        let factor = exp::<false>(partial.maximum - maximum);
        total += factor * partial.sum;
        for (output, context) in output.iter_mut().zip(&partial.context) {
            *output += factor * context;
        }
    }
    output.iter_mut().for_each(|value| *value /= total);
}

dispatch! {
    /// Replaces a row of scores by exp(score - their maximum); gives the maximum and the sum.
    fn exponentials(scores: &mut [f32], statistics: &mut [f32; 2]) = exponentials_body
}

#[inline(always)]
fn exponentials_body<const FMA: bool>(scores: &mut [f32], statistics: &mut [f32; 2]) {
    const LANES: usize = 2 * PANEL;
    let (groups, rest) = scores.as_chunks_mut::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for group in groups.iter() {
        for (lane, score) in lanes.iter_mut().zip(group) {
            *lane = larger(*score, *lane);
        }
    }
    let maximum = lanes.iter().chain(rest.iter()).fold(f32::NEG_INFINITY, |most, score| larger(*score, most));
    let mut sums = [0.0; LANES];
    for group in groups {
        for (sum, score) in sums.iter_mut().zip(group) {
            *score = exp::<FMA>(*score - maximum);
            *sum += *score;
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for score in rest {
        *score = exp::<FMA>(*score - maximum);
        sum += *score;
    }
    *statistics = [maximum, sum];
}
