//! `global_attention` against its definition in f64, and against attention with projected keys and values.

use crate::numbers::{Numbers, close, differences, dot, tensor};
use candle_core::Tensor;
use epitome_kernels::{Dropout, DropoutKey, GlobalRows, Segments, global_attention, global_attention_backward};

pub(crate) struct Case {
    pub(crate) rows: Segments,
    pub(crate) documents: Segments,
    pub(crate) heads: usize,
    pub(crate) width: usize,
    pub(crate) dropout: Option<Dropout>,
}

impl Case {
    pub(crate) fn new(rows: &[usize], documents: &[usize], heads: usize, width: usize) -> Self {
        let (rows, documents) = (Segments::from_lengths(rows), Segments::from_lengths(documents));
        Self { rows, documents, heads, width, dropout: None }
    }

    pub(crate) fn dropping(mut self) -> Self {
        self.dropout = Some(Dropout { probability: 0.4, key: DropoutKey::new(2).fold(9) });
        self
    }

    /// Output, dx, da, dc.
    pub(crate) fn reference(&self, x: &[f64], a: &[f64], c: &[f64], gradient: &[f64]) -> [Vec<f64>; 4] {
        let w = self.width;
        let (mut output, mut dx) = (vec![0.0; c.len() * (w + 1)], vec![0.0; x.len()]);
        let (mut da, mut dc) = (vec![0.0; a.len()], vec![0.0; c.len()]);
        for b in 0..self.rows.count() {
            let rows = self.rows.range(b);
            for lane in rows.start * self.heads..rows.end * self.heads {
                let query = &a[lane * w..(lane + 1) * w];
                let tokens: Vec<usize> = self.documents.range(b).collect();
                let scores: Vec<f64> = tokens.iter().map(|t| dot(&x[t * w..(t + 1) * w], query) + c[lane]).collect();
                let total: f64 = scores.iter().map(|score| score.exp()).sum();
                let p: Vec<f64> = scores.iter().map(|score| score.exp() / total).collect();
                let factors: Vec<f64> = (0..tokens.len())
                    .map(|j| self.dropout.map_or(1.0, |d| f64::from(d.factor((lane as u64) << 32 | j as u64))))
                    .collect();
                let dy = &gradient[lane * (w + 1)..(lane + 1) * (w + 1)];
                let dp: Vec<f64> = (0..tokens.len())
                    .map(|j| factors[j] * (dot(&x[tokens[j] * w..(tokens[j] + 1) * w], &dy[..w]) + dy[w]))
                    .collect();
                let delta = dot(&p, &dp);
                for (j, t) in tokens.iter().enumerate() {
                    let ds = p[j] * (dp[j] - delta);
                    let kept = p[j] * factors[j];
                    for d in 0..w {
                        output[lane * (w + 1) + d] += kept * x[t * w + d];
                        dx[t * w + d] += kept * dy[d] + ds * query[d];
                        da[lane * w + d] += ds * x[t * w + d];
                    }
                    output[lane * (w + 1) + w] += kept;
                    dc[lane] += ds;
                }
            }
        }
        [output, dx, da, dc]
    }

    /// Folded queries: rows of a, each with its number of c behind it.
    pub(crate) fn folded(&self, a: &[f64], c: &[f64]) -> Vec<f64> {
        a.chunks(self.width).zip(c).flat_map(|(a, c)| a.iter().chain([c]).copied().collect::<Vec<_>>()).collect()
    }

    /// Output, dx added to ones, da, dc.
    fn run(&self, [x, a, c]: [&[f64]; 3], dy: &[f64]) -> [Tensor; 4] {
        let (rows, tokens, width) = (self.rows.total(), self.documents.total(), self.width);
        let x = tensor(x, &[tokens, width]);
        let folded = tensor(&self.folded(a, c), &[rows, self.heads, width + 1]);
        let of = GlobalRows { rows: &self.rows, documents: &self.documents, dropout: self.dropout };
        let pooled = global_attention(&x, &folded, of).unwrap();
        let (dy, dx) = (tensor(dy, &[rows, self.heads, width + 1]), x.ones_like().unwrap());
        let gradient = global_attention_backward(&x, &folded, of, &pooled, &dy, Some(&dx)).unwrap();
        let part = |first, count| gradient.narrow(2, first, count).unwrap().contiguous().unwrap();
        [pooled.output, dx, part(0, width), part(width, 1)]
    }

    #[track_caller]
    fn check(&self) {
        let mut numbers = Numbers::seeded(self.documents.total() as u64);
        let (tokens, lanes) = (self.documents.total(), self.rows.total() * self.heads);
        let (x, a, c) =
            (numbers.vector(tokens * self.width), numbers.vector(lanes * self.width), numbers.vector(lanes));
        let dy = numbers.vector(lanes * (self.width + 1));
        let [output, dx, da, dc] = self.reference(&x, &a, &c, &dy);
        let found = self.run([&x, &a, &c], &dy);
        close("output", &found[0], &output, 1e-5);
        // What is there is added to.
        let dx: Vec<f64> = dx.iter().map(|dx| dx + 1.0).collect();
        close("dx", &found[1], &dx, 2e-5);
        close("da", &found[2], &da, 2e-5);
        close("dc", &found[3], &dc, 2e-5);
    }
}

#[test]
fn one_document() {
    for (rows, tokens, heads, width) in [(1, 1, 1, 1), (1, 40, 3, 5), (7, 40, 2, 16), (40, 40, 3, 4), (1, 300, 12, 70)]
    {
        Case::new(&[rows], &[tokens], heads, width).check();
    }
}

#[test]
fn long_documents_are_split_and_merged() {
    Case::new(&[2], &[2900], 2, 6).check();
    Case::new(&[1, 2], &[1300, 700], 3, 6).dropping().check();
}

#[test]
fn documents_with_and_without_global_rows() {
    Case::new(&[0, 3, 0, 1, 2], &[5, 20, 0, 1, 600], 2, 7).check();
    Case::new(&[0], &[5], 2, 7).check();
}

#[test]
fn a_document_without_tokens_gives_zeros() {
    Case::new(&[1, 1], &[0, 4], 2, 3).check();
}

#[test]
fn dropout_draws_the_documented_mask() {
    Case::new(&[3, 1], &[50, 9], 2, 8).dropping().check();
}

#[test]
fn gradients_agree_with_differences() {
    let case = Case::new(&[2, 1], &[6, 3], 2, 3).dropping();
    let mut numbers = Numbers::seeded(4);
    let (x, a, c, dy) = (numbers.vector(27), numbers.vector(18), numbers.vector(6), numbers.vector(24));
    let value = |x: &[f64], a: &[f64], c: &[f64]| dot(&case.reference(x, a, c, &dy)[0], &dy);
    let found = case.run([&x, &a, &c], &dy);
    let dx: Vec<f64> = differences(&x, |x| value(x, &a, &c)).iter().map(|dx| dx + 1.0).collect();
    close("dx", &found[1], &dx, 1e-5);
    close("da", &found[2], &differences(&a, |a| value(&x, a, &c)), 1e-5);
    close("dc", &found[3], &differences(&c, |c| value(&x, &a, c)), 1e-5);
}
