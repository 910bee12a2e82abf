//! [`RecordReader`]: the records of one or several JSON Lines files, one at a time.

use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Location, RecordProblem, Result};
use crate::input::Input;
use crate::record::Record;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads records from JSON Lines files, plain, gzip or zstd (told apart by their first bytes), or standard input.
///
/// A byte order mark, CRLF line ends, blank lines and a last line without a line end are all accepted. As an iterator it
/// yields every record and every bad line (an error for which [`Error::is_bad_record`] holds), and goes on after the
/// latter when asked again; after any other error it ends. With [`skipping_bad_records`](Self::skipping_bad_records) bad
/// lines are put aside instead.
pub struct RecordReader {
    waiting: VecDeque<PathBuf>,
    current: Option<Lines>,
    skip: bool,
    skipped: Vec<Error>,
}

struct Lines {
    input: Input,
    line: usize,
    buffer: Vec<u8>,
}

impl RecordReader {
    /// Reads one file, or standard input for `-`; the path is taken literally.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Input::open(path.as_ref()).map(Self::from_input)
    }

    /// Reads several files, one after the other. `*`, `?` and `[...]` in a path that does not itself exist stand for all
    /// files that match, in alphabetical order. Line numbers start again at 1 in each file.
    ///
    /// # Errors
    /// A missing file or a pattern without a match, all found before the first record is read.
    pub fn open_all(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self> {
        let mut waiting = VecDeque::new();
        for path in paths {
            waiting.extend(expand(path.as_ref())?);
        }
        Ok(Self { waiting, current: None, skip: false, skipped: Vec::new() })
    }

    /// Reads from anything that yields bytes; `name` stands for the file in messages.
    ///
    /// # Errors
    /// The first bytes cannot be read.
    pub fn from_reader(bytes: impl Read + Send + 'static, name: &str) -> Result<Self> {
        Input::from_reader(bytes, name.into()).map(Self::from_input)
    }

    fn from_input(input: Input) -> Self {
        let current = Some(Lines { input, line: 0, buffer: Vec::new() });
        Self { waiting: VecDeque::new(), current, skip: false, skipped: Vec::new() }
    }

    /// Puts bad lines aside, to be listed by [`skipped`](Self::skipped), instead of yielding them.
    pub fn skipping_bad_records(mut self, skip: bool) -> Self {
        self.skip = skip;
        self
    }

    /// The files that are still to be opened, patterns resolved; `-` for standard input.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.waiting.iter().map(PathBuf::as_path)
    }

    /// The bad lines put aside so far, in order.
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
            let Some(lines) = &mut self.current else {
                let path = self.waiting.pop_front()?;
                match Input::open(&path) {
                    Ok(input) => self.current = Some(Lines { input, line: 0, buffer: Vec::new() }),
                    Err(error) => {
                        self.end();
                        return Some(Err(error));
                    }
                }
                continue;
            };
            match lines.next() {
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

impl Lines {
    fn next(&mut self) -> Option<Result<Record>> {
        loop {
            self.buffer.clear();
            match self.input.read_line(&mut self.buffer) {
                Ok(0) => return None,
                Ok(_) => self.line += 1,
                Err(error) => return Some(Err(error)),
            }
            let mut line = self.buffer.as_slice();
            if self.line == 1 {
                line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
            }
            let line = line.trim_ascii();
            if !line.is_empty() {
                let location = Location { file: Arc::clone(self.input.name()), line: self.line };
                return Some(parse(line, location));
            }
        }
    }
}

fn parse(line: &[u8], location: Location) -> Result<Record> {
    let text = std::str::from_utf8(line).map_err(|error| RecordProblem::InvalidUtf8 { byte: error.valid_up_to() });
    text.and_then(|text| Record::from_json(text, location.clone()))
        .map_err(|problem| Error::Record { location, problem })
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
