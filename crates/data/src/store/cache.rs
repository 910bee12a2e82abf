//! [`TokenCache`]: stores that are found again by what they were made from.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

use super::ExampleStore;
use super::format::MAGIC;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::examples::{Limits, Making, Targets};
use crate::fields::FieldNames;
use crate::input::{STDIN, content_hash};
use crate::reader::RecordReader;
use crate::tokenizer::Tokenizer;

/// Names the directory of the cache where the user does not.
const VARIABLE: &str = "EPITOME_CACHE";
const STORE: &str = ".tokens";
/// What the name of a store begins with until it is whole: the directory may hold partial files of others.
const OURS: &str = "epitome-";
/// What such a name ends with.
const PARTIAL: &str = ".partial";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// When a store that is not finished, and that nobody has written to, is taken for left behind.
const ABANDONED: Duration = DAY;
/// When a store that no run has used makes room for others.
const UNUSED: Duration = DAY.saturating_mul(90);
/// Digits of a store's name.
const KEY_DIGITS: usize = 32;

/// Records and everything that decides which examples they become.
#[derive(Clone, Debug)]
pub struct ExampleSource<'a> {
    /// Files or patterns, as for [`RecordReader::open_all`]; none for no examples.
    pub paths: &'a [String],
    /// What the fields are called.
    pub fields: &'a FieldNames,
    /// Only this many records, the first ones.
    pub max_records: Option<usize>,
    /// Needed where records are text.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The longest source and target.
    pub limits: Limits,
    /// Whether targets are needed.
    pub targets: Targets,
    /// Whether bad records are left out and listed ([`Statistics::skipped`](crate::Statistics)); otherwise the first is an error.
    pub skip_bad_records: bool,
}

/// A directory of stores, each named after the content it was made from. When one is added, those that no run has used for 90
/// days are removed.
#[derive(Clone, Debug)]
pub struct TokenCache {
    directory: Option<PathBuf>,
}

impl TokenCache {
    /// The cache in `directory`; else in `$EPITOME_CACHE`; else in `epitome/tokens` under `$XDG_CACHE_HOME` or `~/.cache`.
    pub fn new(directory: Option<&Path>) -> Self {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let platform = || {
            let caches = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
            let caches = caches.or_else(|| Some(env::home_dir()?.join(".cache")));
            Some(caches?.join("epitome/tokens"))
        };
        Self { directory: directory.map(Path::to_owned).or_else(|| variable(VARIABLE)).or_else(platform) }
    }

    /// The examples of `source`: from the cache if they are there, else tokenized and kept. What comes from standard input or
    /// a pipe is tokenized and not kept.
    ///
    /// # Errors
    /// As [`read_examples`](crate::read_examples), or a file that cannot be read or written.
    pub fn examples(&self, source: &ExampleSource<'_>) -> Result<Cached> {
        let files: Vec<PathBuf> = RecordReader::open_all(source.paths)?.files().map(Path::to_owned).collect();
        let keeps = files.iter().all(|file| file != Path::new("-") && file.is_file());
        match &self.directory {
            Some(directory) if keeps => find_or_make(source, &files, directory),
            directory => {
                let examples = make_unnamed(source, &files, directory.as_deref())?;
                Ok(Cached { examples, origin: Origin::Made, warnings: Vec::new() })
            }
        }
    }
}

/// Examples as a cache gives them.
#[derive(Debug)]
pub struct Cached {
    /// The examples.
    pub examples: ExampleStore,
    /// Where they are from.
    pub origin: Origin,
    /// What is wrong with the cache.
    pub warnings: Vec<String>,
}

/// Where the tokens of examples are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// They were in the cache, in this file.
    Found(PathBuf),
    /// They were made and are kept in this file.
    Kept(PathBuf),
    /// They were made, and vanish with the process.
    Made,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(path) => write!(f, "tokens from {}", path.display()),
            Self::Kept(path) => write!(f, "tokens made and kept in {}", path.display()),
            Self::Made => f.write_str("tokens made for this run alone"),
        }
    }
}

fn find_or_make(source: &ExampleSource<'_>, files: &[PathBuf], directory: &Path) -> Result<Cached> {
    let before = stamps(files)?;
    let path = directory.join(source.key(files)? + STORE);
    let mut warnings = Vec::new();
    match find(&path, files) {
        Ok(Some(examples)) => return Ok(Cached { examples, origin: Origin::Found(path), warnings }),
        Ok(None) => (),
        Err(error) => warnings.push(format!("{error}; they are made again")),
    }
    match keep(source, (files, &before), directory, &path) {
        Ok(examples) => return Ok(Cached { examples, origin: Origin::Kept(path), warnings }),
        // A full disk shows itself late: what was written is gone by now, and has made room.
        Err(error @ Error::TokensNotWritten { .. }) => warnings.push(error.to_string()),
        Err(error) => return Err(error),
    }
    Ok(Cached { examples: make_unnamed(source, files, None)?, origin: Origin::Made, warnings })
}

/// Makes the store at `path` in `directory`, under another name until it is whole.
fn keep(
    source: &ExampleSource<'_>,
    (files, before): (&[PathBuf], &[Stamp]),
    directory: &Path,
    path: &Path,
) -> Result<ExampleStore> {
    let not_written = |error| Error::tokens_not_written(directory, error);
    let partial = partial(directory).map_err(not_written)?;
    let new = partial.reopen().and_then(|file| Ok((file, tempfile::tempfile_in(directory)?)));
    let examples = make(source, files, new.map_err(not_written)?, path)?;
    let now = stamps(files)?;
    if let Some(changed) = (0..files.len()).find(|&index| now[index] != before[index]) {
        return Err(Error::Changed(files[changed].display().to_string()));
    }
    partial.persist(path).map_err(|error| not_written(error.error))?;
    Ok(examples)
}

/// The store at `path`; nothing if there is none that can be opened.
fn find(path: &Path, files: &[PathBuf]) -> Result<Option<ExampleStore>> {
    let Ok(file) = File::open(path) else { return Ok(None) };
    // It is in use. Where others made it the system may not let us say so.
    let _ = file.set_modified(SystemTime::now());
    ExampleStore::open(file, path, names(files)).map(Some)
}

/// A store that vanishes with the process, in `directory` if that can be written, else where temporary files are.
fn make_unnamed(source: &ExampleSource<'_>, files: &[PathBuf], directory: Option<&Path>) -> Result<ExampleStore> {
    let unnamed = || {
        let within = directory.filter(|directory| fs::create_dir_all(directory).is_ok());
        within.and_then(|directory| tempfile::tempfile_in(directory).ok()).map_or_else(tempfile::tempfile, Ok)
    };
    let pair = unnamed().and_then(|file| Ok((file, unnamed()?)));
    let place = env::temp_dir();
    make(source, files, pair.map_err(|error| Error::tokens_not_written(&place, error))?, &place)
}

/// Tokenizes the records into `file`, with another for the time being.
fn make(
    source: &ExampleSource<'_>,
    files: &[PathBuf],
    (file, index): (File, File),
    path: &Path,
) -> Result<ExampleStore> {
    let names = names(files);
    let mut writer = Writer::new(path, &file, index, &names)?;
    let records = RecordReader::open_all(files)?.with_field_names(source.fields.clone());
    let records = records.take(source.max_records.unwrap_or(usize::MAX));
    let ExampleSource { tokenizer, limits, targets, skip_bad_records, .. } = *source;
    let making = Making { tokenizer, limits, targets, skip_bad_records };
    let statistics = making.stream(records, |example| writer.push(&example))?;
    writer.finish(&statistics)?;
    ExampleStore::open(file, path, names)
}

/// A new file for a store that is not finished, with its name until it is. Those that ended runs left are removed, and stores
/// that no run has used for long.
fn partial(directory: &Path) -> io::Result<NamedTempFile> {
    fs::create_dir_all(directory)?;
    for entry in fs::read_dir(directory)?.flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|modified| modified.elapsed());
        if matches!((lifetime(&entry.file_name()), age), (Some(lifetime), Ok(Ok(age))) if age > lifetime) {
            // Another run may be removing it too; one that reads it keeps what it has opened.
            let _ = fs::remove_file(entry.path());
        }
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(OURS).suffix(PARTIAL);
    // Others may share the cache, as far as the umask lets them.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(directory)
}

/// How long a file of the cache is kept untouched; none for one that no cache makes.
fn lifetime(name: &OsStr) -> Option<Duration> {
    let name = name.to_str()?;
    let is_key = |key: &str| key.len() == KEY_DIGITS && key.bytes().all(|digit| digit.is_ascii_hexdigit());
    match name.strip_suffix(STORE) {
        Some(key) => is_key(key).then_some(UNUSED),
        None => (name.starts_with(OURS) && name.ends_with(PARTIAL)).then_some(ABANDONED),
    }
}

/// The names of files as locations have them.
fn names(files: &[PathBuf]) -> Vec<Arc<str>> {
    let name = |file: &PathBuf| if file == Path::new("-") { STDIN.into() } else { file.display().to_string().into() };
    files.iter().map(name).collect()
}

/// What changes with a file's content, as far as the system tells.
type Stamp = (u64, Option<SystemTime>);

fn stamps(files: &[PathBuf]) -> Result<Vec<Stamp>> {
    let stamp = |file: &PathBuf| {
        let metadata = file.metadata().map_err(|error| Error::io("read", file, error))?;
        Ok((metadata.len(), metadata.modified().ok()))
    };
    files.iter().map(stamp).collect()
}

impl ExampleSource<'_> {
    /// A name for what comes of the content of `files`, the tokenizer and the options.
    fn key(&self, files: &[PathBuf]) -> Result<String> {
        let Self { fields, max_records, limits, targets, skip_bad_records, .. } = self;
        let version = env!("CARGO_PKG_VERSION");
        let options = serde_json::json!([version, fields, max_records, limits, targets, skip_bad_records]).to_string();
        let mut hasher = blake3::Hasher::new();
        hasher.update(MAGIC).update(blake3::hash(options.as_bytes()).as_bytes());
        hasher.update(&self.tokenizer.map_or(Ok([0; 32]), Tokenizer::fingerprint)?);
        for path in files {
            hasher.update(content_hash(path)?.as_bytes());
            if *skip_bad_records {
                // What was skipped is listed by the files' names.
                hasher.update(blake3::hash(path.as_os_str().as_encoded_bytes()).as_bytes());
            }
        }
        // Half of the hash is enough for a name.
        Ok(hasher.finalize().to_hex()[..KEY_DIGITS].to_owned())
    }
}
