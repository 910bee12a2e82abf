//! The files of a report.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Report, Result};

impl Report {
    /// Writes `report.json`, `report.md` and `report.html` into `directory`, which is made if need be.
    ///
    /// Each file is complete or, after an error, as it was before.
    ///
    /// # Errors
    /// [`Error::Write`] with the path that could not be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).map_err(|source| Error::Write { path: directory.into(), source })?;
        for (name, text) in [("report.json", self.json()), ("report.md", self.markdown()), ("report.html", self.html())]
        {
            let path = directory.join(name);
            replace(&path, &text).map_err(|source| Error::Write { path, source })?;
        }
        Ok(())
    }
}

/// Writes beside `path` first, so that a full disk leaves no half file under that name.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let written = write_through(&unfinished, text).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // Nothing more can be done if this fails too, and the first error is the one to report.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn write_through(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
