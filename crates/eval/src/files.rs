//! The files of a report.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

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

fn replace(path: &Path, write: &dyn Fn(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    epitome_files::replace_file(path, |temporary| {
        let mut file = BufWriter::new(File::create(temporary)?);
        write(&mut file)?;
        file.flush()
    })
}
