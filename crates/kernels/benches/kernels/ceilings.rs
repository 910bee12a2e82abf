//! What this machine can do at most, with all threads.

use rayon::prelude::*;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::hint::black_box;
use std::time::Instant;

/// What bounds a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Multiply-adds of f32.
    F32,
    /// Products of pairs of bf16; of f32 where there is no instruction for them.
    Bf16,
    /// Products of four bytes; of f32 where there is no instruction for them.
    Int8,
    /// Reading memory.
    Read,
    /// Reading memory and writing as much: bytes in both directions are counted, and pass each other.
    Update,
}

/// In the order of their numbers.
const LIMITS: [Limit; 5] = [Limit::F32, Limit::Bf16, Limit::Int8, Limit::Read, Limit::Update];

/// Billions of operations, or of bytes, a second: the most that was seen of each.
pub(crate) struct Ceilings {
    most: [Cell<f64>; LIMITS.len()],
    memory: RefCell<Vec<f32>>,
}

/// Sums that depend on themselves only: enough to hide the latency of a multiply-add, few enough for registers.
const CHAINS: usize = 12;

/// Steps of a loop between two looks at the clock.
const STEPS: usize = 4_000_000;

/// How often everything is measured at first.
const TRIES: usize = 5;

/// Bytes of the memory that is read and written: no cache holds them.
const BYTES: usize = 256 << 20;

impl Ceilings {
    pub(crate) fn measure() -> Self {
        let memory = RefCell::new(vec![1.0; BYTES / size_of::<f32>()]);
        let ceilings = Self { most: LIMITS.map(|_| Cell::new(0.0)), memory };
        for limit in LIMITS {
            (0..TRIES).for_each(|_| ceilings.measure_again(limit));
        }
        ceilings
    }

    /// One more try: what else runs on the machine may have held the others back.
    pub(crate) fn measure_again(&self, limit: Limit) {
        let (work, seconds) = match limit {
            Limit::F32 => arithmetic(f32_loop()),
            Limit::Bf16 => arithmetic(bf16_loop().unwrap_or_else(f32_loop)),
            Limit::Int8 => arithmetic(int8_loop().unwrap_or_else(f32_loop)),
            Limit::Read => (BYTES, seconds(|| share(&mut self.memory.borrow_mut(), read))),
            Limit::Update => (2 * BYTES, seconds(|| share(&mut self.memory.borrow_mut(), update))),
        };
        let most = &self.most[limit as usize];
        most.set(most.get().max(work as f64 / seconds * 1e-9));
    }

    pub(crate) fn of(&self, limit: Limit) -> f64 {
        self.most[limit as usize].get()
    }
}

impl fmt::Display for Ceilings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [f32, bf16, int8, read, update] = LIMITS.map(|limit| self.of(limit));
        write!(f, "f32 {f32:.0} GFLOP/s, bf16 {bf16:.0} GFLOP/s, int8 {int8:.0} Gop/s, ")?;
        write!(f, "memory {read:.0} GB/s read, {update:.0} GB/s read and written")
    }
}

fn seconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

/// A loop without memory, and the operations of one step of one chain.
struct Loop {
    run: fn(usize),
    operations: usize,
}

/// Operations of a loop on every thread, and how long they take.
fn arithmetic(measured: Loop) -> (usize, f64) {
    let operations = STEPS * CHAINS * measured.operations * rayon::current_num_threads();
    (operations, seconds(|| drop(rayon::broadcast(|_| (measured.run)(STEPS)))))
}

/// Gives every thread its share.
fn share(values: &mut [f32], run: fn(&mut [f32])) {
    let share = values.len().div_ceil(rayon::current_num_threads());
    values.par_chunks_mut(share).for_each(run);
}

fn read(values: &mut [f32]) {
    let mut sums = [0u32; 32];
    for group in values.as_chunks::<32>().0 {
        for (sum, value) in sums.iter_mut().zip(group) {
            *sum = sum.wrapping_add(value.to_bits());
        }
    }
    black_box(sums);
}

fn update(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = -*value);
    black_box(values);
}

/// Defines a loop of `CHAINS` sums, each replaced by `$step` again and again.
#[cfg(target_arch = "x86_64")]
macro_rules! chains {
    ($name:ident, $features:literal, $zero:expr, $operand:expr, |$sum:ident, $a:ident| $step:expr) => {
        pub(super) fn $name(steps: usize) {
            #[target_feature(enable = $features)]
            fn run(steps: usize) {
                let $a = black_box($operand);
                let mut sums = [$zero; CHAINS];
                for _ in 0..steps {
                    for sum in &mut sums {
                        let $sum = *sum;
                        *sum = $step;
                    }
                }
                black_box(sums);
            }
            // SAFETY: whoever takes this loop has asked the processor for the instructions.
            unsafe { run(steps) };
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod loops {
    use super::{CHAINS, black_box};
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm256_fmadd_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm512_dpbf16_ps, _mm512_dpbusd_epi32,
        _mm512_fmadd_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    };

    chains!(f32_avx512, "avx512f", _mm512_setzero_ps(), _mm512_set1_ps(0.5), |sum, a| _mm512_fmadd_ps(a, a, sum));
    chains!(f32_avx2, "avx2,fma", _mm256_setzero_ps(), _mm256_set1_ps(0.5), |sum, a| _mm256_fmadd_ps(a, a, sum));
    chains!(bf16_avx512, "avx512f,avx512bf16", _mm512_setzero_ps(), bf16(_mm512_set1_epi32(0x3f00_3f00)), |sum, a| {
        _mm512_dpbf16_ps(sum, a, a)
    });
    chains!(int8_avx512, "avx512f,avx512vnni", _mm512_setzero_si512(), _mm512_set1_epi32(0x0101_0101), |sum, a| {
        _mm512_dpbusd_epi32(sum, a, a)
    });

    #[target_feature(enable = "avx512f")]
    fn bf16(words: __m512i) -> __m512bh {
        // SAFETY: both are 512 bits without invalid values.
        unsafe { std::mem::transmute(words) }
    }
}

fn f32_loop() -> Loop {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return Loop { run: loops::f32_avx512, operations: 2 * 16 };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Loop { run: loops::f32_avx2, operations: 2 * 8 };
        }
    }
    Loop { run: f32_portable, operations: 2 * 4 }
}

fn bf16_loop() -> Option<Loop> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
        return Some(Loop { run: loops::bf16_avx512, operations: 2 * 32 });
    }
    None
}

fn int8_loop() -> Option<Loop> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
        return Some(Loop { run: loops::int8_avx512, operations: 2 * 64 });
    }
    None
}

/// Vectors of four, as every compiler makes of arrays.
fn f32_portable(steps: usize) {
    let a = black_box([0.5f32; 4]);
    let mut sums = [[0.0f32; 4]; CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            for (sum, a) in sum.iter_mut().zip(a) {
                *sum = if cfg!(target_arch = "aarch64") { a.mul_add(a, *sum) } else { *sum + a * a };
            }
        }
    }
    black_box(sums);
}
