//! Wall time, and rates beside the machine's ceilings.

use crate::ceilings::{Ceilings, Limit};
use candle_core::Result;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, SamplingMode, Throughput};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What an operation cannot do without: operations or bytes, and what bounds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    amount: usize,
    limit: Limit,
}

impl Work {
    /// Multiplications and additions.
    pub(crate) fn operations(limit: Limit, amount: usize) -> Self {
        Self { amount, limit }
    }

    /// Bytes that are read.
    pub(crate) fn read(amount: usize) -> Self {
        Self { amount, limit: Limit::Read }
    }

    /// Values of 4 bytes that are read or written.
    pub(crate) fn values(amount: usize) -> Self {
        Self { amount: 4 * amount, limit: Limit::Update }
    }
}

/// Runs and reports operations.
pub(crate) struct Bench {
    criterion: Criterion<Rate>,
    ceilings: Rc<Ceilings>,
    limit: Rc<Cell<Limit>>,
}

impl Bench {
    /// Short runs, since there are many; the command line can change that.
    pub(crate) fn new(ceilings: Ceilings) -> Self {
        let (ceilings, limit) = (Rc::new(ceilings), Rc::new(Cell::new(Limit::F32)));
        let criterion = Criterion::default()
            .with_measurement(Rate { ceilings: ceilings.clone(), limit: limit.clone() })
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_millis(1000))
            .nresamples(2000)
            .without_plots()
            .configure_from_args();
        Self { criterion, ceilings, limit }
    }

    /// Measures `run` on what `setup` makes, unless a filter leaves it out.
    pub(crate) fn run<I, R>(
        &mut self,
        name: &str,
        work: Work,
        setup: impl Fn() -> Result<I>,
        mut run: impl FnMut(&I) -> Result<R>,
    ) {
        self.limit.set(work.limit);
        let (theme, name) = name.split_once('/').expect("a theme before the name");
        let mut group = self.criterion.benchmark_group(theme);
        group.throughput(Throughput::Elements(work.amount as u64)).sampling_mode(SamplingMode::Flat);
        let mut inputs = None;
        group.bench_function(name, |bencher| {
            let inputs = inputs.get_or_insert_with(|| {
                self.ceilings.measure_again(work.limit);
                setup().unwrap()
            });
            bencher.iter(|| run(inputs).unwrap());
        });
        group.finish();
    }

    pub(crate) fn finish(self) {
        self.criterion.final_summary();
    }
}

/// Wall time whose throughput is a share of a ceiling.
struct Rate {
    ceilings: Rc<Ceilings>,
    /// Of the operation that is running.
    limit: Rc<Cell<Limit>>,
}

impl Measurement for Rate {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        WallTime.start()
    }

    fn end(&self, start: Instant) -> Duration {
        WallTime.end(start)
    }

    fn add(&self, first: &Duration, second: &Duration) -> Duration {
        WallTime.add(first, second)
    }

    fn zero(&self) -> Duration {
        WallTime.zero()
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Rate {
    fn format_throughput(&self, throughput: &Throughput, nanoseconds: f64) -> String {
        let Throughput::Elements(amount) = throughput else { unreachable!("work is counted in elements") };
        let (rate, limit) = (*amount as f64 / nanoseconds, self.limit.get());
        let unit = match limit {
            Limit::F32 | Limit::Bf16 => "GFLOP/s",
            Limit::Int8 => "Gop/s",
            Limit::Read | Limit::Update => "GB/s",
        };
        let most = self.ceilings.of(limit);
        format!("{rate:.1} {unit} ({:.0} % of {most:.0})", 100.0 * rate / most)
    }

    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(&self, typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_throughputs(typical, throughput, values)
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}

/// Copies that are used in turn and are more than caches hold, as the layers of a model are.
pub(crate) struct InTurn<T> {
    items: Vec<T>,
    next: Cell<usize>,
}

impl<T> InTurn<T> {
    /// Copies of an item of some bytes, as `make` makes them.
    pub(crate) fn new(make: impl Fn() -> Result<T>, bytes: usize) -> Result<Self> {
        const BEYOND_CACHES: usize = 160 << 20;
        let items = (0..=BEYOND_CACHES.div_ceil(bytes)).map(|_| make());
        Ok(Self { items: items.collect::<Result<_>>()?, next: Cell::new(0) })
    }

    pub(crate) fn next(&self) -> &T {
        let at = self.next.get();
        self.next.set((at + 1) % self.items.len());
        &self.items[at]
    }
}
