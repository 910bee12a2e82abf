//! A decoding step: attention to memory and past, layers as graphs, and the most probable tokens.

use super::{close, device, numbers_of, on_device, place, rounded};
use crate::attention_reference::{Reference, plain};
use crate::numbers::{Numbers, dot};
use candle_core::{DType, Tensor};
use epitome_kernels::cuda::{memory_attention, top_k};
use epitome_kernels::{
    Attention, AttentionMemory, DecodingStep, KeyValueRows, Norm, PackedLinear, Precision, ResidualSum, Segments,
    Visibility, read_best,
};

/// `[T, H, D]`.
fn rows(values: &[f64], heads: usize, size: usize, dtype: DType) -> Tensor {
    place(values, &[values.len() / (heads * size), heads, size], dtype)
}

/// Keys grow along a document by so much of themselves a key.
fn check_memory(heads: usize, size: usize, queries: &[usize], keys: &[usize], growth: f64) {
    let spec = Attention { scale: 2.0 / (size as f32).sqrt(), ..plain(queries, keys, Visibility::Full) };
    let mut numbers = Numbers::seeded((heads * 1000 + size) as u64);
    let lengths = [&spec.queries, &spec.keys, &spec.keys].map(|rows| rows.total() * heads * size);
    let mut inputs = lengths.map(|length| numbers.vector(length));
    for (row, key) in inputs[1].chunks_mut(heads * size).enumerate() {
        key.iter_mut().for_each(|value| *value *= 1.0 + growth * row as f64);
    }
    let [q, k, v] = inputs.map(|values| rounded(&values, DType::BF16));
    let wanted = Reference { spec: &spec, heads, size, q: &q, k: &k, v: &v }.run(&vec![0.0; q.len()]).output;
    let [q, k, v] = [q, k, v].map(|values| rows(&values, heads, size, DType::BF16));
    let segments = (&spec.queries, &spec.keys);
    close("output", &memory_attention([&q, &k, &v], segments, spec.scale).unwrap(), &wanted, 0.01);
}

#[test]
fn memories_of_many_lengths() {
    for keys in [1, 31, 32, 33, 130, 511, 512, 513, 1500] {
        check_memory(1, 64, &[4], &[keys], 0.0);
    }
    check_memory(5, 64, &[4, 0, 1, 17, 2], &[600, 40, 7, 33, 0], 0.0);
    check_memory(2, 128, &[1, 33], &[1100, 70], 0.0);
    // More splits than are merged at once.
    check_memory(1, 64, &[2], &[8800], 0.0);
    check_memory(1, 128, &[1], &[8800], 0.0);
    // Splits of so many tiles that these take each other's places.
    check_memory(8, 64, &[33], &[4300], 0.0);
    check_memory(8, 128, &[33], &[4300], 0.0);
    // What was summed is rescaled: by more than the slack of a maximum, and by less.
    for growth in [0.003, 0.01, 0.05] {
        check_memory(2, 64, &[3], &[1500], growth);
    }
}

/// In a tile of every warp of a split, beside which there are good splits or not.
#[test]
fn keys_that_are_no_numbers_are_seen() {
    let size = 64;
    for keys in [130, 1500] {
        let mut numbers = Numbers::seeded(keys as u64);
        let [q, mut k, v] = [2, keys, keys].map(|count| numbers.vector(count * size));
        [5, 37, 69, 101].into_iter().for_each(|row| k[row * size] = f64::NAN);
        let [q, k, v] = [q, k, v].map(|values| rows(&values, 1, size, DType::BF16));
        let found = memory_attention([&q, &k, &v], (&Segments::single(2), &Segments::single(keys)), 0.3).unwrap();
        assert!(numbers_of(&found).iter().all(|number| number.is_nan()), "{keys} keys");
    }
}

#[test]
fn a_row_is_bit_identical_alone_and_beside_others() {
    let (heads, size) = (2, 64);
    let mut numbers = Numbers::seeded(8);
    let [q, k, v] = [5, 700, 700].map(|count| rows(&numbers.vector(count * heads * size), heads, size, DType::BF16));
    let keys = Segments::single(700);
    let together = memory_attention([&q, &k, &v], (&Segments::single(5), &keys), 0.3).unwrap();
    for row in 0..5 {
        let [q, together] = [&q, &together].map(|rows| rows.narrow(0, row, 1).unwrap());
        let alone = memory_attention([&q, &k, &v], (&Segments::single(1), &keys), 0.3).unwrap();
        assert!(numbers_of(&alone) == numbers_of(&together));
    }
}

/// The calls of a step share a plan, whose counters each leaves as it found them; nothing is between them that would order launches.
#[test]
fn a_step_attends_to_memories_as_single_calls_do() {
    on_device(|| {
        let (heads, size, scale) = (2, 64, 0.3);
        let (queries, keys) = (Segments::from_lengths(&[3, 0, 1, 18]), Segments::from_lengths(&[900, 50, 0, 260]));
        let mut numbers = Numbers::seeded(9);
        let mut random = |count: usize| rows(&numbers.vector(count * heads * size), heads, size, DType::BF16);
        let memories = [(); 2].map(|()| {
            let [k, v] = [(); 2].map(|()| random(keys.total()));
            AttentionMemory::new(&k, &v, &keys, Precision::Bf16).unwrap()
        });
        let calls: Vec<(&AttentionMemory, Tensor)> =
            (0..4).map(|n| (&memories[n % 2], random(queries.total()))).collect();
        let mut step = DecodingStep::new(queries.total());
        step.advance(&vec![0; queries.total()], (&queries, &keys), [1, 100], &device()).unwrap();
        let found: Vec<_> = calls.iter().map(|(memory, q)| step.attend_memory(memory, q, scale).unwrap()).collect();
        for (n, ((memory, q), found)) in calls.iter().zip(&found).enumerate() {
            assert!(numbers_of(&memory.attend(q, &queries, scale).unwrap()) == numbers_of(found), "call {n}");
        }
    });
}

/// What the rows of a cache hold, and the rows that each hypothesis has come through.
struct Simulated {
    heads: usize,
    size: usize,
    keys: Vec<f64>,
    values: Vec<f64>,
    ancestors: Vec<Vec<usize>>,
}

impl Simulated {
    /// The context of queries `[R, H, D]`.
    fn context(&self, q: &[f64], scale: f32) -> Vec<f64> {
        let (width, size) = (self.heads * self.size, self.size);
        let mut context = vec![0.0; q.len()];
        for (row, head) in (0..self.ancestors.len()).flat_map(|row| (0..self.heads).map(move |head| (row, head))) {
            let head_of = |row: usize| row * width + head * size..row * width + (head + 1) * size;
            let seen = || self.ancestors[row].iter().map(|at| head_of(*at));
            let score = |at| (f64::from(scale) * dot(&q[head_of(row)], &self.keys[at])).exp();
            let weights: Vec<f64> = seen().map(score).collect();
            let total: f64 = weights.iter().sum();
            for (at, weight) in seen().zip(&weights) {
                for (sum, value) in context[head_of(row)].iter_mut().zip(&self.values[at]) {
                    *sum += weight / total * value;
                }
            }
        }
        context
    }
}

/// Steps of a search whose numbers of rows change, over a cache that grows.
fn check_past(dtype: DType, (heads, size): (usize, usize), steps: usize, far: f64) {
    let (width, scale) = (heads * size, 0.6f32);
    let mut numbers = Numbers::seeded((heads * 1000 + size) as u64);
    let mut simulated = Simulated { heads, size, keys: vec![], values: vec![], ancestors: vec![vec![]; 1] };
    let (mut step, mut cache) = (DecodingStep::new(1), KeyValueRows::default());
    for n in 0..steps {
        let count = simulated.ancestors.len();
        let [q, k, v] = [(); 3].map(|()| rounded(&numbers.vector(count * width), dtype));
        let stored = simulated.keys.len() / width;
        (0..count).for_each(|row| simulated.ancestors[row].push(stored + row));
        simulated.keys.extend(&k);
        simulated.values.extend(&v);
        let documents = (&Segments::single(count), &Segments::single(5));
        step.advance(&vec![0; count], documents, [1, 100], &device()).unwrap();
        let placed = [&q, &k, &v].map(|numbers| rows(numbers, heads, size, dtype));
        let found = step.attend_past(&mut cache, placed.each_ref(), scale).unwrap();
        if n < 3 || n + 3 > steps || n % 97 == 0 {
            close(&format!("context of step {n}"), &found, &simulated.context(&q, scale), far);
        }
        // Five rows for a while, then three.
        let parents: Vec<usize> = (0..if n < steps / 2 { 5 } else { 3 }).map(|_| numbers.below(count)).collect();
        step.reorder(&parents);
        simulated.ancestors = parents.iter().map(|parent| simulated.ancestors[*parent].clone()).collect();
    }
}

#[test]
fn rows_attend_to_their_past() {
    on_device(|| {
        for (heads, size) in [(1, 1), (3, 7), (2, 33), (2, 64), (1, 72), (1, 128), (1, 200), (1, 320)] {
            check_past(DType::F32, (heads, size), 40, 1e-5);
            check_past(DType::BF16, (heads, size), 40, 0.005);
        }
    });
}

/// Longer than the room that there is at first, for rows and for the past of one, and than what is asked for ahead.
#[test]
fn a_past_outgrows_its_room() {
    on_device(|| [8, 128, 256].into_iter().for_each(|size| check_past(DType::BF16, (1, size), 300, 0.005)));
}

/// A step that is repeated, from another memory each time: what lies in the memory of the first counts, as the caller says that it
/// is the same; tokens, positions and the past are those of each step.
#[test]
fn repeated_steps_read_what_is_new() {
    on_device(|| {
        let (words, positions) = (Numbers::seeded(1).vector(50 * 8), Numbers::seeded(2).vector(6 * 8));
        let tables = [place(&words, &[50, 8], DType::F32), place(&positions, &[6, 8], DType::F32)];
        let (mut step, mut cache) = (DecodingStep::new(2), KeyValueRows::default());
        let mut results = Vec::new();
        for n in 0..7u32 {
            let tokens = [n * 7, 49 - n];
            step.advance(&tokens, (&Segments::single(2), &Segments::single(5)), [50, 6], &device()).unwrap();
            let result = step.run(Some(0), |step| {
                let x = step.embed(&tables[0], &tables[1], DType::F32)?.reshape((2, 1, 8))?;
                step.attend_past(&mut cache, [&x, &x, &x], 1.0)
            });
            let result: candle_core::Result<Tensor> = result;
            results.push((tokens, numbers_of(&result.unwrap())));
            assert_eq!(step.was_graph(), cfg!(feature = "cuda") && n > 0, "step {n}");
            step.reorder(&[1, 1]);
        }
        // Row 1 is continued twice each time: both rows have come through the tokens 49 - n.
        let x = |n: usize, token: u32| -> Vec<f64> {
            let place = n % 6 * 8;
            let word = &words[token as usize * 8..][..8];
            word.iter().zip(&positions[place..place + 8]).map(|(word, position)| word + position).collect()
        };
        for (n, (tokens, result)) in results.iter().enumerate() {
            let mut wanted = Vec::new();
            for token in tokens {
                let query = x(n, *token);
                let past: Vec<Vec<f64>> = (0..n).map(|step| x(step, 49 - step as u32)).chain([query.clone()]).collect();
                let weights: Vec<f64> = past.iter().map(|key| dot(&query, key).exp()).collect();
                let total: f64 = weights.iter().sum();
                wanted.extend((0..8).map(|d| past.iter().zip(&weights).map(|(v, w)| w / total * v[d]).sum::<f64>()));
            }
            close(&format!("step {n}"), &place(result, &[2, 8], DType::F32), &wanted, 1e-5);
        }
    });
}

/// Layers of few rows and of many, in both types: a repeated step computes what it computes when it is not repeated, and so does one of
/// another kind, which ends in the most probable tokens.
#[test]
fn repeated_steps_of_layers_are_graphs() {
    on_device(|| {
        for (dtype, precision, rows) in
            [(DType::F32, Precision::F32, 3), (DType::BF16, Precision::Bf16, 3), (DType::BF16, Precision::Bf16, 40)]
        {
            let mut numbers = Numbers::seeded(rows as u64);
            let mut random = |shape: &[usize]| place(&numbers.vector(shape.iter().product()), shape, DType::F32);
            let (words, positions) = (random(&[50, 64]), random(&[6, 64]));
            let [weight, bias] = [(); 2].map(|()| random(&[64]));
            let mut linear = || PackedLinear::new(&random(&[64, 64]), Some(&random(&[64])), precision).unwrap();
            let [first, second, third, head] = [(); 4].map(|()| linear());
            let norm = Norm { weight: &weight, bias: &bias, eps: 1e-5 };
            let body = |step: &DecodingStep| {
                let x = step.embed(&words, &positions, dtype)?;
                let sum = ResidualSum { x: &first.forward(&x)?, residual: &x, dropout: None, first: 0 };
                let [residual, x] = second.feed_forward_after_norm(&third, sum, norm)?;
                let sum = ResidualSum { x: &x, residual: &residual, dropout: None, first: 0 };
                candle_core::Result::Ok(first.forward_after_norm(sum, norm)?[1].clone())
            };
            let best = |step: &DecodingStep| head.find_best(&body(step)?, 4);
            let mut step = DecodingStep::new(rows);
            for n in 0..4u32 {
                let tokens: Vec<u32> = (0..rows as u32).map(|row| (row * 7 + n) % 50).collect();
                step.advance(&tokens, (&Segments::single(rows), &Segments::single(5)), [50, 6], &device()).unwrap();
                let is_graph = cfg!(feature = "cuda") && n > 0;
                let repeated = step.run(Some(0), &body).unwrap();
                assert_eq!(step.was_graph(), is_graph, "{dtype:?}, {rows} rows, step {n}");
                let plain = step.run(None, &body).unwrap();
                assert!(numbers_of(&repeated) == numbers_of(&plain), "{dtype:?}, step {n}");
                let found = step.run(Some(1), &best).unwrap();
                assert_eq!(step.was_graph(), is_graph, "the best, {dtype:?}, {rows} rows, step {n}");
                assert_eq!(
                    read_best(&found).unwrap(),
                    read_best(&head.find_best(&plain, 4).unwrap()).unwrap(),
                    "{dtype:?}, step {n}"
                );
                step.reorder(&(0..rows).collect::<Vec<_>>());
            }
        }
    });
}

fn check_top_k(dtype: DType, (vocabulary, stride): (usize, usize), k: usize, with_bias: bool) {
    let rows = 3;
    let mut numbers = Numbers::seeded((vocabulary * k) as u64);
    // Few different values, so that many are equal.
    let logits: Vec<f64> = numbers.vector(rows * stride).iter().map(|x| (x * 40.0).round() / 8.0).collect();
    let bias: Vec<f64> = (0..vocabulary).map(|v| if v % 7 == 2 { f64::NEG_INFINITY } else { (v % 3) as f64 }).collect();
    let single = place(&bias, &[vocabulary], DType::F32);
    let placed = place(&logits, &[rows, stride], dtype);
    let found = top_k(&placed, vocabulary, with_bias.then_some(&single), k).unwrap();
    for (row, logits) in logits.chunks(stride).enumerate() {
        let biased: Vec<f64> = (0..vocabulary).map(|v| logits[v] + if with_bias { bias[v] } else { 0.0 }).collect();
        let total = biased.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        let mut order: Vec<usize> = (0..vocabulary).collect();
        order.sort_by(|a, b| biased[*b].total_cmp(&biased[*a]));
        for (n, wanted) in order[..k].iter().enumerate() {
            let (index, value) = (found[row][n].0, f64::from(found[row][n].1));
            assert_eq!(index as usize, *wanted, "row {row}, place {n}");
            let log_p = biased[*wanted] - total;
            assert!(value == log_p || (value - log_p).abs() < 1e-5, "{value}, not {log_p}");
        }
    }
}

#[test]
fn the_most_probable_entries() {
    for (shape, k) in
        [((1, 1), 1), ((5, 5), 5), ((101, 104), 8), ((2000, 2000), 16), ((5003, 5008), 9), ((50_265, 50_272), 8)]
    {
        for with_bias in [false, true] {
            check_top_k(DType::F32, shape, k, with_bias);
            check_top_k(DType::BF16, shape, k, with_bias);
        }
    }
    // More than a warp's entries, and than are merged from shared memory.
    check_top_k(DType::F32, (600, 600), 600, false);
    check_top_k(DType::BF16, (9000, 9000), 350, false);
}

/// Of zeros the first counts, whatever their signs; entries that are impossible come last, in their order.
#[test]
fn equal_entries_and_impossible_ones_come_in_their_order() {
    let mut logits = vec![f64::NEG_INFINITY; 1200];
    for (index, value) in [(3, -0.0), (7, 0.0), (600, -0.0), (1199, 0.0)] {
        logits[index] = value;
    }
    let found = &top_k(&place(&logits, &[1, 1200], DType::F32), 1200, None, 7).unwrap()[0];
    let indices: Vec<u32> = found.iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, [3, 7, 600, 1199, 0, 1, 2]);
    for (n, (_, log_p)) in found.iter().enumerate() {
        assert!(if n < 4 { (log_p + 4f32.ln()).abs() < 1e-6 } else { *log_p == f32::NEG_INFINITY }, "{found:?}");
    }
}

#[test]
fn what_is_no_number_is_among_the_most_probable() {
    // Alone in the last part of its row, beside numbers, and in place of all.
    for (vocabulary, places) in [(513, vec![512]), (700, vec![3]), (40, (0..40).collect())] {
        let mut logits = vec![0.5; 2 * vocabulary];
        places.iter().for_each(|place| logits[vocabulary + place] = f64::NAN);
        let found = top_k(&place(&logits, &[2, vocabulary], DType::F32), vocabulary, None, 3).unwrap();
        assert!(found[0].iter().all(|(_, value)| value.is_finite()), "{vocabulary}: {found:?}");
        assert!(found[1].iter().all(|(_, value)| value.is_nan()), "{vocabulary}: {found:?}");
    }
}
