//! Times the operations at the sizes of LED-base on one document and prints GFLOP/s:
//! `cargo run --release -p epitome-kernels --example speed -- [tokens]` (default 16384).

use candle_core::{Device, Result, Tensor, Var};
use epitome_kernels::{
    Attention, Dropout, DropoutKey, Precision, Segments, Visibility, attention, cross_entropy_backward, dropout, gelu,
    global_attention, layer_norm, linear, prepare_process, pull_back,
};
use std::time::Instant;

const HEADS: usize = 12;
const HEAD_SIZE: usize = 64;
const WIDTH: usize = HEADS * HEAD_SIZE;
const RADIUS: usize = 512;

fn main() -> Result<()> {
    prepare_process();
    let tokens = std::env::args().nth(1).and_then(|tokens| tokens.parse().ok()).unwrap_or(16_384);
    println!("{tokens} tokens, {} threads", rayon_threads());
    for (inputs, outputs) in [(WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)] {
        time_linear(tokens, inputs, outputs)?;
    }
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        for (inputs, outputs) in [(WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)] {
            for rows in [4, tokens] {
                let (x, weight, bias) = (numbers(&[rows, inputs])?, numbers(&[outputs, inputs])?, numbers(&[outputs])?);
                let packed = epitome_kernels::PackedLinear::new(&weight, Some(&bias), precision)?;
                let time = seconds(|| packed.forward(&x))?;
                println!(
                    "packed {precision:?} {inputs} -> {outputs} {rows} rows: {:.3} ms {:.1} GFLOP/s",
                    time * 1e3,
                    2.0 * (rows * inputs * outputs) as f64 / time * 1e-9
                );
            }
        }
    }
    for rows in [1, 4, 8, 64] {
        time_small_linear(rows, WIDTH, 4 * WIDTH)?;
    }
    time_band(tokens, None, Precision::F32)?;
    time_band(tokens, None, Precision::Bf16)?;
    time_band(tokens, Some(Dropout { probability: 0.1, key: DropoutKey::new(1) }), Precision::F32)?;
    time_memory(tokens)?;
    time_cross(tokens)?;
    time_global(tokens)?;
    time_elementwise(tokens)?;
    time_head(512)
}

fn rayon_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Numbers in -0.5..0.5 that repeat after 1009 values.
fn numbers(shape: &[usize]) -> Result<Var> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i * 37 % 1009) as f32) / 1009.0 - 0.5).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// The fastest of three runs, in seconds.
fn seconds<T>(mut run: impl FnMut() -> Result<T>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Prints the time of `forward` and of its backward alone; `flop` is the forward's, `backward` that many times as much.
fn report(name: &str, flop: f64, backward: f64, forward: impl Fn() -> Result<Tensor>) -> Result<()> {
    let time = seconds(&forward)?;
    let result = forward()?;
    let gradient = numbers(result.dims())?;
    let back = seconds(|| pull_back(&result, &gradient)?.backward())?;
    println!(
        "{name:34} forward {:8.2} ms {:7.1} GFLOP/s   backward {:8.2} ms {:7.1} GFLOP/s",
        time * 1e3,
        flop / time * 1e-9,
        back * 1e3,
        flop * backward / back * 1e-9
    );
    Ok(())
}

fn time_linear(tokens: usize, inputs: usize, outputs: usize) -> Result<()> {
    let (x, weight, bias) = (numbers(&[tokens, inputs])?, numbers(&[outputs, inputs])?, numbers(&[outputs])?);
    let flop = 2.0 * (tokens * inputs * outputs) as f64;
    report(&format!("linear {inputs} -> {outputs}"), flop, 2.0, || linear(&x, &weight, Some(&bias)))
}

fn time_small_linear(rows: usize, inputs: usize, outputs: usize) -> Result<()> {
    let (x, weight, bias) = (numbers(&[rows, inputs])?, numbers(&[outputs, inputs])?, numbers(&[outputs])?);
    let time = seconds(|| (0..20).try_for_each(|_| linear(&x, &weight, Some(&bias)).map(drop)))? / 20.0;
    let bytes = (4 * inputs * outputs) as f64;
    println!(
        "linear {inputs} -> {outputs} of {rows} rows: {:.3} ms, {:.1} GB/s of weights",
        time * 1e3,
        bytes / time * 1e-9
    );
    Ok(())
}

fn time_band(tokens: usize, dropout: Option<Dropout>, precision: Precision) -> Result<()> {
    let [q, k, v] = [(); 3].map(|()| numbers(&[tokens, HEADS, HEAD_SIZE]));
    let (q, k, v) = (q?, k?, v?);
    let segments = Segments::single(tokens);
    let spec = Attention {
        queries: segments.clone(),
        keys: segments,
        visibility: Visibility::Band { radius: RADIUS, global: vec![vec![0]] },
        scale: 0.125,
        dropout,
        precision,
    };
    let flop = 4.0 * (tokens * (2 * RADIUS + 1) * WIDTH) as f64;
    let name = if dropout.is_some() { "band, dropout" } else { "band" };
    report(name, flop, 2.5, || attention(&q, &k, &v, spec.clone()))
}

fn time_cross(tokens: usize) -> Result<()> {
    for queries in [1, 4, 512] {
        let (q, k) = (numbers(&[queries, HEADS, HEAD_SIZE])?, numbers(&[tokens, HEADS, HEAD_SIZE])?);
        let v = numbers(&[tokens, HEADS, HEAD_SIZE])?;
        let spec = Attention {
            queries: Segments::single(queries),
            keys: Segments::single(tokens),
            visibility: Visibility::Full,
            scale: 0.125,
            dropout: None,
            precision: Precision::F32,
        };
        let flop = 4.0 * (tokens * queries * WIDTH) as f64;
        report(&format!("cross-attention of {queries} queries"), flop, 2.5, || attention(&q, &k, &v, spec.clone()))?;
    }
    Ok(())
}

fn time_memory(tokens: usize) -> Result<()> {
    let q = numbers(&[4, HEADS, HEAD_SIZE])?;
    for (precision, bytes) in [(Precision::F32, 4), (Precision::Bf16, 2), (Precision::Int8, 1)] {
        let keys = numbers(&[tokens, HEADS, HEAD_SIZE])?;
        let memories =
            [(); 4].map(|()| epitome_kernels::AttentionMemory::new(&keys, &keys, &Segments::single(tokens), precision));
        let time = seconds(|| {
            for _ in 0..4 {
                for memory in &memories {
                    memory.as_ref().unwrap().attend(&q, &Segments::single(4), 0.125)?;
                }
            }
            Ok(())
        })? / 16.0;
        println!(
            "memory {precision:?} {:.3} ms {:.1} GB/s",
            time * 1e3,
            (2 * bytes * tokens * WIDTH) as f64 / time * 1e-9
        );
    }
    Ok(())
}

fn time_global(tokens: usize) -> Result<()> {
    for rows in [1, 16] {
        let (x, a, c) = (numbers(&[tokens, WIDTH])?, numbers(&[rows, HEADS, WIDTH])?, numbers(&[rows, HEADS])?);
        let flop = 4.0 * (tokens * rows * HEADS * WIDTH) as f64;
        report(&format!("global attention of {rows} rows"), flop, 3.5, || {
            global_attention(&x, &a, &c, Segments::single(rows), Segments::single(tokens), None)
        })?;
    }
    Ok(())
}

fn time_elementwise(tokens: usize) -> Result<()> {
    let (x, wide) = (numbers(&[tokens, WIDTH])?, numbers(&[tokens, 4 * WIDTH])?);
    let (weight, bias) = (numbers(&[WIDTH])?, numbers(&[WIDTH])?);
    report("layer norm (GFLOP/s: Gelements/s)", (tokens * WIDTH) as f64, 1.0, || layer_norm(&x, &weight, &bias, 1e-5))?;
    report("gelu", (tokens * 4 * WIDTH) as f64, 1.0, || gelu(&wide))?;
    let spec = Dropout { probability: 0.1, key: DropoutKey::new(3) };
    report("dropout", (tokens * WIDTH) as f64, 1.0, || dropout(&x, Some(spec)))
}

fn time_head(tokens: usize) -> Result<()> {
    let vocabulary = 50_265;
    let (hidden, table) = (numbers(&[tokens, WIDTH])?, numbers(&[vocabulary, WIDTH])?);
    let gradient = table.zeros_like()?;
    let targets: Vec<i64> = (0..tokens as i64).collect();
    let time = seconds(|| cross_entropy_backward(&hidden, &table, None, &targets, 0.1, 1.0, &gradient))?;
    let flop = 6.0 * (tokens * vocabulary * WIDTH) as f64;
    println!("head and loss of {tokens} tokens, both ways {:8.2} ms {:7.1} GFLOP/s", time * 1e3, flop / time * 1e-9);
    Ok(())
}
