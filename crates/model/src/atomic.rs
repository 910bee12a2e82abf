//! Files are replaced whole or not at all.

use std::fs::{self, File};
use std::path::Path;

use crate::{Error, Result};

/// Makes the renames in a directory survive a power cut.
///
/// # Errors
/// When the directory cannot be opened or synced.
pub fn sync_directory(directory: &Path) -> Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    if cfg!(unix) {
        File::open(directory).and_then(|opened| opened.sync_all()).map_err(Error::io(directory))?;
    }
    Ok(())
}

/// Writes `path` through a sibling temporary file that is synced and then renamed over it, so that a reader, a full disk
/// or a power cut finds either the old file or the new one.
///
/// # Errors
/// When the directory cannot be written or the disk is full; the temporary file is removed and the old file stays.
pub fn replace_file(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let temporary = path.with_file_name(name);
    let outcome = write(&temporary)
        .and_then(|()| File::open(&temporary).and_then(|file| file.sync_all()).map_err(Error::io(&temporary)))
        .and_then(|()| fs::rename(&temporary, path).map_err(Error::io(path)))
        .and_then(|()| sync_directory(path.parent().unwrap_or(Path::new("."))));
    if outcome.is_err() {
        // The first error is the one to report; a temporary file that was never made cannot be removed.
        let _ = fs::remove_file(&temporary);
    }
    outcome
}
