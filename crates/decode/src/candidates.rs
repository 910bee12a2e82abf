//! The best continuations of a document's beams, found without sorting the vocabulary.

use crate::log_softmax::greatest;

/// A beam and a token that may continue it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// Sum of processed log-probabilities, `token` included.
    pub(crate) score: f32,
    /// Which beam of the document.
    pub(crate) beam: usize,
    /// The next token.
    pub(crate) token: u32,
}

/// Tokens that are looked at together: one comparison of their greatest score usually dismisses them all.
const BLOCK: usize = 128;

/// The `count` best continuations of one beam, by score and then by token id. `log_probs` has one value for each entry of
/// the vocabulary. Forbidden tokens (minus infinity) are never among them, so there may be fewer.
pub(crate) fn best_of_beam(log_probs: &[f32], running: f32, beam: usize, count: usize) -> Vec<Candidate> {
    let mut best: Vec<Candidate> = Vec::with_capacity(count.min(log_probs.len()) + 1);
    let mut threshold = f32::NEG_INFINITY;
    for (block, values) in log_probs.chunks(BLOCK).enumerate() {
        // Rounding is monotone: if no sum exceeds the threshold here, none does below.
        if greatest(values) + running <= threshold {
            continue;
        }
        for (offset, &value) in values.iter().enumerate() {
            let score = value + running;
            if score > threshold {
                // Equal scores stay in the order of token ids, because later ones are put behind.
                let place = best.partition_point(|candidate| candidate.score >= score);
                best.insert(place, Candidate { score, beam, token: (block * BLOCK + offset) as u32 });
                best.truncate(count);
                if best.len() == count {
                    threshold = best[count - 1].score;
                }
            }
        }
    }
    best
}

/// The `count` best of a beam's candidates, by score and then by token id.
pub(crate) fn rank(candidates: impl Iterator<Item = Candidate>, count: usize) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = candidates.collect();
    candidates.sort_by(|left, right| right.score.total_cmp(&left.score).then(left.token.cmp(&right.token)));
    candidates.truncate(count);
    candidates
}

/// The `count` best of the candidates of several beams, best first: by score, then beam, then token id.
pub(crate) fn best_of_document(beams: impl Iterator<Item = Vec<Candidate>>, count: usize) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = beams.flatten().collect();
    // The sort is stable and candidates come ordered by beam and token.
    candidates.sort_by(|left, right| right.score.total_cmp(&left.score));
    candidates.truncate(count);
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(rows: &[Vec<f32>], running: &[f32], count: usize) -> Vec<Candidate> {
        let mut all = Vec::new();
        for (beam, row) in rows.iter().enumerate() {
            for (token, &value) in row.iter().enumerate() {
                all.push(Candidate { score: value + running[beam], beam, token: token as u32 });
            }
        }
        all.retain(|candidate| candidate.score > f32::NEG_INFINITY);
        all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.beam.cmp(&b.beam)).then(a.token.cmp(&b.token)));
        all.truncate(count);
        all
    }

    #[test]
    fn finds_what_a_full_sort_finds_with_ties() {
        for vocab in [1, 2, 5, 127, 128, 129, 1_000] {
            for count in [1, 2, 3, 8, 24] {
                let row = |beam: usize| -> Vec<f32> {
                    // Few distinct values, so that ties are everywhere.
                    (0..vocab)
                        .map(|token| match (token * 31 + beam * 17) % 13 {
                            0 => f32::NEG_INFINITY,
                            step => -(step as f32) / 4.0,
                        })
                        .collect()
                };
                let rows = [row(0), row(1), row(2)];
                let running = [-1.0, -1.25, -3.0];
                let beams = (0..3).map(|beam| best_of_beam(&rows[beam], running[beam], beam, count));
                assert_eq!(best_of_document(beams, count), sorted(&rows, &running, count), "{vocab} {count}");
            }
        }
    }
}
