//! Bytes of a file or of standard input, decompressed when their first bytes say so.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

const BUFFER: usize = 1 << 17;
/// Bytes that are looked at to tell what a stream is.
const LOOK: usize = 4;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Skippable zstd frames begin with 0x184D2A50 to 0x184D2A5F, little-endian; only the first byte varies.
const ZSTD_SKIPPABLE_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];
/// The largest window a 64-bit zstd can be asked for: `--long=31`.
const ZSTD_WINDOW_LOG_MAX: u32 = if cfg!(target_pointer_width = "64") { 31 } else { 30 };

/// The name under which standard input appears in messages.
pub(crate) const STDIN: &str = "<stdin>";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

/// The text of a file that may be compressed, or of standard input for `-`, as a stream.
///
/// # Errors
/// A file that cannot be opened.
pub fn open_text(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    Ok(Input::open(path)?.bytes)
}

/// The BLAKE3 hash of a file's bytes as they lie there.
///
/// # Errors
/// A file that cannot be read.
pub fn content_hash(path: &Path) -> Result<blake3::Hash> {
    let mut content = blake3::Hasher::new();
    let read = File::open(path).and_then(|file| content.update_reader(file).map(drop));
    read.map_err(|error| Error::io("read", path, error))?;
    Ok(content.finalize())
}

/// A decompressed stream that knows its name for error messages.
pub(crate) struct Input {
    name: Arc<str>,
    compression: Compression,
    bytes: Box<dyn BufRead + Send>,
    read: u64,
}

impl Input {
    /// Opens a file, or standard input for `-`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Self::from_reader(io::stdin(), STDIN.into());
        }
        let error = |error| Error::io("open", path, error);
        let file = File::open(path).map_err(error)?;
        if file.metadata().map_err(error)?.is_dir() {
            return Err(error(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory")));
        }
        Self::from_reader(file, path.display().to_string().into())
    }

    /// Wraps any reader; `name` is used in messages.
    pub(crate) fn from_reader(mut raw: impl Read + Send + 'static, name: Arc<str>) -> Result<Self> {
        let error = |error| Error::io("read", &*name, error);
        // A pipe may hand out fewer bytes than asked for, so the magic number is collected by hand.
        let mut start = Vec::with_capacity(LOOK);
        raw.by_ref().take(LOOK as u64).read_to_end(&mut start).map_err(error)?;
        let compression = detect(&start);
        let raw = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(raw));
        let bytes: Box<dyn BufRead + Send> = match compression {
            Compression::None => Box::new(raw),
            Compression::Gzip => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(raw))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(raw).map_err(error)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(error)?;
                Box::new(BufReader::with_capacity(BUFFER, decoder))
            }
        };
        Ok(Self { name, compression, bytes, read: 0 })
    }

    /// The name for messages: the path, or `<stdin>`.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether the bytes are not compressed and begin with `magic`, which is as long as what was looked at to find out.
    pub(crate) fn starts_with(&mut self, magic: [u8; LOOK]) -> bool {
        // What cannot be read now cannot be read later either, and is an error then.
        self.compression == Compression::None && self.bytes.fill_buf().is_ok_and(|start| start.starts_with(&magic))
    }

    /// Appends the next line with its line feed, if it has one, to `line`, but of a longer one only the first `most` bytes; returns
    /// how many bytes, 0 at the end.
    pub(crate) fn read_line(&mut self, line: &mut Vec<u8>, most: usize) -> Result<usize> {
        let before = line.len();
        let outcome = (&mut self.bytes).take(most as u64).read_until(b'\n', line);
        self.finish(outcome, line.len() - before)
    }

    /// Everything that is left.
    pub(crate) fn read_all(&mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let outcome = self.bytes.read_to_end(&mut all);
        self.finish(outcome, all.len())?;
        Ok(all)
    }

    fn finish(&mut self, outcome: io::Result<usize>, bytes: usize) -> Result<usize> {
        self.read += bytes as u64;
        outcome.map_err(|error| self.describe(error))
    }

    fn describe(&self, error: io::Error) -> Error {
        let format = match self.compression {
            Compression::None => return Error::io("read", &*self.name, error),
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        let problem = match error.kind() {
            io::ErrorKind::UnexpectedEof => "truncated".to_owned(),
            _ => format!("damaged ({error})"),
        };
        Error::Damaged { path: self.name.to_string(), format, problem, read: self.read }
    }
}

fn detect(start: &[u8]) -> Compression {
    if start.starts_with(&GZIP_MAGIC) {
        Compression::Gzip
    } else if start.starts_with(&ZSTD_MAGIC) || start.get(1..4) == Some(&ZSTD_SKIPPABLE_MAGIC) {
        Compression::Zstd
    } else {
        Compression::None
    }
}
