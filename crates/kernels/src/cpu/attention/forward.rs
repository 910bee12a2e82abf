//! The forward: groups of blocks of queries in parallel, each block with a running maximum over its tiles of keys.
//!
//! A tile of keys is put in order once for all blocks of a group, which see mostly the same ones.

use super::operand::Operand;
use super::{Draws, Gathered, KeyTile, Place, Problem};
use crate::cpu::panels::{PANEL, Panels};
use crate::cpu::product::{Part, Target, multiply, multiply_part};
use crate::cpu::shared::Shared;
use crate::cpu::softmax::OnlineSoftmax;
use crate::cpu::view::View;
use rayon::prelude::*;
use std::ops::Range;

/// Blocks of a group.
const BLOCKS: usize = 4;

/// Buffers of one thread, reused from group to group.
#[derive(Default)]
struct Scratch<W> {
    blocks: Vec<Block<W>>,
    k: Vec<W>,
    v: Panels<W>,
    /// Scores [keys, lanes] of a block and tile, and the words of their exponentials.
    scores: Vec<f32>,
    probabilities: Vec<W>,
}

/// What is kept of a block of queries from tile to tile.
#[derive(Default)]
struct Block<W> {
    queries: Range<usize>,
    q: Panels<W>,
    /// Weighted sums of values [queries, D].
    context: Vec<f32>,
    softmax: OnlineSoftmax,
    draws: Draws,
}

/// The attention's output [Tq, H, D] and its log-sum-exp [H, Tq] (plus infinity where a query sees no key or is global).
pub(crate) fn forward<W: Operand>(problem: &Problem<'_>) -> (Vec<f32>, Vec<f32>) {
    let queries = problem.spec.queries.total();
    let mut output = vec![0.0; problem.q.len()];
    let mut log_sum_exp = vec![f32::INFINITY; problem.heads * queries];
    let gathered = problem.gather();
    let groups = groups(problem);
    let (shared_output, shared_statistics) = (Shared::new(&mut output), Shared::new(&mut log_sum_exp));
    (0..groups.len() * problem.heads).into_par_iter().for_each_init(Scratch::<W>::default, |scratch, task| {
        let (document, rows) = &groups[task % groups.len()];
        let place = Place { document: *document, head: task / groups.len() };
        scratch.attend(problem, &gathered, place, rows);
        for block in scratch.blocks.iter().take(rows.len().div_ceil(super::BLOCK)) {
            block.write(problem, place, &shared_output, &shared_statistics);
        }
    });
    (output, log_sum_exp)
}

/// Document and queries of every group, the documents' groups in order.
fn groups(problem: &Problem<'_>) -> Vec<(usize, Range<usize>)> {
    let size = BLOCKS * super::BLOCK;
    let documents = problem.spec.queries.ranges().enumerate();
    let split = |(document, queries): (usize, Range<usize>)| {
        (0..queries.len()).step_by(size).map(move |first| (document, first..queries.len().min(first + size)))
    };
    documents.flat_map(split).collect()
}

impl<W: Operand> Scratch<W> {
    /// Leaves in the blocks of the queries `rows` their unnormalised sums and the normalisers.
    fn attend(&mut self, problem: &Problem<'_>, gathered: &Gathered, place: Place, rows: &Range<usize>) {
        let count = rows.len().div_ceil(super::BLOCK);
        if self.blocks.len() < count {
            self.blocks.resize_with(count, Block::default);
        }
        for (block, first) in self.blocks.iter_mut().zip(rows.clone().step_by(super::BLOCK)) {
            block.start(problem, place, first..rows.end.min(first + super::BLOCK));
        }
        for tile in problem.tiles(place.document, rows) {
            let keys = problem.tile_view(problem.k, (&gathered.rows, &gathered.k), tile, place);
            let keys = W::keys(&mut self.k, keys);
            W::pack_values(&mut self.v, problem.tile_view(problem.v, (&gathered.rows, &gathered.v), tile, place));
            for block in &mut self.blocks[..count] {
                let Some(part) = block.visible(problem, place, tile) else { continue };
                let first = part.first - tile.first;
                let keys = keys.part(first..first + part.keys, 0..keys.columns);
                let buffers = (&mut self.scores, &mut self.probabilities);
                block.add_tile(problem, place, part, (keys, &self.v, first), buffers);
            }
        }
    }
}

impl<W: Operand> Block<W> {
    fn start(&mut self, problem: &Problem<'_>, place: Place, queries: Range<usize>) {
        let first = problem.spec.queries.range(place.document).start + queries.start;
        let q = problem.head_view(problem.q, first, queries.len(), place.head);
        W::pack_queries(&mut self.q, q.transposed(), problem.spec.scale);
        self.draws.start(problem, first, queries.len(), place.head);
        self.softmax.start(queries.len().next_multiple_of(PANEL));
        self.context.clear();
        self.context.resize(queries.len() * problem.head_size, 0.0);
        self.queries = queries;
    }

    /// The part of a tile that this block sees; it begins with the first value of a word.
    fn visible(&self, problem: &Problem<'_>, place: Place, tile: KeyTile) -> Option<KeyTile> {
        if tile.global {
            return Some(tile);
        }
        let keys = problem.spec.visibility.key_range(&self.queries, problem.spec.keys.length(place.document));
        let first = keys.start.max(tile.first) - tile.first;
        let first = tile.first + first / W::VALUES * W::VALUES;
        let end = keys.end.min(tile.first + tile.keys);
        (first < end).then(|| KeyTile { first, keys: end - first, ..tile })
    }

    /// `values` holds the whole tile's rows, of which the part's begin at `first`.
    fn add_tile(
        &mut self,
        problem: &Problem<'_>,
        place: Place,
        part: KeyTile,
        (keys, values, first): (View<'_, W>, &Panels<W>, usize),
        (scores, probabilities): (&mut Vec<f32>, &mut Vec<W>),
    ) {
        let lanes = self.queries.len().next_multiple_of(PANEL);
        if scores.len() < part.keys * lanes {
            scores.resize(part.keys * lanes, 0.0);
        }
        let scores = &mut scores[..part.keys * lanes];
        multiply(keys, &self.q, Target { values: scores, row_stride: lanes, accumulate: false });
        problem.hide(scores, lanes, part, place.document, &self.queries);
        let mask = self.draws.tile(problem, part, place.document);
        let probabilities = W::exponentials(&mut self.softmax, scores, probabilities, mask.as_ref());
        for (row, rescale) in self.context.chunks_exact_mut(problem.head_size).zip(self.softmax.rescale()) {
            if *rescale != 1.0 {
                row.iter_mut().for_each(|value| *value *= rescale);
            }
        }
        let words = part.keys.div_ceil(W::VALUES);
        let probabilities = View::rows(probabilities, words, self.queries.len(), lanes).transposed();
        let depth = first / W::VALUES..first / W::VALUES + words;
        let target = Target { values: &mut self.context, row_stride: problem.head_size, accumulate: true };
        multiply_part(probabilities, values, &Part { depth, columns: 0..problem.head_size }, target);
    }

    fn write(&self, problem: &Problem<'_>, place: Place, output: &Shared<'_>, statistics: &Shared<'_>) {
        let first = problem.spec.queries.range(place.document).start + self.queries.start;
        for lane in 0..self.queries.len() {
            if problem.skipped(place.document, self.queries.start + lane) {
                continue;
            }
            let start = (first + lane) * problem.stride() + place.head * problem.head_size;
            // SAFETY: this row of this head belongs to this task alone.
            let row = unsafe { output.slice(start, problem.head_size) };
            let inverse = self.softmax.inverse_sum(lane);
            for (value, sum) in row.iter_mut().zip(&self.context[lane * problem.head_size..]) {
                *value = inverse * sum;
            }
            // SAFETY: as above.
            let statistic = unsafe { statistics.slice(place.head * problem.spec.queries.total() + first + lane, 1) };
            statistic[0] = self.softmax.log_sum_exp(lane);
        }
    }
}
