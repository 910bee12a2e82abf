//! Records in, summaries out, in order: what `decode` and `evaluate` share.

use std::mem;

use anyhow::{Context, Result};
use clap::Args;
use epitome_data::{Record, Source};
use epitome_decode::{GenerationOptions, Summarizer, Summary};
use epitome_distributed::ProcessGroup;
use epitome_kernels::is_gpu_full;
use indicatif::ProgressBar;

use crate::device::DeviceOptions;
use crate::failure::warn;
use crate::fields::FieldOption;
use crate::generation::GenerationArguments;
use crate::model::ModelOption;
use crate::prompt::PromptOption;
use crate::queue::{Limits, Prepared, Preparing, Queue, tokens_of};
use crate::records::Records;
use crate::shared;
use crate::tiling::TilingNotice;
use crate::truncated::Truncated;

/// Without `--batch-size`, documents decode together as long as they are no more than this many ...
const DEFAULT_BATCH_SIZE: usize = 16;
/// ... and have no more than this many tokens, which bounds the memory.
const DEFAULT_BATCH_TOKENS: usize = 16_384;
/// Both for every so many bytes of a GPU, whose steps take hardly longer for many documents than for one ...
const GPU_BYTES: usize = 10 << 30;
/// ... but no more than this many times.
const MOST_OF_GPU: usize = 8;

/// Consecutive documents that decode together without `--batch-size`.
pub(crate) fn batches(sources: &[Source]) -> impl Iterator<Item = &[Source]> {
    let mut rest = sources;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = |source: &&Source| {
            tokens += source.input_ids.len();
            tokens <= DEFAULT_BATCH_TOKENS
        };
        let count = rest.iter().take(DEFAULT_BATCH_SIZE).take_while(fits).count().max(1);
        let (batch, after) = rest.split_at_checked(count)?;
        rest = after;
        Some(batch)
    })
}

/// Options of every command that writes summaries.
#[derive(Clone, Debug, Args)]
pub(crate) struct DecodingOptions {
    #[command(flatten)]
    pub(crate) model: ModelOption,
    #[command(flatten)]
    pub(crate) device: DeviceOptions,
    /// Documents that decode together [default: up to 16 with at most 16384 tokens; on a GPU so many for every 10 GiB that it has, up to 128 with at most 131072, and half of them where its memory is full]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: Option<u32>,
    /// Read only the first N tokens of a document, with its query, the prompt and special tokens before it; without this nothing is ever cut
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    pub(crate) max_document_tokens: Option<u64>,
    /// Say which passages of its document each sentence of a summary rests on; needs text, not token ids
    #[arg(long)]
    pub(crate) attribute: bool,
    /// Count and list bad records instead of stopping at the first
    #[arg(long)]
    pub(crate) skip_bad_records: bool,
    #[command(flatten)]
    pub(crate) prompt: PromptOption,
    #[command(flatten)]
    pub(crate) fields: FieldOption,
    #[command(flatten)]
    generation: GenerationArguments,
}

impl DecodingOptions {
    /// Loads the model with these options, in every process of `group` together.
    pub(crate) fn load(&self, group: &ProcessGroup) -> Result<Summarizer> {
        let options = GenerationOptions { prompt: self.prompt.prompt.clone(), ..self.generation.options() };
        Ok(self.model.load(&options, &self.device, group)?.attributing(self.attribute))
    }

    /// The decoding of records with a loaded model.
    pub(crate) fn decoding<'a>(
        &self,
        summarizer: &'a Summarizer,
        group: &'a ProcessGroup,
        bar: ProgressBar,
    ) -> Decoding<'a> {
        let processes = group.world_size();
        let memory = epitome_kernels::gpu_memory(summarizer.led().shared().device());
        let times = memory.map_or(1, |bytes| (bytes / GPU_BYTES).clamp(1, MOST_OF_GPU));
        let batch = match self.batch_size {
            Some(size) => Limits { records: processes * size as usize, tokens: usize::MAX },
            None => Limits {
                records: processes * times * DEFAULT_BATCH_SIZE,
                tokens: processes * times * DEFAULT_BATCH_TOKENS,
            },
        };
        Decoding {
            summarizer,
            group,
            bar,
            batch,
            max_document_tokens: self.max_document_tokens.map(|tokens| tokens as usize),
            waiting: Vec::new(),
            tiling: TilingNotice::default(),
            truncated: Truncated::default(),
        }
    }
}

/// Decodes records in small batches and hands out the summaries in the order of the records.
pub(crate) struct Decoding<'a> {
    summarizer: &'a Summarizer,
    group: &'a ProcessGroup,
    bar: ProgressBar,
    /// Of all processes together.
    batch: Limits,
    max_document_tokens: Option<usize>,
    /// Records of the next batch.
    waiting: Vec<Prepared>,
    tiling: TilingNotice,
    truncated: Truncated,
}

impl<'a> Decoding<'a> {
    /// With no more than so many tokens of each document; all of them without a number.
    pub(crate) fn reading_at_most(self, max_document_tokens: Option<usize>) -> Self {
        Self { max_document_tokens, ..self }
    }

    /// Decodes every record, and lets the other processes go. After a bad record the ones before it are still decoded and
    /// handed out.
    ///
    /// # Errors
    /// The first error of the records, of the model, or of `emit`.
    pub(crate) fn run(self, records: &mut Records, emit: &mut dyn FnMut(Record, Summary) -> Result<()>) -> Result<()> {
        let group = self.group;
        let outcome = self.pass(records, emit);
        shared::dismiss(group);
        outcome
    }

    /// [`Decoding::run`] where more may follow: the other processes wait.
    pub(crate) fn pass(
        mut self,
        records: &mut Records,
        emit: &mut dyn FnMut(Record, Summary) -> Result<()>,
    ) -> Result<()> {
        let mut queue = Queue::new(records, self.preparing());
        let outcome = self.run_all(&mut queue, emit);
        self.bar.finish_and_clear();
        self.truncated.announce(self.max_document_tokens);
        outcome
    }

    fn run_all(&mut self, queue: &mut Queue<'_>, emit: &mut dyn FnMut(Record, Summary) -> Result<()>) -> Result<()> {
        while let Some(prepared) = queue.next() {
            match prepared {
                Ok((record, source)) if self.fits(source.as_ref()) => {
                    self.announce(&record, source.as_ref());
                    self.waiting.push((record, source));
                    if self.waiting.len() >= self.batch.records {
                        self.decode_waiting(queue, emit)?;
                    }
                }
                Err(error) if self.waiting.is_empty() => return Err(error),
                later => {
                    queue.put_back(later);
                    self.decode_waiting(queue, emit)?;
                }
            }
        }
        self.decode_waiting(queue, emit)
    }

    fn preparing(&self) -> Preparing<'a> {
        Preparing { summarizer: self.summarizer, max_document_tokens: self.max_document_tokens }
    }

    /// What the encoder reads of a record; nothing of an empty one.
    ///
    /// # Errors
    /// As [`Summarizer::source`].
    pub(crate) fn source(&self, record: &Record) -> Result<Option<Source>> {
        self.preparing().source(record)
    }

    /// Says what is unusual about a record.
    fn announce(&mut self, record: &Record, source: Option<&Source>) {
        let Some(source) = source else {
            self.bar.suspend(|| warn(format_args!("{}: the document is empty, and so is its summary", record.id)));
            return;
        };
        self.tiling.document(&self.bar, &record.id, source.input_ids.len(), self.summarizer.led().config());
        self.truncated.add(&self.bar, &record.id, source);
    }

    /// Whether a document belongs to the batch that waits.
    fn fits(&self, source: Option<&Source>) -> bool {
        let waiting: usize = self.waiting.iter().map(tokens_of).sum();
        let tokens = waiting + source.map_or(0, |source| source.input_ids.len());
        self.waiting.is_empty() || tokens <= self.batch.tokens
    }

    fn decode_waiting(
        &mut self,
        queue: &mut Queue<'_>,
        emit: &mut dyn FnMut(Record, Summary) -> Result<()>,
    ) -> Result<()> {
        let (own, sources): (Vec<Record>, Vec<Option<Source>>) = mem::take(&mut self.waiting).into_iter().unzip();
        let empty: Vec<bool> = sources.iter().map(Option::is_none).collect();
        let sources: Vec<Source> = sources.into_iter().flatten().collect();
        let mut summaries = Vec::new().into_iter();
        if !sources.is_empty() {
            let found = queue.read_during(self.batch, || {
                shared::summarize(self.group, self.summarizer, &sources, &mut |progress| {
                    let message = format!("token {} of at most {}", progress.generated, progress.max_new_tokens);
                    self.bar.set_message(message);
                })
            });
            match &found {
                Err(epitome_decode::Error::Logits { .. }) if own.len() > 1 => {
                    return self.decode_parts((own, sources, &empty), 1, queue, emit);
                }
                Err(error) if own.len() > 1 && is_gpu_full(error) => {
                    // Nor would so many fit later.
                    self.batch.records = self.batch.records.min(own.len().div_ceil(2));
                    return self.decode_parts((own, sources, &empty), self.batch.records, queue, emit);
                }
                _ => (),
            }
            summaries = found.with_context(|| format!("decoding {}", ids(&own)))?.into_iter();
        }
        for (record, empty) in own.into_iter().zip(empty) {
            let summary = if empty { None } else { summaries.next() };
            let summary = summary.unwrap_or_else(|| self.of_nothing());
            let longest = summary.sequences.iter().chain([&summary.best]).map(|sequence| sequence.tokens.len()).max();
            self.tiling.summary(&self.bar, &record.id, longest.unwrap_or(0), self.summarizer.led().config());
            emit(record, summary)?;
            self.bar.inc(1);
        }
        Ok(())
    }

    /// What an empty document is summarized to.
    fn of_nothing(&self) -> Summary {
        let mut summary = Summary::of_nothing();
        summary.best.attribution = self.summarizer.attributes().then(Vec::new);
        summary
    }

    /// The documents of a batch that failed, so many at a time: those before the one that is at fault are not lost.
    fn decode_parts(
        &mut self,
        (own, sources, empty): (Vec<Record>, Vec<Source>, &[bool]),
        count: usize,
        queue: &mut Queue<'_>,
        emit: &mut dyn FnMut(Record, Summary) -> Result<()>,
    ) -> Result<()> {
        let mut sources = sources.into_iter();
        for (record, &empty) in own.into_iter().zip(empty) {
            self.waiting.push((record, if empty { None } else { sources.next() }));
            if self.waiting.len() >= count.min(self.batch.records) {
                self.decode_waiting(queue, emit)?;
            }
        }
        self.decode_waiting(queue, emit)
    }
}

fn ids(records: &[Record]) -> String {
    records.iter().map(|record| record.id.as_str()).collect::<Vec<_>>().join(", ")
}
