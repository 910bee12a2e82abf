//! The `epitome` command: parses options, calls one crate, prints.
//!
//! Exit codes: 0 the work is done, 1 it failed (one line on stderr says why), 2 wrong usage.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, reason = "it panics where nobody reads on: `output::print`")]

mod bench;
mod convert;
mod decode;
mod decoding;
mod device;
mod evaluate;
mod failure;
mod fields;
mod find_learning_rate;
mod generation;
mod inspect;
mod model;
mod output;
mod progress;
mod prompt;
mod queue;
mod records;
mod results;
mod score;
mod settings;
mod shared;
mod summaries;
mod threads;
mod tiling;
mod tokenizer;
mod train;
mod truncated;
mod unfinished;
mod values;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use epitome_distributed::ProcessGroup;

/// Summarize long documents with LED models: decode, train, score and evaluate.
#[derive(Debug, Parser)]
#[command(name = "epitome", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Compute threads, up to 1024 [default: one per physical core]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write summaries of documents
    Decode(decode::Arguments),
    /// Log-likelihood of given summaries
    Score(score::Arguments),
    /// Train a model from a TOML file
    Train(train::Arguments),
    /// Score summaries against references, compare systems, say what summaries are like
    Evaluate(evaluate::Arguments),
    /// The evaluations of many runs as one table
    Results(results::Arguments),
    /// Make tokenizers
    Tokenizer(tokenizer::Arguments),
    /// Turn BART or allenai weights into a LED model directory
    Convert(convert::Arguments),
    /// Say what a model is and how much memory it takes
    Inspect(inspect::Arguments),
    /// Time this machine
    Bench(bench::Arguments),
}

/// Rust's exit code of a panic.
const PANICKED: u8 = 101;

fn main() -> ExitCode {
    epitome_kernels::prepare_process();
    let cli = Cli::parse();
    let group = match ProcessGroup::join() {
        Ok(group) => group,
        Err(error) => return failure::report(&error.into()).into(),
    };
    failure::speak(group.is_root());
    match catch_unwind(AssertUnwindSafe(|| run(cli, &group))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            let code = failure::report(&error);
            if !failure::is_of_all(&error) {
                group.abort(code);
            }
            code.into()
        }
        // The others would wait for a process that has panicked.
        Err(panic) => {
            group.abort(PANICKED);
            resume_unwind(panic)
        }
    }
}

fn run(cli: Cli, group: &ProcessGroup) -> Result<()> {
    threads::configure(cli.threads.map(usize::from))?;
    if group.world_size() > 1 && !cli.command.is_shared() {
        return failure::usage("only decode, evaluate and train can be shared between processes");
    }
    match cli.command {
        Command::Decode(arguments) => decode::run(&arguments, group),
        Command::Score(arguments) => score::run(&arguments),
        Command::Train(arguments) => train::run(&arguments, group),
        Command::Evaluate(arguments) => evaluate::run(&arguments, group),
        Command::Results(arguments) => results::run(&arguments),
        Command::Tokenizer(arguments) => tokenizer::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    }
}

impl Command {
    /// Whether several processes can work on it together.
    fn is_shared(&self) -> bool {
        matches!(self, Self::Decode(_) | Self::Evaluate(_) | Self::Train(_))
    }
}
