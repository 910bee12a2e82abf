//! Attention as the whole matrix of scores in f64.

use crate::numbers::{Numbers, close, dot, tensor};
use epitome_kernels::{
    Attention, Dropout, DropoutKey, Precision, Segments, Visibility, attention_backward, attention_forward,
};

/// Attention of one document and head written out.
pub(crate) struct Reference<'a> {
    pub(crate) spec: &'a Attention,
    pub(crate) heads: usize,
    pub(crate) size: usize,
    pub(crate) q: &'a [f64],
    pub(crate) k: &'a [f64],
    pub(crate) v: &'a [f64],
}

/// Output and the gradients of q, k and v.
pub(crate) struct Results {
    pub(crate) output: Vec<f64>,
    pub(crate) q: Vec<f64>,
    pub(crate) k: Vec<f64>,
    pub(crate) v: Vec<f64>,
}

impl Reference<'_> {
    fn visible(&self, b: usize, i: usize, j: usize) -> bool {
        match &self.spec.visibility {
            Visibility::Band { radius, global } => {
                !global[b].contains(&i) && (i.abs_diff(j) <= *radius || global[b].contains(&j))
            }
            Visibility::Causal { past } => j <= i + past,
            Visibility::Full => true,
        }
    }

    fn factor(&self, row: usize, head: usize, j: usize) -> f64 {
        let index = ((row * self.heads + head) as u64) << 32 | j as u64;
        self.spec.dropout.map_or(1.0, |dropout| f64::from(dropout.factor(index)))
    }

    pub(crate) fn run(&self, gradient: &[f64]) -> Results {
        let mut results = Results {
            output: vec![0.0; self.q.len()],
            q: vec![0.0; self.q.len()],
            k: vec![0.0; self.k.len()],
            v: vec![0.0; self.v.len()],
        };
        for b in 0..self.spec.queries.count() {
            for (i, row) in self.spec.queries.range(b).enumerate() {
                for head in 0..self.heads {
                    self.query(b, (i, row, head), gradient, &mut results);
                }
            }
        }
        results
    }

    fn query(&self, b: usize, (i, row, head): (usize, usize, usize), gradient: &[f64], results: &mut Results) {
        let keys = self.spec.keys.range(b);
        let at = |row: usize| (row * self.heads + head) * self.size..(row * self.heads + head + 1) * self.size;
        let q: Vec<f64> = self.q[at(row)].iter().map(|q| q * f64::from(self.spec.scale)).collect();
        let seen: Vec<usize> = (0..keys.len()).filter(|j| self.visible(b, i, *j)).collect();
        let scores: Vec<f64> = seen.iter().map(|j| dot(&q, &self.k[at(keys.start + j)])).collect();
        let maximum = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
        let total: f64 = scores.iter().map(|score| (score - maximum).exp()).sum();
        let p: Vec<f64> = scores.iter().map(|score| (score - maximum).exp() / total).collect();
        let incoming = &gradient[at(row)];
        let dp: Vec<f64> =
            seen.iter().map(|j| self.factor(row, head, *j) * dot(incoming, &self.v[at(keys.start + j)])).collect();
        let delta = dot(&p, &dp);
        for (n, j) in seen.iter().enumerate() {
            let kept = p[n] * self.factor(row, head, *j);
            let ds = p[n] * (dp[n] - delta);
            for (d, q) in q.iter().enumerate() {
                let (query, key) = (at(row).start + d, at(keys.start + j).start + d);
                results.output[query] += kept * self.v[key];
                results.v[key] += kept * gradient[query];
                results.k[key] += ds * q;
                results.q[query] += ds * f64::from(self.spec.scale) * self.k[key];
            }
        }
    }
}

/// Runs the operation on seeded inputs, on every kind of device there is, and compares output and gradients.
#[track_caller]
pub(crate) fn check(heads: usize, size: usize, spec: &Attention) {
    let mut numbers = Numbers::seeded((heads * 1000 + size) as u64 + spec.keys.total() as u64);
    let (queries, keys) = (spec.queries.total() * heads * size, spec.keys.total() * heads * size);
    let (q, k, v) = (numbers.vector(queries), numbers.vector(keys), numbers.vector(keys));
    let gradient = numbers.vector(queries);
    let wanted = Reference { spec, heads, size, q: &q, k: &k, v: &v }.run(&gradient);
    let [q, gradient] = [q, gradient].map(|values| tensor(&values, &[spec.queries.total(), heads, size]));
    let [k, v] = [k, v].map(|values| tensor(&values, &[spec.keys.total(), heads, size]));
    let attended = attention_forward(&q, &k, &v, spec).unwrap();
    close("output", &attended.output, &wanted.output, 1e-5);
    let [dq, dk, dv] = attention_backward(&q, &k, &v, spec, &attended, &gradient).unwrap();
    close("dq", &dq, &wanted.q, 2e-5);
    close("dk", &dk, &wanted.k, 2e-5);
    close("dv", &dv, &wanted.v, 2e-5);
    #[cfg(any(feature = "cuda", feature = "cuda-emulation"))]
    crate::cuda::attention::check(heads, size, spec);
}

pub(crate) fn band(lengths: &[usize], radius: usize, global: Vec<Vec<usize>>) -> Attention {
    let segments = Segments::from_lengths(lengths);
    let visibility = Visibility::Band { radius, global };
    Attention {
        queries: segments.clone(),
        keys: segments,
        visibility,
        scale: 0.7,
        dropout: None,
        precision: Precision::F32,
    }
}

pub(crate) fn plain(queries: &[usize], keys: &[usize], visibility: Visibility) -> Attention {
    let (queries, keys) = (Segments::from_lengths(queries), Segments::from_lengths(keys));
    Attention { queries, keys, visibility, scale: 0.4, dropout: None, precision: Precision::F32 }
}

pub(crate) fn with_dropout(mut spec: Attention) -> Attention {
    spec.dropout = Some(Dropout { probability: 0.3, key: DropoutKey::new(7).fold(1) });
    spec
}
