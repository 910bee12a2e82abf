//! `AttentionMemory` against sums in f64 over the numbers it keeps.

use crate::numbers::{Numbers, dot, tensor};
use candle_core::Tensor;
use epitome_kernels::{AttentionMemory, Precision, Segments};
use half::bf16;
use std::ops::Range;

pub(crate) const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

/// What is left beside the rounding of keys and values, which the reference does too, of values up to 1.5:
/// - f32: sums.
/// - bf16: each probability is rounded by up to 2^-8 of itself, so a mean of values moves by at most 1.5 / 2^8.
/// - bytes: a query is rounded by up to half of 1 / 32,767 of its largest number, which is nothing beside what follows. A
///   probability times its row's scale is rounded by up to half of 1 / 16,383 of the largest such, 0.29 of that in the
///   mean, with random sign. Values are 0.87 in the mean, so n keys move a result by 0.29 / 16,383 * 0.87 * sqrt(n) times
///   the largest probability: up to 7e-5 here. Seven times that is allowed, since thousands of numbers are looked at.
fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-5,
        Precision::Bf16 => 1.5 / 256.0 + 1e-5,
        Precision::Int8 => 5e-4,
    }
}

fn rounded(row: &[f64]) -> Vec<f64> {
    row.iter().map(|value| f64::from(bf16::from_f64(*value))).collect()
}

/// A row of one head as keys and values are kept.
fn kept(precision: Precision, row: &[f64]) -> Vec<f64> {
    match precision {
        Precision::F32 => row.to_vec(),
        Precision::Bf16 => rounded(row),
        Precision::Int8 => {
            let most = row.iter().fold(0.0f32, |most, value| most.max(value.abs() as f32));
            let inverse = if most > 0.0 { 127.0 / most } else { 0.0 };
            let byte = |value: &f64| f64::from((*value as f32 * inverse).round_ties_even());
            row.iter().map(|value| byte(value) * f64::from(most) / 127.0).collect()
        }
    }
}

/// Documents with keys and values, and the rows of queries that attend to them.
pub(crate) struct Case {
    pub(crate) heads: usize,
    pub(crate) size: usize,
    pub(crate) scale: f32,
    pub(crate) segments: Segments,
    pub(crate) rows: Segments,
    pub(crate) query: Vec<f64>,
    keys: Vec<f64>,
    values: Vec<f64>,
}

impl Case {
    pub(crate) fn random((heads, size): (usize, usize), scale: f32, lengths: &[usize], rows: &[usize]) -> Self {
        let (segments, rows) = (Segments::from_lengths(lengths), Segments::from_lengths(rows));
        let mut numbers = Numbers::seeded((heads * 1000 + size + segments.total()) as u64);
        let query = numbers.vector(rows.total() * heads * size);
        let [keys, values] = [(); 2].map(|()| numbers.vector(segments.total() * heads * size));
        Self { heads, size, scale, segments, rows, query, keys, values }
    }

    pub(crate) fn tensor(&self, values: &[f64]) -> Tensor {
        tensor(values, &[values.len() / (self.heads * self.size), self.heads, self.size])
    }

    pub(crate) fn memory(&self, precision: Precision) -> AttentionMemory {
        AttentionMemory::new(&self.tensor(&self.keys), &self.tensor(&self.values), &self.segments, precision).unwrap()
    }

    pub(crate) fn attend(&self, precision: Precision) -> Vec<f32> {
        flat(&self.memory(precision).attend(&self.tensor(&self.query), &self.rows, self.scale).unwrap())
    }

    fn at(&self, row: usize, head: usize) -> Range<usize> {
        (row * self.heads + head) * self.size..(row * self.heads + head + 1) * self.size
    }

    /// A head's numbers of document `b` as they are kept.
    fn kept(&self, precision: Precision, all: &[f64], (b, head): (usize, usize)) -> Vec<Vec<f64>> {
        self.segments.range(b).map(|row| kept(precision, &all[self.at(row, head)])).collect()
    }

    /// The softmax of a query over the keys of its document.
    fn probabilities(&self, precision: Precision, keys: &[Vec<f64>], row: usize, head: usize) -> Vec<f64> {
        let query = &self.query[self.at(row, head)];
        let query: Vec<f64> = query.iter().map(|q| f64::from(self.scale * *q as f32)).collect();
        let query = if precision == Precision::Bf16 { rounded(&query) } else { query };
        let scores: Vec<f64> = keys.iter().map(|key| dot(&query, key)).collect();
        let most = scores.iter().fold(f64::NEG_INFINITY, |most, score| most.max(*score));
        let total: f64 = scores.iter().map(|score| (score - most).exp()).sum();
        scores.iter().map(|score| (score - most).exp() / total).collect()
    }

    /// The mean over the heads of the softmax's sum over spans of the keys of a row's document.
    pub(crate) fn mass(&self, precision: Precision, b: usize, row: usize, spans: &[Range<usize>]) -> Vec<f64> {
        let mut sums = vec![0.0; spans.len()];
        for head in 0..self.heads {
            let keys = self.kept(precision, &self.keys, (b, head));
            let probabilities = self.probabilities(precision, &keys, row, head);
            for (sum, span) in sums.iter_mut().zip(spans) {
                *sum += span.clone().map(|key| probabilities[key]).sum::<f64>() / self.heads as f64;
            }
        }
        sums
    }

    /// The same over the numbers that are kept.
    fn reference(&self, precision: Precision) -> Vec<f64> {
        let mut wanted = vec![0.0; self.query.len()];
        for (b, head) in (0..self.segments.count()).flat_map(|b| (0..self.heads).map(move |head| (b, head))) {
            let [keys, values] = [&self.keys, &self.values].map(|all| self.kept(precision, all, (b, head)));
            for row in self.rows.range(b) {
                for (weight, value) in self.probabilities(precision, &keys, row, head).iter().zip(&values) {
                    let wanted = &mut wanted[self.at(row, head)];
                    wanted.iter_mut().zip(value).for_each(|(wanted, value)| *wanted += weight * value);
                }
            }
        }
        wanted
    }

    #[track_caller]
    fn check(&self) {
        for precision in PRECISIONS {
            let (found, wanted) = (self.attend(precision), self.reference(precision));
            for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                let error = (f64::from(*found) - wanted).abs();
                let what = format!("{precision:?}, {} heads of {}, {:?}", self.heads, self.size, self.segments);
                assert!(error <= tolerance(precision), "{what}: element {i} is {found}, not {wanted}");
            }
        }
    }
}

pub(crate) fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn documents_of_all_lengths() {
    // Around a panel's 16 keys, a word's 2 and a chunk's 1,024; a document without keys gives zeros.
    Case::random((2, 16), 0.5, &[1, 1023, 0, 1025, 3000, 17], &[2, 1, 3, 4, 5, 1]).check();
    Case::random((1, 8), 0.7, &[2, 1024, 33, 2049], &[1, 1, 13, 2]).check();
}

#[test]
fn documents_without_rows() {
    Case::random((2, 8), 0.5, &[5, 40, 7], &[0, 3, 0]).check();
    Case::random((2, 8), 0.5, &[5, 40, 7], &[0, 0, 0]).check();
    Case::random((2, 8), 0.5, &[], &[]).check();
}

#[test]
fn head_sizes() {
    for size in [1, 7, 16, 64, 100] {
        Case::random((3, size), 2.0 / (size as f32).sqrt(), &[70, 1100], &[4, 2]).check();
    }
}

/// Chunks whose greatest scores are far apart.
#[test]
fn peaked_scores() {
    let mut case = Case::random((1, 16), 8.0, &[4000], &[4]);
    for precision in PRECISIONS {
        let (found, wanted) = (case.attend(precision), case.reference(precision));
        // Scores reach 100, so what rounding the operands or sums of them leaves is magnified by as much.
        let tolerance = if precision == Precision::Int8 { 0.02 } else { 30.0 * tolerance(precision) };
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!((f64::from(*found) - wanted).abs() < tolerance, "{precision:?}: {found}, not {wanted}");
        }
    }
    // One key that all others are nothing beside.
    case.keys[2500 * 16..2501 * 16].copy_from_slice(&case.query[..16]);
    case.keys[2500 * 16..2501 * 16].iter_mut().for_each(|key| *key *= 100.0);
    for precision in PRECISIONS {
        let found = case.attend(precision);
        let value = kept(precision, &case.values[2500 * 16..2501 * 16]);
        for (found, value) in found[..16].iter().zip(value) {
            assert!((f64::from(*found) - value).abs() < 1e-4, "{precision:?}: {found}, not {value}");
        }
    }
}

/// The largest integers everywhere: their sums would pass 2^31 if the range of a query were the same for every head
/// size.
#[test]
fn large_heads_of_equal_numbers() {
    for size in [516, 600, 1100] {
        let mut case = Case::random((1, size), 1.0 / size as f32, &[40], &[2]);
        case.query.fill(1.5);
        for (row, keys) in case.keys.chunks_exact_mut(size).enumerate() {
            keys.fill(if row % 2 == 0 { 1.5 } else { -1.5 });
        }
        case.check();
    }
}

/// How far each precision is from exact numbers: the root of the mean square, relative to that of the result.
#[test]
fn precisions_are_close_to_exact() {
    let case = Case::random((2, 64), 0.125, &[3000], &[4]);
    let exact = case.reference(Precision::F32);
    let size = dot(&exact, &exact).sqrt();
    let error = |precision| {
        let found = case.attend(precision).into_iter().zip(&exact).map(|(found, exact)| f64::from(found) - exact);
        found.map(|error| error * error).sum::<f64>().sqrt() / size
    };
    let errors = PRECISIONS.map(error);
    assert!(errors[0] < 1e-5 && errors[1] < 0.02 && errors[2] < 0.02, "{errors:?}");
}

#[test]
fn rows_are_bit_identical_alone_beside_others_and_on_any_number_of_threads() {
    let (heads, size, scale) = (2, 20, 0.4);
    let case = Case::random((heads, size), scale, &[1500, 3, 2100], &[3, 13, 2]);
    for precision in PRECISIONS {
        let together = case.attend(precision);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(|| case.attend(precision)) == together, "{precision:?}, {threads} threads");
        }
        for b in 0..3 {
            let keys = case.segments.range(b);
            let part = |all: &[f64]| case.tensor(&all[keys.start * heads * size..keys.end * heads * size]);
            let segments = Segments::single(keys.len());
            let memory = AttentionMemory::new(&part(&case.keys), &part(&case.values), &segments, precision).unwrap();
            for row in case.rows.range(b) {
                let at = row * heads * size..(row + 1) * heads * size;
                let query = case.tensor(&case.query[at.clone()]);
                let alone = flat(&memory.attend(&query, &Segments::single(1), scale).unwrap());
                assert!(alone == together[at], "{precision:?}, row {row} of document {b}");
            }
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let (x, one) = (tensor(&[0.0; 12], &[2, 2, 3]), Segments::single(2));
    let other = tensor(&[0.0; 12], &[2, 3, 2]);
    let refused = |message: candle_core::Error, parts: &[&str]| {
        let message = message.to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    let new = |keys: &Tensor, values: &Tensor, segments: &Segments| {
        AttentionMemory::new(keys, values, segments, Precision::Int8)
    };
    refused(new(&x, &other, &one).unwrap_err(), &["AttentionMemory", "[2, 2, 3]", "[2, 3, 2]"]);
    refused(new(&x, &x, &Segments::single(3)).unwrap_err(), &["AttentionMemory", "[2, 2, 3]", "3 rows"]);
    refused(new(&tensor(&[], &[2, 2, 0]), &tensor(&[], &[2, 2, 0]), &one).unwrap_err(), &["[2, 2, 0]"]);
    let memory = new(&x, &x, &one).unwrap();
    refused(memory.attend(&other, &one, 1.0).unwrap_err(), &["attend", "[2, 3, 2]", "2 heads of 3"]);
    refused(memory.attend(&x, &Segments::from_lengths(&[1, 1]), 1.0).unwrap_err(), &["attend", "2 documents"]);
}
