//! [`RecordReader`]: the records of one or several files, one at a time.
//!
//! | module | what it reads |
//! |---|---|
//! | `lines` | JSON Lines |
//! | `parquet` | Parquet files, row by row |
//! | `column` | one column of a Parquet file |

mod column;
mod lines;
mod parquet;

use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fields::FieldNames;
use crate::input::Input;
use crate::record::{Form, Record};

use lines::Lines;
use parquet::Rows;

/// Reads records from files of JSON Lines, plain, gzip or zstd, and of Parquet (told apart by their first bytes), or JSON
/// Lines from standard input.
///
/// A byte order mark, CRLF line ends, blank lines and a last line without a line end are all accepted. As an iterator it
/// yields every record and every bad one (an error for which [`Error::is_bad_record`] holds), and goes on after the
/// latter when asked again; after any other error it ends. With [`skipping_bad_records`](Self::skipping_bad_records) bad
/// records are put aside instead.
#[derive(Default)]
pub struct RecordReader {
    waiting: VecDeque<PathBuf>,
    current: Option<Source>,
    form: Form,
    skip: bool,
    skipped: Vec<Error>,
}

/// An open file.
enum Source {
    Lines(Lines),
    Rows(Box<Rows>),
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let mut input = Input::open(path)?;
        if !input.starts_with(parquet::MAGIC) {
            return Ok(Self::Lines(Lines::new(input)));
        }
        if !path.is_file() || path == Path::new("-") {
            return Err(Error::ParquetStream(input.name().to_string()));
        }
        Ok(Self::Rows(Box::new(Rows::open(path, input.name().clone())?)))
    }

    fn next(&mut self, form: &Form) -> Option<Result<Record>> {
        match self {
            Self::Lines(lines) => lines.next(form),
            Self::Rows(rows) => rows.next(form),
        }
    }
}

impl RecordReader {
    /// Reads one file, or standard input for `-`; the path is taken literally.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let current = Some(Source::open(path.as_ref())?);
        Ok(Self { current, ..Self::default() })
    }

    /// Reads several files, one after the other. `*`, `?` and `[...]` in a path that does not itself exist stand for all
    /// files that match, in alphabetical order. Lines and rows are counted from 1 in each file.
    ///
    /// # Errors
    /// A missing file or a pattern without a match, all found before the first record is read.
    pub fn open_all(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self> {
        let mut waiting = VecDeque::new();
        for path in paths {
            waiting.extend(expand(path.as_ref())?);
        }
        Ok(Self { waiting, ..Self::default() })
    }

    /// Reads JSON Lines from anything that yields bytes; `name` stands for the file in messages.
    ///
    /// # Errors
    /// The first bytes cannot be read, or are those of Parquet.
    pub fn from_reader(bytes: impl Read + Send + 'static, name: &str) -> Result<Self> {
        let mut input = Input::from_reader(bytes, name.into())?;
        if input.starts_with(parquet::MAGIC) {
            return Err(Error::ParquetStream(name.to_owned()));
        }
        Ok(Self { current: Some(Source::Lines(Lines::new(input))), ..Self::default() })
    }

    /// Reads the fields of every record from where `names` says.
    pub fn with_field_names(mut self, names: FieldNames) -> Self {
        self.form.names = names;
        self
    }

    /// Accepts records without any document, such as the summaries that another program wrote.
    pub fn with_documents_optional(mut self) -> Self {
        self.form.documents_optional = true;
        self
    }

    /// Keeps fields that are no part of a record, in [`Record::other`].
    pub fn keeping_other_fields(mut self) -> Self {
        self.form.keeps_others = true;
        self
    }

    /// Puts bad records aside, to be listed by [`skipped`](Self::skipped), instead of yielding them.
    pub fn skipping_bad_records(mut self, skip: bool) -> Self {
        self.skip = skip;
        self
    }

    /// The files that are still to be opened, patterns resolved; `-` for standard input.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.waiting.iter().map(PathBuf::as_path)
    }

    /// Opens the files that are still to be opened, but for standard input and pipes, which can be opened only once.
    ///
    /// # Errors
    /// A file that cannot be opened, or is not what its first bytes say.
    pub fn check(&self) -> Result<()> {
        let can_be_read_again = |file: &&Path| *file != Path::new("-") && (file.is_file() || file.is_dir());
        self.files().filter(can_be_read_again).try_for_each(|file| Source::open(file).map(drop))
    }

    /// The bad records put aside so far, in order.
    pub fn skipped(&self) -> &[Error] {
        &self.skipped
    }

    fn end(&mut self) {
        self.waiting.clear();
        self.current = None;
    }
}

impl Iterator for RecordReader {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        loop {
            let Some(source) = &mut self.current else {
                let path = self.waiting.pop_front()?;
                match Source::open(&path) {
                    Ok(source) => self.current = Some(source),
                    Err(error) => {
                        self.end();
                        return Some(Err(error));
                    }
                }
                continue;
            };
            match source.next(&self.form) {
                None => self.current = None,
                Some(Err(error)) if error.is_bad_record() && self.skip => self.skipped.push(error),
                Some(Err(error)) => {
                    if !error.is_bad_record() {
                        self.end();
                    }
                    return Some(Err(error));
                }
                record => return record,
            }
        }
    }
}

/// The files a path stands for: itself if it exists or has no wildcard, else everything that matches.
fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    if path == Path::new("-") {
        return Ok(vec![path.to_owned()]);
    }
    let pattern = path.to_string_lossy();
    if path.exists() || !pattern.contains(['*', '?', '[']) {
        std::fs::metadata(path).map_err(|error| Error::io("open", path, error))?;
        return Ok(vec![path.to_owned()]);
    }
    let matches = glob::glob(&pattern)
        .map_err(|error| Error::Pattern { pattern: pattern.to_string(), message: error.msg.to_owned() })?;
    let mut files = Vec::new();
    for found in matches {
        let file = found.map_err(|error| {
            let path = error.path().to_owned();
            Error::io("read", path, error.into())
        })?;
        if !file.is_dir() {
            files.push(file);
        }
    }
    if files.is_empty() { Err(Error::NoMatch(pattern.into_owned())) } else { Ok(files) }
}
