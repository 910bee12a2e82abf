//! `epitome score`.

use std::mem;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use epitome_data::{Record, Source, Target};
use epitome_decode::{GenerationOptions, Summarizer};
use epitome_distributed::ProcessGroup;
use epitome_eval::counted;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::device::DeviceOptions;
use crate::failure::say;
use crate::fields::FieldOption;
use crate::model::ModelOption;
use crate::output::{Output, check_paths, named_file};
use crate::progress;
use crate::prompt::{self, PromptOption};
use crate::records::Records;
use crate::tiling::TilingNotice;
use crate::truncated::Truncated;

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
    /// Read only the first N tokens of a document, with its query, the prompt and special tokens before it; without this nothing is ever cut
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    max_document_tokens: Option<u64>,
    /// Count and list bad records instead of stopping at the first
    #[arg(long)]
    skip_bad_records: bool,
    #[command(flatten)]
    prompt: PromptOption,
    #[command(flatten)]
    fields: FieldOption,
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
    let names = arguments.fields.names()?;
    let mut records = Records::open(&arguments.input, names.clone(), arguments.skip_bad_records)?;
    let model = arguments.model.files();
    let output = named_file(&arguments.output);
    check_paths("--output", output, records.files().chain(model.iter().map(PathBuf::as_path)))?;
    let summarizer = arguments.model.load(&GenerationOptions::default(), &arguments.device, &ProcessGroup::single())?;
    let output = Output::create(output)?;
    let bar = progress::bar(progress::count_records(&arguments.input, names), "records");
    let mut scoring = Scoring {
        summarizer,
        output,
        bar,
        max_document_tokens: arguments.max_document_tokens.map(|tokens| tokens as usize),
        prompt: arguments.prompt.prompt.clone().unwrap_or_default(),
        tiling: TilingNotice::default(),
        truncated: Truncated::default(),
        totals: Totals::default(),
    };
    let outcome = scoring.run(&mut records, arguments.batch_size as usize);
    scoring.bar.finish_and_clear();
    scoring.truncated.announce(scoring.max_document_tokens);
    records.list_skipped();
    outcome?;
    scoring.output.begin()?;
    scoring.totals.print();
    Ok(())
}

/// Scores records in batches and writes the scores in the order of the records.
struct Scoring {
    summarizer: Summarizer,
    output: Output,
    bar: ProgressBar,
    max_document_tokens: Option<usize>,
    prompt: String,
    tiling: TilingNotice,
    truncated: Truncated,
    totals: Totals,
}

impl Scoring {
    /// Scores every record. After a bad record the ones before it are still scored and written.
    fn run(&mut self, records: &mut Records, batch_size: usize) -> Result<()> {
        let mut waiting = Vec::new();
        loop {
            let (summarizer, prompt, limit) = (&self.summarizer, &self.prompt, self.max_document_tokens);
            let next = records.next(|record| {
                Ok((summarizer.target(record)?, summarizer.source(prompt::lead(record, prompt)?.as_ref(), limit)?))
            });
            match next {
                Some(Ok((record, (target, source)))) => {
                    let config = summarizer.led().config();
                    self.tiling.document(&self.bar, &record.id, source.input_ids.len(), config);
                    self.tiling.summary(&self.bar, &record.id, target.labels.len(), config);
                    self.truncated.add(&self.bar, &record.id, &source);
                    waiting.push((record, (source, target)));
                }
                end => {
                    self.score(&mut waiting)?;
                    return end.map_or(Ok(()), |error| error.map(drop));
                }
            }
            if waiting.len() >= batch_size {
                self.score(&mut waiting)?;
            }
        }
    }

    fn score(&mut self, waiting: &mut Vec<(Record, (Source, Target))>) -> Result<()> {
        if waiting.is_empty() {
            return Ok(());
        }
        let (records, pairs): (Vec<Record>, Vec<(Source, Target)>) = mem::take(waiting).into_iter().unzip();
        let ids = || records.iter().map(|record| record.id.as_str()).collect::<Vec<_>>().join(", ");
        let found = self.summarizer.score(&pairs).with_context(|| format!("scoring {}", ids()))?;
        for (record, logprobs) in records.iter().zip(found) {
            let score = Score::new(record, logprobs)?;
            self.totals.add(&score);
            self.output.record(&score)?;
            self.bar.inc(1);
        }
        Ok(())
    }
}

impl Score {
    fn new(record: &Record, logprobs: Vec<f32>) -> Result<Self> {
        if let Some(place) = logprobs.iter().position(|logprob| !logprob.is_finite()) {
            bail!(
                "{}: record `{}`: the log-probability of target token {} is {}, not a finite number; \
                 check the model's weights",
                record.location,
                record.id,
                place + 1,
                logprobs[place]
            );
        }
        let nll = -logprobs.iter().map(|&logprob| f64::from(logprob)).sum::<f64>();
        Ok(Self { id: record.id.clone(), nll, tokens: logprobs.len(), logprobs })
    }
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
        let records = counted(self.records, "record");
        if self.tokens == 0 {
            say(format_args!("{records}, no target tokens"));
            return;
        }
        let mean = self.nll / self.tokens as f64;
        let (tokens, nll, perplexity) = (counted(self.tokens, "target token"), self.nll, mean.exp());
        say(format_args!("{records}, {tokens}: nll {nll:.4}, {mean:.4} a token, perplexity {perplexity:.4}"));
    }
}
