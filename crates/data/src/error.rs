//! What can go wrong between a file and its token ids, each case naming the place and the remedy.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// A line of JSON Lines, shown as `file:line`, or a row of Parquet, shown as `file: row N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file as it was named by the user; `<stdin>` for standard input.
    pub file: Arc<str>,
    /// The line or row, counted from 1.
    pub number: usize,
    /// What is counted.
    pub unit: Unit,
}

/// What the records of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Lines of JSON.
    Line,
    /// Rows of Parquet.
    Row,
}

impl Location {
    /// A line, counted from 1.
    pub fn line(file: impl Into<Arc<str>>, number: usize) -> Self {
        Self { file: file.into(), number, unit: Unit::Line }
    }

    /// A row, counted from 1.
    pub fn row(file: impl Into<Arc<str>>, number: usize) -> Self {
        Self { file: file.into(), number, unit: Unit::Row }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Line => write!(f, "{}:{}", self.file, self.number),
            Unit::Row => write!(f, "{}: row {}", self.file, self.number),
        }
    }
}

/// Why a line or row is not a record. A reader can go on after it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordProblem {
    /// The line is not JSON.
    #[error("not valid JSON: {message} (column {column})")]
    Json {
        /// What the parser says.
        message: String,
        /// The column, counted from 1 in bytes.
        column: usize,
    },
    /// The line is JSON, but not an object.
    #[error("a record must be a JSON object, found {found}")]
    NotAnObject {
        /// The kind of value found.
        found: &'static str,
    },
    /// The line is not UTF-8.
    #[error("not valid UTF-8 at byte {byte} of the line; save the file as UTF-8")]
    InvalidUtf8 {
        /// The offset of the first wrong byte, counted from 0.
        byte: usize,
    },
    /// A text of a Parquet row that is not UTF-8.
    #[error("`{field}` is not valid UTF-8 at byte {byte}")]
    InvalidText {
        /// The column.
        field: String,
        /// The offset of the first wrong byte, counted from 0.
        byte: usize,
    },
    /// Neither text nor token ids; holds the names of the fields that would have been either.
    #[error("no {0}; if it has another name, give that with `data.fields` or --field")]
    NoDocument(String),
    /// A field that was given another name, which the record does not have.
    #[error("no `{name}`, which `{field}` is to be read from")]
    NoField {
        /// The field.
        field: String,
        /// The name it was given.
        name: String,
    },
    /// Both `document` and `documents`.
    #[error("both `document` and `documents`; keep exactly one of them")]
    TwoDocuments,
    /// A field with a value of another type.
    #[error("`{field}` must be {expected}, found {found}")]
    WrongType {
        /// The field, with an index for an element of a list.
        field: String,
        /// What it should be.
        expected: &'static str,
        /// The kind of value found.
        found: String,
    },
    /// A tokenized record without a single token.
    #[error("`input_ids` is empty")]
    NoTokens,
    /// A global position behind the last token.
    #[error("global position {position} is out of range: `input_ids` has {tokens} tokens, counted from 0")]
    GlobalPosition {
        /// The position given.
        position: usize,
        /// The number of tokens of the record.
        tokens: usize,
    },
}

/// An error of reading records or documents, or of making token ids of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A line that is not a record; the only error after which a [`RecordReader`](crate::RecordReader) goes on.
    #[error("{location}: {problem}")]
    Record {
        /// Where the line is.
        location: Location,
        /// What is wrong with it.
        problem: RecordProblem,
    },
    /// A file that cannot be opened, read or written.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// `open`, `read`, `write` or the like.
        action: &'static str,
        /// The file.
        path: String,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// A compressed file that ends too early or is damaged.
    #[error("{path}: the {format} data is {problem} after {read} bytes of text; copy or download the file again")]
    Damaged {
        /// The file.
        path: String,
        /// `gzip` or `zstd`.
        format: &'static str,
        /// `truncated` or `damaged (...)`.
        problem: String,
        /// Decompressed bytes that could be read.
        read: u64,
    },
    /// A Parquet file that cannot be understood.
    #[error("{path}: the Parquet data is damaged or of a kind that cannot be read: {message}")]
    Parquet {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// Parquet where the bytes come one after the other.
    #[error(
        "{0}: Parquet can be read from a file only, not from standard input or a pipe: its table of contents is at the end"
    )]
    ParquetStream(String),
    /// A file that changed between being identified and being read.
    #[error("{0} changed while it was being read: start again")]
    Changed(String),
    /// More tokens or records than a store of examples can hold.
    #[error("{0}: more tokens than a record, or more records than a data set, can have: 4294967295")]
    TooLarge(Location),
    /// A store of examples that is not what was written.
    #[error("{path}: the stored tokens are damaged: {message}")]
    Store {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A line that is too long to be a record.
    #[error("{0}: the line is longer than 1 GiB; a file of records has one JSON object a line")]
    LongLine(Location),
    /// No place for the tokens of examples.
    #[error("tokens cannot be written to {path}: {error}; name a place with room by data.cache_dir or EPITOME_CACHE")]
    TokensNotWritten {
        /// The file or its directory.
        path: String,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// A pattern that matches no file.
    #[error("no file matches `{0}`")]
    NoMatch(String),
    /// A pattern that is not one.
    #[error("`{pattern}` is not a valid pattern: {message}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        message: String,
    },
    /// A text document that is not UTF-8 (or UTF-16 with a byte order mark).
    #[error("{path}: not valid {encoding} at byte {byte}; convert the file to UTF-8")]
    Encoding {
        /// The file.
        path: String,
        /// `UTF-8`, `UTF-16LE` or `UTF-16BE`.
        encoding: &'static str,
        /// The offset of the first wrong byte, counted from 0 in the uncompressed file.
        byte: usize,
    },
    /// A file that is not text.
    #[error("{path}: not a text file ({kind}); give plain text, or JSON Lines as records")]
    Binary {
        /// The file.
        path: String,
        /// What it looks like.
        kind: &'static str,
    },
    /// Records where a text is expected.
    #[error("{}: these are records, not a text: give them with --input", .0.display())]
    RecordsAsText(PathBuf),
    /// A model directory without a tokenizer.
    #[error("{0}: no tokenizer here; expected tokenizer.json, or vocab.json with merges.txt")]
    NoTokenizer(PathBuf),
    /// A tokenizer file that cannot be understood.
    #[error("{path}: {message}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A text that the tokenizer could not turn into ids or back.
    #[error("the tokenizer failed: {0}")]
    Tokenization(String),
    /// A vocabulary too small for the special tokens and the 256 bytes.
    #[error("a vocabulary of {wanted} entries is too small: the 256 bytes and the special tokens take {minimum}")]
    VocabularyTooSmall {
        /// The size asked for.
        wanted: usize,
        /// The smallest size possible.
        minimum: usize,
    },
    /// Text, but no tokenizer to make ids of it.
    #[error(
        "{0}: a record with text needs a tokenizer: tokenizer.json, or vocab.json with merges.txt, in the model's directory, or in that \
         which model.tokenizer of a training run names; only records with `input_ids` do without"
    )]
    TokenizerNeeded(Location),
    /// No summary (or labels) where a target is needed.
    #[error("{location}: record `{id}` has no `{field}`, which is needed as the target")]
    NoTarget {
        /// Where the record is.
        location: Location,
        /// Its id.
        id: String,
        /// `summary` or `labels`.
        field: &'static str,
    },
    /// Token ids where passages of text are asked for.
    #[error(
        "{location}: record `{id}` has token ids; only a summary of text (`document` or `documents`) can be attributed or made of the document's sentences; leave out --attribute, or give --extractive=false"
    )]
    NoPassages {
        /// Where the record is.
        location: Location,
        /// Its id.
        id: String,
    },
    /// An objective that makes targets of tokens, or a prompt, without what it is made with.
    #[error("the objectives `extract`, `denoise` and `gap_sentences`, and prompts, need {0}")]
    ObjectiveNeeds(&'static str),
    /// A limit that leaves no room for the two special tokens.
    #[error("a limit of {0} tokens is too small: `<s>` and `</s>` alone take 2")]
    LimitTooSmall(usize),
}

impl Error {
    /// Whether one record is at fault, so that a run can go on with the next: it is none, or has no target or text where one
    /// is needed. False for anything wrong with a whole file.
    pub fn is_bad_record(&self) -> bool {
        matches!(self, Error::Record { .. } | Error::NoTarget { .. } | Error::NoPassages { .. })
    }

    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, error: std::io::Error) -> Self {
        let path = path.as_ref().display().to_string();
        Error::Io { action, path, error }
    }

    pub(crate) fn tokens_not_written(path: &Path, error: std::io::Error) -> Self {
        Error::TokensNotWritten { path: path.display().to_string(), error }
    }

    pub(crate) fn tokenizer(path: impl Into<PathBuf>, message: impl fmt::Display) -> Self {
        Error::Tokenizer { path: path.into(), message: message.to_string() }
    }
}
