//! The forward: blocks of queries in parallel, each with a running maximum over its tiles of keys.

use super::{Draws, Gathered, KeyTile, Place, Problem};
use crate::cpu::panels::{PANEL, Panels};
use crate::cpu::product::{Target, multiply};
use crate::cpu::shared::Shared;
use crate::cpu::softmax::{OnlineSoftmax, drop_probabilities};
use crate::cpu::view::View;
use rayon::prelude::*;
use std::ops::Range;

/// Buffers of one thread, reused from block to block.
#[derive(Default)]
struct Scratch {
    q: Panels,
    v: Panels,
    /// Scores [keys, lanes] of a tile.
    scores: Vec<f32>,
    /// Weighted sums of values [queries, D].
    context: Vec<f32>,
    softmax: OnlineSoftmax,
    draws: Draws,
}

/// The attention's output [Tq, H, D] and its log-sum-exp [H, Tq] (plus infinity where a query sees no key or is global).
pub(crate) fn forward(problem: &Problem<'_>) -> (Vec<f32>, Vec<f32>) {
    let queries = problem.spec.queries.total();
    let mut output = vec![0.0; problem.q.len()];
    let mut log_sum_exp = vec![f32::INFINITY; problem.heads * queries];
    let gathered = problem.gather();
    let blocks = problem.blocks();
    let (shared_output, shared_statistics) = (Shared::new(&mut output), Shared::new(&mut log_sum_exp));
    (0..blocks.len() * problem.heads).into_par_iter().for_each_init(Scratch::default, |scratch, task| {
        let (document, block) = &blocks[task % blocks.len()];
        let place = Place { document: *document, head: task / blocks.len() };
        context(problem, &gathered, scratch, place, block);
        let first = problem.spec.queries.range(place.document).start + block.start;
        for lane in 0..block.len() {
            if problem.skipped(place.document, block.start + lane) {
                continue;
            }
            let start = (first + lane) * problem.stride() + place.head * problem.head_size;
            // SAFETY: this row of this head belongs to this task alone.
            let row = unsafe { shared_output.slice(start, problem.head_size) };
            let inverse = scratch.softmax.inverse_sum(lane);
            for (value, sum) in row.iter_mut().zip(&scratch.context[lane * problem.head_size..]) {
                *value = inverse * sum;
            }
            // SAFETY: as above.
            let statistic = unsafe { shared_statistics.slice(place.head * queries + first + lane, 1) };
            statistic[0] = scratch.softmax.log_sum_exp(lane);
        }
    });
    (output, log_sum_exp)
}

/// Leaves the unnormalised sums of a block in `scratch.context`, and their normalisers in `scratch.softmax`.
fn context(problem: &Problem<'_>, gathered: &Gathered, scratch: &mut Scratch, place: Place, block: &Range<usize>) {
    let first = problem.spec.queries.range(place.document).start + block.start;
    scratch.q.pack_lanes(problem.head_view(problem.q, first, block.len(), place.head).transposed(), problem.spec.scale);
    scratch.draws.start(problem, first, block.len(), place.head);
    scratch.softmax.start(block.len().next_multiple_of(PANEL));
    scratch.context.clear();
    scratch.context.resize(block.len() * problem.head_size, 0.0);
    for tile in problem.tiles(place.document, block) {
        add_tile(problem, gathered, scratch, place, block, tile);
    }
}

fn add_tile(
    problem: &Problem<'_>,
    gathered: &Gathered,
    scratch: &mut Scratch,
    place: Place,
    block: &Range<usize>,
    tile: KeyTile,
) {
    let Scratch { q, v, scores, context, softmax, draws } = scratch;
    let lanes = block.len().next_multiple_of(PANEL);
    if scores.len() < tile.keys * lanes {
        scores.resize(tile.keys * lanes, 0.0);
    }
    let scores = &mut scores[..tile.keys * lanes];
    let keys = problem.tile_view(problem.k, (&gathered.rows, &gathered.k), tile, place);
    multiply(keys, q, Target { values: scores, row_stride: lanes, accumulate: false });
    problem.hide(scores, lanes, tile, place.document, block);
    softmax.exponentials(scores);
    for (row, rescale) in context.chunks_exact_mut(problem.head_size).zip(softmax.rescale()) {
        if *rescale != 1.0 {
            row.iter_mut().for_each(|value| *value *= rescale);
        }
    }
    if let Some(mask) = draws.tile(problem, tile, place.document) {
        drop_probabilities(scores, &mask);
    }
    v.pack(problem.tile_view(problem.v, (&gathered.rows, &gathered.v), tile, place), 1.0);
    let probabilities = View::rows(scores, tile.keys, block.len(), lanes).transposed();
    multiply(probabilities, v, Target { values: context, row_stride: problem.head_size, accumulate: true });
}
