//! Records with what the encoder reads of them: those of the next batch are read while a batch is decoded.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Result;
use epitome_data::{Record, Source};
use epitome_decode::Summarizer;

use crate::prompt;
use crate::records::Records;

/// A record and what the encoder reads of it; an empty document has no source.
pub(crate) type Prepared = (Record, Option<Source>);

/// How a record becomes tokens.
#[derive(Clone, Copy)]
pub(crate) struct Preparing<'a> {
    pub(crate) summarizer: &'a Summarizer,
    pub(crate) max_document_tokens: Option<usize>,
}

impl Preparing<'_> {
    /// What the encoder reads of a record; nothing of an empty one.
    ///
    /// # Errors
    /// As [`Summarizer::source_to_summarize`].
    pub(crate) fn source(&self, record: &Record) -> Result<Option<Source>> {
        if record.is_empty() {
            return Ok(None);
        }
        let record = prompt::lead(record, &self.summarizer.generation().prompt)?;
        Ok(Some(self.summarizer.source_to_summarize(&record, self.max_document_tokens)?))
    }
}

/// Records and their tokens.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) records: usize,
    pub(crate) tokens: usize,
}

/// Records in their order, some of which have been read already.
pub(crate) struct Queue<'a> {
    records: &'a mut Records,
    preparing: Preparing<'a>,
    ahead: VecDeque<Result<Prepared>>,
}

impl<'a> Queue<'a> {
    pub(crate) fn new(records: &'a mut Records, preparing: Preparing<'a>) -> Self {
        Self { records, preparing, ahead: VecDeque::new() }
    }

    pub(crate) fn next(&mut self) -> Option<Result<Prepared>> {
        self.ahead.pop_front().or_else(|| self.records.next(|record| self.preparing.source(record)))
    }

    /// Makes it the next one again.
    pub(crate) fn put_back(&mut self, next: Result<Prepared>) {
        self.ahead.push_front(next);
    }

    /// Does `work`, while up to so many records are read on another thread, nothing behind an error, and nothing where a record may
    /// still have to be written.
    pub(crate) fn read_during<R>(&mut self, most: Limits, work: impl FnOnce() -> R) -> R {
        let Self { records, preparing, ahead } = self;
        if !records.are_there() {
            return work();
        }
        let size = |next: &Result<Prepared>| next.as_ref().map_or(most.tokens, tokens_of);
        let mut tokens = ahead.iter().map(size).fold(0, usize::saturating_add);
        let is_done = AtomicBool::new(false);
        let read = || {
            while ahead.len() < most.records && tokens < most.tokens && !is_done.load(Ordering::Relaxed) {
                let Some(next) = records.next(|record| preparing.source(record)) else { break };
                tokens = tokens.saturating_add(size(&next));
                ahead.push_back(next);
            }
        };
        thread::scope(|scope| {
            let reader = scope.spawn(read);
            let result = work();
            // What is done does not wait for what comes next.
            is_done.store(true, Ordering::Relaxed);
            reader.join().unwrap_or_else(|panic| resume_unwind(panic));
            result
        })
    }
}

pub(crate) fn tokens_of((_, source): &Prepared) -> usize {
    source.as_ref().map_or(0, |source| source.input_ids.len())
}
