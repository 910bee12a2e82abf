//! [`read_document`]: a whole plain-text file as a string.

use std::path::Path;

use crate::error::{Error, Result};
use crate::input::Input;

/// Reads a text document, or standard input for `-`; gzip and zstd files are unpacked, told by their first bytes.
///
/// The text is UTF-8, with or without a byte order mark, or UTF-16 with one. Nothing of it is changed or left out except
/// the byte order mark.
///
/// # Errors
/// A file that cannot be read, is not text (it holds NUL characters), or is not valid in its encoding: the error names the
/// file and the offset of the first wrong byte. A file whose name says that it holds records.
pub fn read_document(path: impl AsRef<Path>) -> Result<String> {
    if holds_records(path.as_ref()) {
        return Err(Error::RecordsAsText(path.as_ref().into()));
    }
    let mut input = Input::open(path.as_ref())?;
    let bytes = input.read_all()?;
    decode(bytes, input.name())
}

/// Whether a name is one of records. Their content would do as text, and a summary of JSON looks like any other.
fn holds_records(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"].iter().any(|ending| name.ends_with(ending))
}

fn decode(bytes: Vec<u8>, path: &str) -> Result<String> {
    let text = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => decode_utf16(rest, path, "UTF-16LE", u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => decode_utf16(rest, path, "UTF-16BE", u16::from_be_bytes)?,
        _ => decode_utf8(bytes, path)?,
    };
    if text.contains('\0') { Err(binary(path, "it holds NUL characters")) } else { Ok(text) }
}

fn decode_utf8(mut bytes: Vec<u8>, path: &str) -> Result<String> {
    if let Some(kind) = known_format(&bytes) {
        return Err(binary(path, kind));
    }
    if bytes.contains(&0) {
        return Err(binary(path, "it holds NUL bytes"));
    }
    let mark = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    if let Err(error) = std::str::from_utf8(&bytes) {
        return Err(Error::Encoding { path: path.to_owned(), encoding: "UTF-8", byte: error.valid_up_to() });
    }
    bytes.drain(..mark);
    Ok(String::from_utf8(bytes).expect("checked above, and a whole character was removed"))
}

fn decode_utf16(bytes: &[u8], path: &str, encoding: &'static str, unit: fn([u8; 2]) -> u16) -> Result<String> {
    const MARK: usize = 2;
    let error = |byte| Error::Encoding { path: path.to_owned(), encoding, byte };
    let pairs = bytes.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(error(MARK + bytes.len() - 1));
    }
    let mut text = String::with_capacity(bytes.len() / 2);
    let mut units = 0;
    for character in char::decode_utf16(pairs.map(|pair| unit([pair[0], pair[1]]))) {
        let character = character.map_err(|_| error(MARK + 2 * units))?;
        units += character.len_utf16();
        text.push(character);
    }
    Ok(text)
}

/// Formats that people hand over by mistake, by their first bytes.
fn known_format(bytes: &[u8]) -> Option<&'static str> {
    const FORMATS: [(&[u8], &str); 4] = [
        (b"%PDF-", "it looks like PDF; extract its text first"),
        (b"PK\x03\x04", "it looks like a zip archive or an office document"),
        (b"\xd0\xcf\x11\xe0", "it looks like an office document"),
        (b"{\\rtf", "it looks like RTF; save it as plain text first"),
    ];
    FORMATS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|&(_, kind)| kind)
}

fn binary(path: &str, kind: &'static str) -> Error {
    Error::Binary { path: path.to_owned(), kind }
}
