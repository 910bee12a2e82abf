//! The records that predictions are compared with.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result, bail};
use epitome_data::{Content, FieldNames, Record, RecordReader};
use epitome_eval::{Input, Reference, Stream};

/// What is wrong with a record where baselines are asked for.
pub(super) const NO_DOCUMENT: &str = "has no `document` or `documents`, of which --baselines takes sentences";

/// Records that can be read as often as need be.
pub(crate) struct References {
    source: Source,
    /// The places of the records that count; all without it.
    only: Option<HashSet<String>>,
}

enum Source {
    Files(Vec<PathBuf>, FieldNames),
    /// What cannot be read twice, such as a pipe.
    Memory(Vec<Reference>),
}

impl References {
    /// The records of `files`, of which not all need have a document.
    ///
    /// # Errors
    /// A bad record in what can be read only once.
    pub(crate) fn open(files: Vec<PathBuf>, names: FieldNames) -> Result<Self> {
        let source = if files.iter().all(|file| file.is_file()) {
            Source::Files(files, names)
        } else {
            let records = reader(&files, &names)?.map(|record| Ok(reference(record?)));
            Source::Memory(records.collect::<Result<_>>()?)
        };
        Ok(Self { source, only: None })
    }

    /// Only the records at these places ([`epitome_data::Location`] as text), of files.
    pub(crate) fn only(self, places: HashSet<String>) -> Self {
        Self { only: Some(places), ..self }
    }

    /// Records that are in memory.
    pub(crate) fn of(references: Vec<Reference>) -> Self {
        Self { source: Source::Memory(references), only: None }
    }

    /// Refuses records of `path` without a document, which baselines take their sentences from.
    ///
    /// # Errors
    /// Names the first such record, or what cannot be read.
    pub(crate) fn check_documents(&self, path: &Path) -> Result<()> {
        for record in self.stream().map_err(Error::from_boxed)? {
            let Reference { id, documents, .. } = record.map_err(Error::from_boxed)?;
            if documents.is_empty() {
                bail!("{}: record `{id}` {NO_DOCUMENT}", path.display());
            }
        }
        Ok(())
    }

    /// The records from the first on.
    pub(crate) fn stream(&self) -> Input<Stream<'_, Reference>> {
        let counts = |found: &epitome_data::Result<Record>| match (&self.only, found) {
            (None, _) => true,
            (Some(places), Ok(record)) => places.contains(&record.location.to_string()),
            (Some(_), Err(error)) => !error.is_bad_record(),
        };
        Ok(match &self.source {
            Source::Files(files, names) => {
                Box::new(reader(files, names)?.filter(counts).map(|record| Ok(reference(record?))))
            }
            Source::Memory(references) => Box::new(references.iter().cloned().map(Ok)),
        })
    }
}

fn reader(files: &[PathBuf], names: &FieldNames) -> epitome_data::Result<RecordReader> {
    Ok(RecordReader::open_all(files)?.with_documents_optional().with_field_names(names.clone()))
}

/// What is compared of a record.
pub(crate) fn reference(record: Record) -> Reference {
    let references = record.targets().to_vec();
    let documents = match record.content {
        Content::Text { documents, .. } => documents,
        Content::Tokens { .. } => Vec::new(),
    };
    Reference { id: record.id, references, documents }
}

/// The files that a path or pattern names.
///
/// # Errors
/// A missing file or a pattern without a match.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(RecordReader::open_all([path])?.files().map(Path::to_owned).collect())
}
