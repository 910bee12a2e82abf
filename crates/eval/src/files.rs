//! The files of a report.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Report, Result};

impl Report {
    /// Writes `report.json`, `report.md`, `report.tex` (the table for a paper) and `report.html` into `directory`, which is made if need be.
    ///
    /// Each file is complete or, after an error, as it was before.
    ///
    /// # Errors
    /// [`Error::Write`] with the path that could not be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).map_err(|source| Error::Write { path: directory.into(), source })?;
        let file = |name: &str, write: &dyn Fn(&mut dyn Write) -> io::Result<()>| {
            let path = directory.join(name);
            replace(&path, write).map_err(|source| Error::Write { path, source })
        };
        file("report.json", &|out| {
            serde_json::to_writer_pretty(&mut *out, self)?;
            out.write_all(b"\n")
        })?;
        file("report.md", &|out| out.write_all(self.markdown().as_bytes()))?;
        file("report.tex", &|out| out.write_all(self.comparisons.latex().as_bytes()))?;
        file("report.html", &|out| self.write_html(out))?;
        Ok(())
    }
}

/// Writes beside `path` first, so that a full disk leaves no half file under that name.
fn replace(path: &Path, write: &dyn Fn(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let written = write_through(&unfinished, write).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // Nothing more can be done if this fails too, and the first error is the one to report.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn write_through(path: &Path, write: &dyn Fn(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = io::BufWriter::new(fs::File::create(path)?);
    write(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}
