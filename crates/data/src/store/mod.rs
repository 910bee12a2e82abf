//! [`ExampleStore`]: examples in a file that is mapped into memory piece by piece.
//!
//! | module | what it holds |
//! |---|---|
//! | `format` | the bytes of a store |
//! | `writer` | examples into a store, as they come |
//! | `cache` | stores that are found again by what they were made from |

mod cache;
mod format;
mod writer;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};

use crate::error::{Error, Result};
use crate::examples::{Example, Statistics};
pub use cache::{Cached, ExampleSource, Origin, TokenCache};
use format::{ENTRY, Entry, HEADER, Header, checksum, decode};

/// Examples in a file, of which memory holds what is asked for: an example while it is copied, and 24 bytes of index for
/// each that was asked for before.
#[derive(Debug)]
pub struct ExampleStore {
    file: File,
    /// The name for messages.
    path: PathBuf,
    /// The files that the records came from.
    files: Vec<Arc<str>>,
    count: usize,
    /// The examples that [`ExampleStore::retain`] has kept, by their places in the file; none if it has not left any out.
    kept: Option<Vec<u32>>,
    /// The index, and behind it the summary.
    index: Mmap,
    /// Where the last example ends.
    end: u64,
    statistics: Statistics,
}

impl ExampleStore {
    /// Opens a store and checks its index; each example is checked when it is read.
    fn open(mut file: File, path: &Path, files: Vec<Arc<str>>) -> Result<Self> {
        let io = |error| Error::io("read", path, error);
        let damaged = |message: &str| Error::Store { path: path.display().to_string(), message: message.to_owned() };
        let length = file.metadata().map_err(io)?.len();
        let mut header = [0; HEADER];
        file.rewind().and_then(|()| file.read_exact(&mut header)).map_err(|_| damaged("there is no header"))?;
        let header = Header::from_bytes(&header).ok_or_else(|| damaged("there is no valid header"))?;
        if header.file_length() != Some(length) || header.index_offset < HEADER as u64 {
            return Err(damaged("the length is wrong"));
        }
        let count = usize::try_from(header.examples).map_err(|_| damaged("too large for this machine"))?;
        let index = map(&file, header.index_offset, length - header.index_offset).map_err(io)?;
        if *blake3::hash(&index).as_bytes() != header.checksum {
            return Err(damaged("the index differs from what was written"));
        }
        let statistics = serde_json::from_slice(&index[count * ENTRY..]).map_err(|_| damaged("there is no summary"))?;
        let end = header.index_offset;
        Ok(Self { file, path: path.to_owned(), files, count, kept: None, index, end, statistics })
    }

    /// Leaves out the examples for which `keep` gives false, as if they were not there. The file and the statistics stay.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn retain(&mut self, mut keep: impl FnMut(&Example) -> bool) -> Result<()> {
        let mut kept = Vec::new();
        for index in 0..self.len() {
            if keep(&self.get(index)?) {
                kept.push(self.place(index) as u32);
            }
        }
        self.kept = (kept.len() < self.count).then_some(kept);
        Ok(())
    }

    /// Where in the file the example at `index` stands.
    fn place(&self, index: usize) -> usize {
        self.kept.as_ref().map_or(index, |kept| kept[index] as usize)
    }

    fn entry(&self, index: usize) -> Entry {
        Entry::read(&self.index, self.place(index), self.count)
    }

    /// How many examples there are.
    pub fn len(&self) -> usize {
        self.kept.as_ref().map_or(self.count, Vec::len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A hash of the examples in their order, as the index knows them, in hexadecimal: what they hold, and in which file of the set, at
    /// which line. What the files are called and where they lie makes no difference.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for index in 0..self.len() {
            hasher.update(&self.entry(index).checksum.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// All examples of the file together.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Tokens of the source at `index`.
    ///
    /// # Panics
    /// If there is no such example.
    pub fn source_length(&self, index: usize) -> usize {
        self.entry(index).source_length as usize
    }

    /// Tokens of the target at `index`.
    ///
    /// # Panics
    /// If there is no such example.
    pub fn target_length(&self, index: usize) -> usize {
        self.entry(index).target_length as usize
    }

    /// A copy of the example at `index`.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something other than what was written.
    ///
    /// # Panics
    /// If there is no such example.
    pub fn get(&self, index: usize) -> Result<Example> {
        let entry = self.entry(index);
        let next = self.place(index) + 1;
        let end = if next < self.count { Entry::read(&self.index, next, self.count).offset } else { self.end };
        // Mapped for the time of the copy: what stays mapped counts as memory of the process.
        let bytes =
            map(&self.file, entry.offset, end - entry.offset).map_err(|error| Error::io("read", &self.path, error))?;
        let example = if checksum(&bytes) == entry.checksum { decode(&bytes, &self.files) } else { None };
        example.ok_or_else(|| {
            let message = format!("example {next} differs from what was written; delete the file and start again");
            Error::Store { path: self.path.display().to_string(), message }
        })
    }

    /// Copies of all examples, in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Example>> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// Maps a part of a file that is not empty.
#[allow(unsafe_code, reason = "the one memory map of this crate")]
fn map(file: &File, offset: u64, length: u64) -> std::io::Result<Mmap> {
    let length = usize::try_from(length).map_err(std::io::Error::other)?;
    // SAFETY: a store is written under another name and never changed once it has its own, so nothing of it changes while
    // it is mapped. Whoever overwrites or cuts it from outside ends the program, as with any map of a file.
    unsafe { MmapOptions::new().offset(offset).len(length).map(file) }
}
