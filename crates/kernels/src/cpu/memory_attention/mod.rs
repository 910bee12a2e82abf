//! Attention of few queries to many keys that stay the same from call to call: the cross-attention of a decoding step.
//!
//! It is bound by the bytes of keys and values, so those lie in the order in which they are read, in the precision of the
//! decoding, and all queries of a document (its beams) read them together. Keys are split into chunks between the
//! threads, each with a softmax of its own; these are merged by their log-sum-exp in the order of the keys, so the result
//! depends on neither threads nor other documents.

mod mass;
mod stored;

pub(crate) use mass::{SpannedQueries, attend_with_mass};
pub(crate) use stored::{HeadMemory, Stored};

use super::math::{dispatch, exp, larger};
use super::panels::PANEL;
use super::product::{Part, Target, multiply_part};
use super::view::View;
use rayon::prelude::*;
use std::ops::Range;

/// Keys of a chunk: 256 KiB of keys of 64 numbers and as much of values.
const CHUNK: usize = 1024;

impl<W: Stored> HeadMemory<W> {
    pub(crate) fn length(&self) -> usize {
        self.keys.columns()
    }

    fn chunks(&self) -> usize {
        self.length().div_ceil(CHUNK)
    }

    fn chunk(&self, index: usize) -> Range<usize> {
        index * CHUNK..self.length().min((index + 1) * CHUNK)
    }
}

/// The largest integers that products with bytes of up to 127 sum to.
const MOST_SUM: usize = i32::MAX as usize / 127;

/// The largest integer that a probability is quantized to, so that sums over a chunk of keys stay in range.
const MOST_PROBABILITY: f32 = (MOST_SUM / CHUNK) as f32;

/// The same for the numbers of a query, whose sums run over the head's size.
fn most_query(head_size: usize) -> f32 {
    (MOST_SUM / head_size).min(i16::MAX as usize) as f32
}

/// The queries `rows` of one document and head, with what they attend to.
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
    /// Sums of the exponentials over the spans of keys that were asked for.
    masses: Vec<f32>,
}

/// Buffers of one thread.
struct Scratch<W: Stored> {
    query: Vec<f32>,
    /// Rows of queries, then of probabilities, as the left operands of products.
    words: Vec<W::Left>,
    /// Of each row of `words`.
    scales: Vec<f32>,
    scores: Vec<f32>,
    context: Vec<f32>,
}

impl<W: Stored> Default for Scratch<W> {
    fn default() -> Self {
        Self { query: Vec::new(), words: Vec::new(), scales: Vec::new(), scores: Vec::new(), context: Vec::new() }
    }
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
            scratch.take(query, one.rows.clone().map(|at| row(at, one.head)), head_size, scale);
            scratch.chunk(one.memory, one.memory.chunk(chunk), one.rows.len(), &[])
        })
        .collect();
    let mut output = vec![0.0; query.len()];
    let mut partials = partials.into_iter();
    for one in all {
        let chunks: Vec<Vec<Partial>> = partials.by_ref().take(one.memory.chunks()).collect();
        if chunks.is_empty() {
            continue;
        }
        for (index, at) in one.rows.clone().enumerate() {
            merge(&mut output[row(at, one.head)..][..head_size], chunks.iter().map(|chunk| &chunk[index]));
        }
    }
    output
}

impl<W: Stored> Scratch<W> {
    /// Takes the queries that begin at these places, scaled.
    fn take(&mut self, query: &[f32], places: impl Iterator<Item = usize>, head_size: usize, scale: f32) {
        self.query.clear();
        for at in places {
            self.query.extend(query[at..][..head_size].iter().map(|value| scale * value));
        }
    }

    /// What the keys of a chunk add to the queries taken, with the masses of `spans`.
    fn chunk(
        &mut self,
        memory: &HeadMemory<W>,
        keys: Range<usize>,
        rows: usize,
        spans: &[Range<usize>],
    ) -> Vec<Partial> {
        self.score(memory, keys.clone(), rows);
        let mut partials = Vec::with_capacity(rows);
        self.words.clear();
        self.scales.clear();
        for scores in self.scores.chunks_exact_mut(keys.len()) {
            let mut statistics = [0.0; 2];
            exponentials(scores, &mut statistics);
            let masses = mass::sums_over(spans, &keys, scores);
            if let Some(scales) = memory.value_scales.get(keys.clone()) {
                scores.iter_mut().zip(scales).for_each(|(score, scale)| *score *= scale);
            }
            self.scales.push(W::push_row(&mut self.words, scores, MOST_PROBABILITY));
            partials.push(Partial { maximum: statistics[0], sum: statistics[1], context: Vec::new(), masses });
        }
        self.weigh(memory, keys, rows);
        for (partial, context) in partials.iter_mut().zip(self.context.chunks_exact(memory.values.columns())) {
            partial.context = context.to_vec();
        }
        partials
    }

    /// Leaves the scores [rows, keys].
    fn score(&mut self, memory: &HeadMemory<W>, keys: Range<usize>, rows: usize) {
        self.words.clear();
        self.scales.clear();
        let size = memory.values.columns();
        for query in self.query.chunks_exact(size) {
            self.scales.push(W::push_row(&mut self.words, query, most_query(size)));
        }
        let depth = 0..memory.keys.depth();
        self.scores.resize(rows * keys.len(), 0.0);
        let target = Target { values: &mut self.scores, row_stride: keys.len(), accumulate: false };
        let queries = View::dense(&self.words, rows, depth.len());
        multiply_part(queries, &memory.keys, &Part { depth, columns: keys.clone() }, target);
        for (scores, scale) in self.scores.chunks_exact_mut(keys.len()).zip(&self.scales) {
            W::finish(scores, *scale);
            if let Some(scales) = memory.key_scales.get(keys.clone()) {
                scores.iter_mut().zip(scales).for_each(|(score, scale)| *score *= scale);
            }
        }
    }

    /// Leaves the sums of values [rows, D], weighted with the rows of `words`.
    fn weigh(&mut self, memory: &HeadMemory<W>, keys: Range<usize>, rows: usize) {
        let size = memory.values.columns();
        self.context.resize(rows * size, 0.0);
        let target = Target { values: &mut self.context, row_stride: size, accumulate: false };
        let depth = keys.start / W::VALUES..keys.end.div_ceil(W::VALUES);
        let weights = View::dense(&self.words, rows, depth.len());
        multiply_part(weights, &memory.values, &Part { depth, columns: 0..size }, target);
        for (context, scale) in self.context.chunks_exact_mut(size).zip(&self.scales) {
            W::finish(context, *scale);
        }
    }
}

/// Adds what the chunks found, relative to the greatest of their scores; returns that and the sum of the exponentials.
fn merge<'p>(output: &mut [f32], partials: impl Iterator<Item = &'p Partial> + Clone) -> [f32; 2] {
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
    [maximum, total]
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
