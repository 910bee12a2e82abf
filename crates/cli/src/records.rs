//! Records with what a command makes of each, and the bad ones put aside.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result};
use epitome_data::{FieldNames, Record, RecordReader};
use epitome_eval::counted;

use crate::failure::warn_listing;

/// A record that a command cannot use although the others are fine.
#[derive(Debug)]
pub(crate) struct BadRecord(pub(crate) String);

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadRecord {}

/// What a command asks of every record.
type Check = dyn FnMut(&Record) -> Result<()> + Send;

/// Records of files or of memory, in order. With `--skip-bad-records` a bad one is put aside wherever it is found to be
/// bad: by the reader, by the command's own check, or when tokens are made of it.
pub(crate) struct Records {
    source: Box<dyn Iterator<Item = epitome_data::Result<Record>> + Send>,
    files: Vec<PathBuf>,
    /// In regular files, or in memory.
    are_there: bool,
    check: Box<Check>,
    skip: bool,
    skipped: Vec<Error>,
}

impl Records {
    /// The records of a file or a pattern, none of which is opened yet, with fields of these names.
    ///
    /// # Errors
    /// A missing file or a pattern without a match.
    pub(crate) fn open(input: &Path, names: FieldNames, skip: bool) -> Result<Self> {
        let reader = RecordReader::open_all([input])?.with_field_names(names);
        let files: Vec<PathBuf> = reader.files().map(Path::to_owned).collect();
        let are_there = files.iter().all(|file| file != Path::new("-") && file.is_file());
        Ok(Self { source: Box::new(reader), files, are_there, check: Box::new(|_| Ok(())), skip, skipped: Vec::new() })
    }

    /// Records that are there already, none of which may be bad.
    pub(crate) fn of(records: Vec<Record>) -> Self {
        let source = Box::new(records.into_iter().map(Ok));
        Self {
            source,
            files: Vec::new(),
            are_there: true,
            check: Box::new(|_| Ok(())),
            skip: false,
            skipped: Vec::new(),
        }
    }

    /// With a check of every record as it is read.
    pub(crate) fn checked_by(mut self, check: impl FnMut(&Record) -> Result<()> + Send + 'static) -> Self {
        self.check = Box::new(check);
        self
    }

    /// The files that are read; `-` for standard input.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> + Clone {
        self.files.iter().map(PathBuf::as_path)
    }

    /// Whether all records are there, and nobody has to write one first.
    pub(crate) fn are_there(&self) -> bool {
        self.are_there
    }

    /// Whether bad records are put aside.
    pub(crate) fn skips(&self) -> bool {
        self.skip
    }

    /// The next record with what `prepare` makes of it.
    pub(crate) fn next<T>(&mut self, mut prepare: impl FnMut(&Record) -> Result<T>) -> Option<Result<(Record, T)>> {
        loop {
            let prepared = self.source.next()?.map_err(Error::from).and_then(|record| {
                (self.check)(&record)?;
                let prepared = prepare(&record)?;
                Ok((record, prepared))
            });
            match prepared {
                Err(error) if self.skip && is_bad_record(&error) => self.skipped.push(error),
                outcome => return Some(outcome),
            }
        }
    }

    /// Says which bad records were skipped.
    pub(crate) fn list_skipped(&self) {
        list_skipped(&self.skipped);
    }
}

/// Says how many bad records were skipped, and why each was.
pub(crate) fn list_skipped(skipped: &[impl fmt::Display]) {
    if !skipped.is_empty() {
        warn_listing(format_args!("skipped {}", counted(skipped.len(), "bad record")), skipped);
    }
}

/// Whether a run that skips bad records goes on after this.
pub(crate) fn is_bad_record(error: &Error) -> bool {
    error.is::<BadRecord>()
        || error.downcast_ref().is_some_and(epitome_data::Error::is_bad_record)
        || error.downcast_ref().is_some_and(epitome_decode::Error::is_bad_record)
}
