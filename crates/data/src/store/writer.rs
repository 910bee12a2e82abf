//! Examples into a store, as they come.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use super::format::{ENTRY, Entry, HEADER, Header, checksum, encode};
use crate::error::{Error, Result};
use crate::examples::{Example, Statistics};

/// Writes a store in constant memory: the index goes to a file of its own until all examples are there.
pub(super) struct Writer<'a> {
    /// The name for messages.
    path: &'a Path,
    examples: BufWriter<&'a File>,
    index: BufWriter<File>,
    /// The number of each file that records come from.
    files: HashMap<Arc<str>, usize>,
    offset: u64,
    count: u64,
    bytes: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Writes to `file`, which is empty; `index` is an empty file for the time being. Records come from `files`.
    pub(super) fn new(path: &'a Path, file: &'a File, index: File, files: &[Arc<str>]) -> Result<Self> {
        let mut examples = BufWriter::with_capacity(1 << 20, file);
        examples.write_all(&[0; HEADER]).map_err(|error| Error::tokens_not_written(path, error))?;
        // A file that is named twice keeps its first number: the name is all that matters.
        let files = files.iter().cloned().enumerate().rev().map(|(number, name)| (name, number)).collect();
        let (index, offset) = (BufWriter::new(index), HEADER as u64);
        Ok(Self { path, examples, index, files, offset, count: 0, bytes: Vec::new() })
    }

    pub(super) fn push(&mut self, example: &Example) -> Result<()> {
        self.bytes.clear();
        let file = *self.files.get(&example.location.file).expect("records come from the files that were named");
        if self.count == u64::from(u32::MAX) || encode(example, file, &mut self.bytes).is_none() {
            return Err(Error::TooLarge(example.location.clone()));
        }
        let entry = Entry {
            offset: self.offset,
            checksum: checksum(&self.bytes),
            source_length: example.input_ids.len() as u32,
            target_length: example.labels.len() as u32,
        };
        let written = self.examples.write_all(&self.bytes).and_then(|()| self.index.write_all(&entry.to_bytes()));
        written.map_err(|error| Error::tokens_not_written(self.path, error))?;
        self.offset += self.bytes.len() as u64;
        self.count += 1;
        Ok(())
    }

    /// Appends index and summary, and at last the header that makes the file a store.
    pub(super) fn finish(self, statistics: &Statistics) -> Result<()> {
        let path = self.path;
        self.complete(statistics).map_err(|error| Error::tokens_not_written(path, error))
    }

    fn complete(mut self, statistics: &Statistics) -> io::Result<()> {
        let summary = serde_json::to_vec(statistics)?;
        let mut hasher = blake3::Hasher::new();
        let mut index = self.index.into_inner()?;
        index.seek(SeekFrom::Start(0))?;
        let mut index = BufReader::with_capacity(ENTRY << 12, index);
        let mut part = vec![0; ENTRY << 12];
        loop {
            let length = index.read(&mut part)?;
            if length == 0 {
                break;
            }
            hasher.update(&part[..length]);
            self.examples.write_all(&part[..length])?;
        }
        hasher.update(&summary);
        self.examples.write_all(&summary)?;
        let header = Header {
            examples: self.count,
            index_offset: self.offset,
            summary_length: summary.len() as u64,
            checksum: *hasher.finalize().as_bytes(),
        };
        let mut file = self.examples.into_inner()?;
        // On disk before the header is: without it the file is no store.
        file.sync_data()?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header.to_bytes())?;
        file.sync_all()
    }
}
