//! `epitome tokenizer train`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use epitome_data::{RecordReader, Tokenizer, TrainerOptions};
use epitome_model::held_model;

use crate::failure::warn;
use crate::fields::FieldOption;
use crate::output::print;
use crate::progress;
use crate::values::positive;

/// Options of `epitome tokenizer`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Learn a byte-level BPE vocabulary with LED's special tokens at LED's ids
    Train(TrainArguments),
}

#[derive(Clone, Debug, Args)]
struct TrainArguments {
    /// Records whose documents, queries and summaries to learn from; * and ? are expanded
    #[arg(long, value_name = "RECORDS", required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// Entries of the vocabulary, the special tokens included
    #[arg(long, value_name = "N", value_parser = positive())]
    vocab_size: usize,
    /// Directory to write the tokenizer's files to
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// How often a pair must occur to become a token
    #[arg(long, value_name = "N", default_value_t = 2)]
    min_frequency: u64,
    /// Add `<doc-sep>`, which separates several documents
    #[arg(long)]
    document_separator: bool,
    /// Count and list bad records instead of stopping at the first
    #[arg(long)]
    skip_bad_records: bool,
    #[command(flatten)]
    fields: FieldOption,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Command::Train(arguments) = &arguments.command;
    if let Some(held) = held_model(&arguments.output) {
        let held = held.display();
        bail!("{held}: the output already holds a model, whose tokenizer would be lost: choose another --output");
    }
    let is_new = !arguments.output.exists();
    epitome_files::create_directory(&arguments.output)
        .with_context(|| format!("cannot write {}", arguments.output.display()))?;
    let outcome = train(arguments);
    if outcome.is_err() && is_new {
        // Only an empty directory can be removed so.
        let _ = fs::remove_dir(&arguments.output);
    }
    outcome
}

fn train(arguments: &TrainArguments) -> Result<()> {
    let names = arguments.fields.names()?;
    let reader = RecordReader::open_all(&arguments.input)?.with_field_names(names);
    let mut reader = reader.skipping_bad_records(arguments.skip_bad_records);
    let bar = progress::bar(None, "records");
    let texts = reader.by_ref().inspect(|_| bar.inc(1)).flat_map(|record| match record {
        Ok(record) => record.into_texts().into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    });
    let options = TrainerOptions {
        min_frequency: arguments.min_frequency,
        document_separator: arguments.document_separator,
        ..TrainerOptions::new(arguments.vocab_size)
    };
    let tokenizer = Tokenizer::train(texts, &options)?;
    bar.finish_and_clear();
    crate::records::list_skipped(reader.skipped());
    tokenizer.save(&arguments.output)?;
    if tokenizer.vocab_size() < arguments.vocab_size {
        warn(format_args!(
            "the records hold no more than {} entries; the vocabulary is smaller than asked for",
            tokenizer.vocab_size()
        ));
    }
    print(&format!("{} entries in {}", tokenizer.vocab_size(), arguments.output.display()))
}
