//! Attention of all kinds.

use crate::ceilings::Limit;
use crate::measure::{Bench, InTurn, Work};
use crate::{HEAD_SIZE, HEADS, TOKENS, WIDTH, both_ways, numbers};
use candle_core::{Result, Tensor};
use epitome_kernels::{
    Attention, AttentionMemory, Dropout, DropoutKey, GlobalRows, KeyValueRows, Precision, Segments, Visibility,
    attention_backward, attention_forward, cached_attention, global_attention, global_attention_backward,
};

/// Keys on each side of a query.
const RADIUS: usize = 512;

pub(crate) fn run(bench: &mut Bench) {
    band(bench, "f32", spec(TOKENS, TOKENS, band_of_one()));
    let dropout = Some(Dropout { probability: 0.1, key: DropoutKey::new(1) });
    band(bench, "f32 with dropout", Attention { dropout, ..spec(TOKENS, TOKENS, band_of_one()) });
    band(bench, "bf16", Attention { precision: Precision::Bf16, ..spec(TOKENS, TOKENS, band_of_one()) });
    causal(bench);
    cross(bench);
    for (precision, bytes) in [(Precision::F32, 4), (Precision::Bf16, 2), (Precision::Int8, 1)] {
        memory(bench, precision, bytes);
    }
    cached(bench);
    global(bench);
}

fn band_of_one() -> Visibility {
    Visibility::Band { radius: RADIUS, global: vec![vec![0]] }
}

fn spec(queries: usize, keys: usize, visibility: Visibility) -> Attention {
    Attention {
        queries: Segments::single(queries),
        keys: Segments::single(keys),
        visibility,
        scale: 0.125,
        dropout: None,
        precision: Precision::F32,
    }
}

/// Queries, keys, values and the gradient of the output.
fn inputs(spec: &Attention) -> Result<[Tensor; 4]> {
    let rows = |rows: usize| numbers(&[rows, HEADS, HEAD_SIZE]);
    let (queries, keys) = (spec.queries.total(), spec.keys.total());
    Ok([rows(queries)?, rows(keys)?, rows(keys)?, rows(queries)?])
}

/// The backward is given the output and the log-sum-exp of a forward that ran before.
fn attention(bench: &mut Bench, name: &str, work: [Work; 2], spec: &Attention) {
    both_ways(
        bench,
        name,
        work,
        || inputs(spec),
        |[q, k, v, _]| attention_forward(q, k, v, spec),
        |[q, k, v, dy], attended| attention_backward(q, k, v, spec, attended, dy),
    );
}

/// Two products forward; five backward, which is always in f32.
fn work(spec: &Attention, pairs: usize) -> [Work; 2] {
    let limit = if spec.precision == Precision::F32 { Limit::F32 } else { Limit::Bf16 };
    [Work::operations(limit, 4 * pairs * WIDTH), Work::operations(Limit::F32, 10 * pairs * WIDTH)]
}

/// Pairs outside the band are not counted, though blocks compute some.
fn band(bench: &mut Bench, name: &str, spec: Attention) {
    let pairs = TOKENS * (2 * RADIUS + 1) - RADIUS * (RADIUS + 1);
    let work = work(&spec, pairs);
    let name = format!("band/{name} {TOKENS} tokens");
    if spec.precision == Precision::F32 {
        attention(bench, &name, work, &spec);
    } else {
        let run = |[q, k, v, _]: &[Tensor; 4]| attention_forward(q, k, v, &spec);
        bench.run(&format!("{name} forward"), work[0], || inputs(&spec), run);
    }
}

fn causal(bench: &mut Bench) {
    let spec = spec(1024, 1024, Visibility::Causal { past: 0 });
    let work = work(&spec, 1024 * 1025 / 2);
    attention(bench, "causal/1024 tokens", work, &spec);
}

fn cross(bench: &mut Bench) {
    let spec = spec(256, TOKENS, Visibility::Full);
    let work = work(&spec, 256 * TOKENS);
    let name = format!("cross-attention/256 queries, {TOKENS} keys");
    attention(bench, &name, work, &spec);
}

fn memory(bench: &mut Bench, precision: Precision, bytes: usize) {
    const KEYS: usize = 16_384;
    let bytes = 2 * bytes * KEYS * WIDTH;
    let setup = || {
        let keys = numbers(&[KEYS, HEADS, HEAD_SIZE])?;
        let memory = AttentionMemory::new(&keys, &keys, &Segments::single(KEYS), precision)?;
        Ok((InTurn::new(|| Ok(memory.clone()), bytes)?, numbers(&[4, HEADS, HEAD_SIZE])?))
    };
    let name = format!("memory/{precision:?} 4 queries, {KEYS} keys");
    bench.run(&name, Work::read(bytes), setup, |(memory, query)| {
        memory.next().attend(query, &Segments::single(4), 0.125)
    });
}

/// Beams of a step late in a summary, each with a past of its own.
fn cached(bench: &mut Bench) {
    const BEAMS: usize = 4;
    const PAST: usize = 512;
    let bytes = 2 * 4 * BEAMS * PAST * WIDTH;
    let setup = || {
        let rows = numbers(&[BEAMS * PAST, HEADS, HEAD_SIZE])?;
        let cache = || {
            let mut cache = KeyValueRows::default();
            cache.append(&rows, &rows)?;
            Ok(cache)
        };
        let ancestors: Vec<Vec<u32>> =
            (0..BEAMS).map(|beam| (0..PAST).map(|step| (step * BEAMS + beam) as u32).collect()).collect();
        Ok((InTurn::new(cache, bytes)?, numbers(&[BEAMS, HEADS, HEAD_SIZE])?, ancestors))
    };
    bench.run(
        &format!("cached/{BEAMS} beams of {PAST} tokens"),
        Work::read(bytes),
        setup,
        |(cache, query, ancestors)| cached_attention(query, cache.next(), ancestors, 0.125),
    );
}

fn global(bench: &mut Bench) {
    for rows in [1, 16] {
        let pairs = TOKENS * rows * HEADS * WIDTH;
        let work = [4, 10].map(|flop| Work::operations(Limit::F32, flop * pairs));
        let (segments, documents) = (Segments::single(rows), Segments::single(TOKENS));
        let of = GlobalRows { rows: &segments, documents: &documents, dropout: None };
        let shapes = [vec![TOKENS, WIDTH], vec![rows, HEADS, WIDTH + 1], vec![rows, HEADS, WIDTH + 1]];
        let inputs = || shapes.iter().map(|shape| numbers(shape)).collect::<Result<Vec<Tensor>>>();
        both_ways(
            bench,
            &format!("global/{rows} rows, {TOKENS} tokens"),
            work,
            inputs,
            |t| global_attention(&t[0], &t[1], of),
            |t, pooled| global_attention_backward(&t[0], &t[1], of, pooled, &t[2], Some(&t[0].zeros_like()?)),
        );
    }
}
