//! `checksums.json`: what the files of a checkpoint held when they were written, so that a damaged one is not continued.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use crate::checkpoint::{NEEDED, write_json};
use crate::{Error, Result};

const FILE: &str = "checksums.json";

/// BLAKE3 in hexadecimal, by file name.
type Checksums = BTreeMap<String, String>;

/// Writes the checksums of all files in `directory`.
pub(crate) fn write(directory: &Path) -> Result<()> {
    let mut checksums = Checksums::new();
    for entry in fs::read_dir(directory).map_err(Error::io(directory))? {
        let path = entry.map_err(Error::io(directory))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name != FILE {
            checksums.insert(name, checksum(&path).map_err(Error::io(&path))?);
        }
    }
    write_json(&directory.join(FILE), &checksums)
}

/// Compares the files in `directory` with their checksums.
///
/// # Errors
/// [`Error::Checkpoint`] names the first file that is missing or different; other errors say that one cannot be read.
pub(crate) fn verify(directory: &Path) -> Result<()> {
    let damaged = |name: &str, message: String| Err(Error::Checkpoint { path: directory.join(name), message });
    let bytes = match fs::read(directory.join(FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return damaged(FILE, error.to_string()),
        Err(error) => return Err(Error::io(&directory.join(FILE))(error)),
    };
    let checksums: Checksums = match serde_json::from_slice(&bytes) {
        Ok(checksums) => checksums,
        Err(error) => return damaged(FILE, error.to_string()),
    };
    if let Some(missing) = NEEDED.iter().find(|&&name| !checksums.contains_key(name)) {
        return damaged(FILE, format!("does not list {missing}"));
    }
    for (name, expected) in checksums {
        match checksum(&directory.join(&name)) {
            Ok(found) if found == expected => (),
            Ok(_) => return damaged(&name, "differs from what was written".into()),
            Err(error) if error.kind() == ErrorKind::NotFound => return damaged(&name, error.to_string()),
            Err(error) => return Err(Error::io(&directory.join(&name))(error)),
        }
    }
    Ok(())
}

fn checksum(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}
