//! `epitome score`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use epitome_data::{Record, RecordReader, Source, Target};
use epitome_decode::{GenerationOptions, Summarizer};
use serde::Serialize;

use crate::decoding::list_skipped;
use crate::device::DeviceOptions;
use crate::model::ModelOption;
use crate::output::Output;
use crate::progress;

/// Options of `epitome score`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelOption,
    /// Records with summaries (or labels) to score
    #[arg(long, value_name = "RECORDS")]
    input: PathBuf,
    /// File to write instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Records that are scored together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Count and list bad records instead of stopping at the first
    #[arg(long)]
    skip_bad_records: bool,
    #[command(flatten)]
    device: DeviceOptions,
}

/// A line of the output.
#[derive(Serialize)]
struct Score {
    id: String,
    /// Negative log-likelihood of the whole target, in nats.
    nll: f64,
    tokens: usize,
    logprobs: Vec<f32>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    arguments.device.check()?;
    let mut reader = RecordReader::open_all([&arguments.input])?.skipping_bad_records(arguments.skip_bad_records);
    let summarizer = arguments.model.load(&GenerationOptions::default())?;
    let mut output = Output::create(arguments.output.as_deref())?;
    let bar = progress::bar(progress::count_records(&arguments.input), "records");
    let mut totals = Totals::default();
    loop {
        let records: Vec<Record> =
            reader.by_ref().take(arguments.batch_size as usize).collect::<epitome_data::Result<_>>()?;
        if records.is_empty() {
            break;
        }
        bar.inc(records.len() as u64);
        for score in score(&summarizer, records)? {
            totals.add(&score);
            output.record(&score)?;
        }
    }
    bar.finish_and_clear();
    list_skipped(&reader);
    totals.print();
    Ok(())
}

fn score(summarizer: &Summarizer, records: Vec<Record>) -> Result<Vec<Score>> {
    let pairs = records.iter().map(|record| pair(summarizer, record)).collect::<Result<Vec<_>>>()?;
    let ids: Vec<String> = records.into_iter().map(|record| record.id).collect();
    let found = summarizer.score(&pairs).with_context(|| format!("scoring {}", ids.join(", ")))?;
    let scores = ids.into_iter().zip(found).map(|(id, logprobs)| Score {
        id,
        nll: -logprobs.iter().map(|&logprob| f64::from(logprob)).sum::<f64>(),
        tokens: logprobs.len(),
        logprobs,
    });
    Ok(scores.collect())
}

fn pair(summarizer: &Summarizer, record: &Record) -> Result<(Source, Target)> {
    let target = summarizer.target(record)?;
    if target.labels.is_empty() {
        bail!("{}: `labels` is empty", record.location);
    }
    Ok((summarizer.source(record, None)?, target))
}

#[derive(Default)]
struct Totals {
    records: usize,
    tokens: usize,
    nll: f64,
}

impl Totals {
    fn add(&mut self, score: &Score) {
        self.records += 1;
        self.tokens += score.tokens;
        self.nll += score.nll;
    }

    fn print(&self) {
        let mean = self.nll / self.tokens.max(1) as f64;
        eprintln!(
            "{} records, {} target tokens: nll {:.4}, {:.4} a token, perplexity {:.4}",
            self.records,
            self.tokens,
            self.nll,
            mean,
            mean.exp()
        );
    }
}
