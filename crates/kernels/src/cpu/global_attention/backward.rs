//! The backward in two passes: one owns tokens, one owns lanes.

use super::{Problem, Task, add_lanes};
use crate::cpu::linear::add;
use crate::cpu::panels::{PANEL, Panels};
use crate::cpu::product::{Target, multiply};
use crate::cpu::shared::Shared;
use crate::cpu::softmax::{Lanes, tile_backward};
use crate::cpu::view::View;
use crate::random::Stream;
use rayon::prelude::*;
use std::ops::Range;

/// What the forward left and what comes back: output and its gradient [G * H, d + 1], log-sum-exp [G * H].
pub(crate) struct Incoming<'a> {
    pub(crate) output: &'a [f32],
    pub(crate) gradient: &'a [f32],
    pub(crate) log_sum_exp: &'a [f32],
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    /// a and du of a block, transposed [d, lanes] and as they are [lanes, d]; a tile's tokens.
    a_lanes: Panels,
    gradient_lanes: Panels,
    a: Panels,
    gradient: Panels,
    x: Panels,
    /// Last column of du.
    last: Vec<f32>,
    log_sum_exp: Vec<f32>,
    delta: Vec<f32>,
    streams: Vec<Stream>,
    /// m p and ds of a tile, [tokens, lanes].
    probabilities: Vec<f32>,
    score_gradients: Vec<f32>,
}

/// dx [T, d].
pub(crate) fn token_gradients(problem: &Problem<'_>, incoming: &Incoming<'_>) -> Vec<f32> {
    let mut dx = vec![0.0; problem.x.len()];
    let mut parts = Vec::new();
    for (document, tokens) in problem.documents.ranges().enumerate() {
        for first in tokens.clone().step_by(super::PART) {
            parts.push((document, first..tokens.end.min(first + super::PART)));
        }
    }
    let shared = Shared::new(&mut dx);
    parts.into_par_iter().for_each_init(Scratch::default, |scratch, (document, part)| {
        // SAFETY: the rows of a part belong to its task alone.
        let dx = unsafe { shared.slice(part.start * problem.width, part.len() * problem.width) };
        for lanes in problem.blocks(document) {
            scratch.start(problem, incoming, &lanes);
            scratch.a.pack(problem.lane_view(&lanes), 1.0);
            scratch.gradient.pack(incoming.view(problem, &lanes), 1.0);
            for tokens in problem.tiles(part.clone()) {
                scratch.tile(problem, document, &lanes, &tokens);
                let padded = lanes.len().next_multiple_of(PANEL);
                let dx = &mut dx[(tokens.start - part.start) * problem.width..];
                for (weights, values) in
                    [(&scratch.score_gradients, &scratch.a), (&scratch.probabilities, &scratch.gradient)]
                {
                    let weights = View::rows(weights, tokens.len(), lanes.len(), padded);
                    multiply(weights, values, Target { values: dx, row_stride: problem.width, accumulate: true });
                }
            }
        }
    });
    dx
}

/// Of the folded queries: [da | dc], [G * H, d + 1].
pub(crate) fn lane_gradients(problem: &Problem<'_>, incoming: &Incoming<'_>) -> Vec<f32> {
    let tasks = problem.tasks();
    let parts: Vec<Vec<f32>> = tasks
        .par_iter()
        .map_init(Scratch::default, |scratch, task| scratch.lane_gradients(problem, incoming, task))
        .collect();
    let mut gradients = vec![0.0; problem.folded.len()];
    for (task, part) in tasks.iter().zip(&parts) {
        add(&mut gradients[task.lanes.start * problem.lane_width()..], part);
    }
    gradients
}

impl Incoming<'_> {
    /// The first d columns of some lanes' du.
    fn view(&self, problem: &Problem<'_>, lanes: &Range<usize>) -> View<'_> {
        let stride = problem.lane_width();
        View::rows(&self.gradient[lanes.start * stride..], lanes.len(), problem.width, stride)
    }
}

impl Scratch {
    /// Prepares a block of lanes.
    fn start(&mut self, problem: &Problem<'_>, incoming: &Incoming<'_>, lanes: &Range<usize>) {
        let padded = lanes.len().next_multiple_of(PANEL);
        self.a_lanes.pack_lanes(problem.lane_view(lanes).transposed(), 1.0);
        self.gradient_lanes.pack_lanes(incoming.view(problem, lanes).transposed(), 1.0);
        self.log_sum_exp.clear();
        self.log_sum_exp.extend_from_slice(&incoming.log_sum_exp[lanes.clone()]);
        // Lanes that pad the panel have probability 0 everywhere.
        self.log_sum_exp.resize(padded, f32::INFINITY);
        self.last.clear();
        self.delta.clear();
        let stride = problem.lane_width();
        for lane in lanes.clone() {
            let (output, gradient) =
                (&incoming.output[lane * stride..][..stride], &incoming.gradient[lane * stride..][..stride]);
            self.last.push(gradient[problem.width]);
            self.delta.push(output.iter().zip(gradient).map(|(output, gradient)| output * gradient).sum());
        }
        self.delta.resize(padded, 0.0);
        problem.streams(lanes, &mut self.streams);
    }

    /// A task's part of the gradients of its lanes, [lanes, d + 1].
    fn lane_gradients(&mut self, problem: &Problem<'_>, incoming: &Incoming<'_>, task: &Task) -> Vec<f32> {
        let (lanes, row) = (task.lanes.len(), problem.lane_width());
        let padded = lanes.next_multiple_of(PANEL);
        let (mut gradients, mut dc) = (vec![0.0; lanes * row], vec![0.0; lanes]);
        self.start(problem, incoming, &task.lanes);
        for tokens in problem.tiles(task.tokens.clone()) {
            self.tile(problem, task.document, &task.lanes, &tokens);
            self.score_gradients.chunks_exact(padded).for_each(|row| add(&mut dc, row));
            self.x.pack(problem.x_view(&tokens), 1.0);
            let weights = View::rows(&self.score_gradients, tokens.len(), lanes, padded).transposed();
            multiply(weights, &self.x, Target { values: &mut gradients, row_stride: row, accumulate: true });
        }
        for (row, dc) in gradients.chunks_exact_mut(row).zip(dc) {
            row[problem.width] = dc;
        }
        gradients
    }

    /// Fills `probabilities` with m p and `score_gradients` with ds of a tile.
    fn tile(&mut self, problem: &Problem<'_>, document: usize, lanes: &Range<usize>, tokens: &Range<usize>) {
        let padded = self.delta.len();
        self.probabilities.resize(tokens.len() * padded, 0.0);
        self.score_gradients.resize(tokens.len() * padded, 0.0);
        problem.scores(&self.a_lanes, lanes, tokens, &mut self.probabilities);
        let target = Target { values: &mut self.score_gradients, row_stride: padded, accumulate: false };
        multiply(problem.x_view(tokens), &self.gradient_lanes, target);
        add_lanes(&mut self.score_gradients, &self.last, padded);
        let statistics = Lanes { log_sum_exp: &self.log_sum_exp, delta: &self.delta };
        let mask = problem.tile_mask(&self.streams, document, tokens);
        tile_backward(&mut self.probabilities, &mut self.score_gradients, &statistics, mask.as_ref());
    }
}
