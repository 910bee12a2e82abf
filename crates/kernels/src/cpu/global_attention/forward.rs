//! The forward: every task runs over its tokens with a running maximum; the parts of a document are merged in order.

use super::{Problem, Task};
use crate::cpu::panels::{PANEL, Panels};
use crate::cpu::product::{Target, multiply};
use crate::cpu::softmax::{OnlineSoftmax, drop_probabilities};
use crate::cpu::view::View;
use crate::random::Stream;
use rayon::prelude::*;
use std::ops::Range;

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    a: Panels,
    x: Panels,
    scores: Vec<f32>,
    softmax: OnlineSoftmax,
    streams: Vec<Stream>,
}

/// What a task found, for each of its lanes: unnormalised sums with its own maximum.
struct Part {
    lanes: Range<usize>,
    first: bool,
    maximum: Vec<f32>,
    /// Of exp(score - maximum).
    sum: Vec<f32>,
    /// The same after dropout.
    kept: Vec<f32>,
    /// Of exp(score - maximum) m x: [lanes, d].
    context: Vec<f32>,
}

/// The output [G * H, d + 1] and the log-sum-exp [G * H] (plus infinity for a document without tokens).
pub(crate) fn forward(problem: &Problem<'_>) -> (Vec<f32>, Vec<f32>) {
    let tasks = problem.tasks();
    let parts: Vec<Part> =
        tasks.par_iter().map_init(Scratch::default, |scratch, task| scratch.run(problem, task)).collect();
    let mut output = vec![0.0; problem.lane_count() * problem.lane_width()];
    let mut log_sum_exp = vec![f32::INFINITY; problem.lane_count()];
    for parts in parts.chunk_by(|_, next| !next.first) {
        for (index, lane) in parts[0].lanes.clone().enumerate() {
            let row = &mut output[lane * problem.lane_width()..][..problem.lane_width()];
            log_sum_exp[lane] = merge(parts, index, row);
        }
    }
    (output, log_sum_exp)
}

/// Writes the normalised sums of lane `index` over all `parts` and returns its log-sum-exp.
fn merge(parts: &[Part], index: usize, row: &mut [f32]) -> f32 {
    let maximum = parts.iter().map(|part| part.maximum[index]).fold(f32::NEG_INFINITY, f32::max);
    let weight = |part: &Part| (part.maximum[index] - maximum).exp();
    let total: f32 = parts.iter().map(|part| weight(part) * part.sum[index]).sum();
    let width = row.len() - 1;
    for part in parts {
        let factor = weight(part) / total;
        for (value, sum) in row.iter_mut().zip(&part.context[index * width..][..width]) {
            *value += factor * sum;
        }
        row[width] += factor * part.kept[index];
    }
    maximum + total.ln()
}

impl Scratch {
    fn run(&mut self, problem: &Problem<'_>, task: &Task) -> Part {
        let lanes = task.lanes.len();
        let padded = lanes.next_multiple_of(PANEL);
        self.a.pack_lanes(problem.lane_view(&task.lanes).transposed(), 1.0);
        self.softmax.start(padded);
        problem.streams(&task.lanes, &mut self.streams);
        let mut context = vec![0.0; lanes * problem.width];
        let mut kept = vec![0.0; padded];
        for tokens in problem.tiles(task.tokens.clone()) {
            self.scores.resize(tokens.len() * padded, 0.0);
            problem.scores(&self.a, &task.lanes, &tokens, &mut self.scores);
            self.softmax.exponentials(&mut self.scores);
            for ((row, kept), factor) in
                context.chunks_exact_mut(problem.width).zip(&mut kept).zip(self.softmax.rescale())
            {
                row.iter_mut().for_each(|value| *value *= factor);
                *kept *= factor;
            }
            if let Some(mask) = problem.tile_mask(&self.streams, task.document, &tokens) {
                drop_probabilities(&mut self.scores, &mask);
                for row in self.scores.chunks_exact(padded) {
                    kept.iter_mut().zip(row).for_each(|(kept, value)| *kept += value);
                }
            }
            self.x.pack(problem.x_view(&tokens), 1.0);
            let probabilities = View::rows(&self.scores, tokens.len(), lanes, padded).transposed();
            let target = Target { values: &mut context, row_stride: problem.width, accumulate: true };
            multiply(probabilities, &self.x, target);
        }
        let sum: Vec<f32> = (0..lanes).map(|lane| self.softmax.sum(lane)).collect();
        let kept = if problem.mask.is_some() { kept } else { sum.clone() };
        let maximum = (0..lanes).map(|lane| self.softmax.maximum(lane)).collect();
        Part { lanes: task.lanes.clone(), first: task.first, maximum, sum, kept, context }
    }
}
