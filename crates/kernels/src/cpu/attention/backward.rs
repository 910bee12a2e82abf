//! The backward: a task owns the keys of one document and head, so their gradients need no atomics.

use super::{Draws, Gathered, KeyTile, Place, Problem};
use crate::cpu::panels::{PANEL, Panels};
use crate::cpu::product::{Target, multiply};
use crate::cpu::shared::Shared;
use crate::cpu::softmax::{Lanes, tile_backward};
use crate::cpu::view::View;
use rayon::prelude::*;
use std::ops::Range;

/// What the forward left and what comes back: output and its gradient [Tq, H, D], log-sum-exp [H, Tq].
pub(crate) struct Incoming<'a> {
    pub(crate) output: &'a [f32],
    pub(crate) gradient: &'a [f32],
    pub(crate) log_sum_exp: &'a [f32],
}

/// Gradients of q [Tq, H, D], k and v [Tk, H, D].
pub(crate) struct Gradients {
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
}

/// Buffers of one thread, reused from task to task.
#[derive(Default)]
struct Scratch {
    /// q and do of a block, transposed [D, lanes] and as they are [queries, D]; a tile's keys.
    q_lanes: Panels,
    gradient_lanes: Panels,
    q: Panels,
    gradient: Panels,
    k: Panels,
    /// A tile's scores, then dropped probabilities [keys, lanes]; the gradients of the probabilities, then of the scores.
    scores: Vec<f32>,
    score_gradients: Vec<f32>,
    /// Of each lane.
    log_sum_exp: Vec<f32>,
    delta: Vec<f32>,
    draws: Draws,
    /// Gradient of the block's scaled queries [queries, D].
    dq: Vec<f32>,
    /// Gradients of one head of a document's keys and values [n, D], its global ones behind them.
    dk: Vec<f32>,
    dv: Vec<f32>,
}

pub(crate) fn backward(problem: &Problem<'_>, incoming: &Incoming<'_>) -> Gradients {
    let mut q = vec![0.0; problem.q.len()];
    let mut k = vec![0.0; problem.k.len()];
    let mut v = vec![0.0; problem.v.len()];
    let gathered = problem.gather();
    let documents = problem.spec.keys.count();
    let (shared_q, shared_k, shared_v) = (Shared::new(&mut q), Shared::new(&mut k), Shared::new(&mut v));
    (0..documents * problem.heads).into_par_iter().for_each_init(Scratch::default, |scratch, task| {
        let place = Place { document: task / problem.heads, head: task % problem.heads };
        head_backward(problem, &gathered, incoming, scratch, place, &shared_q);
        write_keys(problem, place, &mut scratch.dk, &shared_k);
        write_keys(problem, place, &mut scratch.dv, &shared_v);
    });
    Gradients { q, k, v }
}

/// One document and head: writes the queries' gradients, leaves the keys' and values' in the scratch.
fn head_backward(
    problem: &Problem<'_>,
    gathered: &Gathered,
    incoming: &Incoming<'_>,
    scratch: &mut Scratch,
    place: Place,
    shared_q: &Shared<'_>,
) {
    let queries = problem.spec.queries.range(place.document);
    let keys = problem.spec.keys.length(place.document) + gathered.rows.length(place.document);
    for gradient in [&mut scratch.dk, &mut scratch.dv] {
        gradient.clear();
        gradient.resize(keys * problem.head_size, 0.0);
    }
    for start in (0..queries.len()).step_by(super::BLOCK) {
        let block = start..queries.len().min(start + super::BLOCK);
        scratch.start(problem, incoming, place, &block);
        for tile in problem.tiles(place.document, &block) {
            scratch.add_tile(problem, gathered, place, &block, tile);
        }
        for (lane, dq) in scratch.dq.chunks_exact(problem.head_size).enumerate() {
            let at = (queries.start + start + lane) * problem.stride() + place.head * problem.head_size;
            // SAFETY: this row of this head belongs to this task alone.
            let row = unsafe { shared_q.slice(at, problem.head_size) };
            for (value, gradient) in row.iter_mut().zip(dq) {
                *value = problem.spec.scale * gradient;
            }
        }
    }
}

/// Adds the global keys' gradients to their positions and copies one head of a document to [Tk, H, D].
fn write_keys(problem: &Problem<'_>, place: Place, gradient: &mut [f32], shared: &Shared<'_>) {
    let keys = problem.spec.keys.range(place.document);
    let (own, global) = gradient.split_at_mut(keys.len() * problem.head_size);
    let positions = problem.spec.visibility.global(place.document);
    for (row, position) in global.chunks_exact(problem.head_size).zip(positions) {
        for (sum, value) in own[position * problem.head_size..].iter_mut().zip(row) {
            *sum += value;
        }
    }
    for (row, values) in keys.zip(own.chunks_exact(problem.head_size)) {
        let at = row * problem.stride() + place.head * problem.head_size;
        // SAFETY: this row of this head belongs to this task alone.
        unsafe { shared.slice(at, problem.head_size) }.copy_from_slice(values);
    }
}

impl Scratch {
    /// Prepares a block of queries.
    fn start(&mut self, problem: &Problem<'_>, incoming: &Incoming<'_>, place: Place, block: &Range<usize>) {
        let rows = problem.spec.queries.range(place.document);
        let first = rows.start + block.start;
        let lanes = block.len().next_multiple_of(PANEL);
        let q = problem.head_view(problem.q, first, block.len(), place.head);
        let gradient = problem.head_view(incoming.gradient, first, block.len(), place.head);
        self.q_lanes.pack_lanes(q.transposed(), problem.spec.scale);
        self.q.pack(q, problem.spec.scale);
        self.gradient_lanes.pack_lanes(gradient.transposed(), 1.0);
        self.gradient.pack(gradient, 1.0);
        self.draws.start(problem, first, block.len(), place.head);
        self.log_sum_exp.clear();
        self.log_sum_exp.extend_from_slice(
            &incoming.log_sum_exp[place.head * problem.spec.queries.total() + first..][..block.len()],
        );
        // Lanes without a query have probability 0 everywhere.
        self.log_sum_exp.resize(lanes, f32::INFINITY);
        self.delta.clear();
        self.delta.extend((first..first + block.len()).map(|row| {
            let at = row * problem.stride() + place.head * problem.head_size;
            let pairs = incoming.output[at..][..problem.head_size].iter().zip(&incoming.gradient[at..]);
            pairs.map(|(output, gradient)| output * gradient).sum::<f32>()
        }));
        self.delta.resize(lanes, 0.0);
        self.dq.clear();
        self.dq.resize(block.len() * problem.head_size, 0.0);
    }

    fn add_tile(
        &mut self,
        problem: &Problem<'_>,
        gathered: &Gathered,
        place: Place,
        block: &Range<usize>,
        tile: KeyTile,
    ) {
        let size = problem.head_size;
        let lanes = self.delta.len();
        for buffer in [&mut self.scores, &mut self.score_gradients] {
            if buffer.len() < tile.keys * lanes {
                buffer.resize(tile.keys * lanes, 0.0);
            }
        }
        let scores = &mut self.scores[..tile.keys * lanes];
        let score_gradients = &mut self.score_gradients[..tile.keys * lanes];
        let keys = problem.tile_view(problem.k, (&gathered.rows, &gathered.k), tile, place);
        let values = problem.tile_view(problem.v, (&gathered.rows, &gathered.v), tile, place);
        multiply(keys, &self.q_lanes, Target { values: scores, row_stride: lanes, accumulate: false });
        problem.hide(scores, lanes, tile, place.document, block);
        multiply(
            values,
            &self.gradient_lanes,
            Target { values: score_gradients, row_stride: lanes, accumulate: false },
        );
        let statistics = Lanes { log_sum_exp: &self.log_sum_exp, delta: &self.delta };
        let mask = self.draws.tile(problem, tile, place.document);
        tile_backward(scores, score_gradients, &statistics, mask.as_ref());

        let probabilities = View::rows(scores, tile.keys, block.len(), lanes);
        let score_gradients = View::rows(score_gradients, tile.keys, block.len(), lanes);
        let first = if tile.global { problem.spec.keys.length(place.document) + tile.first } else { tile.first };
        let accumulate = |values| Target { values, row_stride: size, accumulate: true };
        multiply(probabilities, &self.gradient, accumulate(&mut self.dv[first * size..]));
        multiply(score_gradients, &self.q, accumulate(&mut self.dk[first * size..]));
        self.k.pack(keys, 1.0);
        multiply(score_gradients.transposed(), &self.k, accumulate(&mut self.dq));
    }
}
