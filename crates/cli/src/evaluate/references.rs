//! The records that predictions are compared with.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use epitome_data::{Content, FieldNames, Record, RecordReader};
use epitome_eval::{Input, Reference, Stream};

/// Records that can be read as often as need be.
pub(crate) struct References {
    source: Source,
    /// The records that count; all without it.
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

    /// Only the records of these ids. Those that cannot be read count as having none of them.
    pub(crate) fn only(self, ids: HashSet<String>) -> Self {
        Self { only: Some(ids), ..self }
    }

    /// Records that are in memory.
    pub(crate) fn of(references: Vec<Reference>) -> Self {
        Self { source: Source::Memory(references), only: None }
    }

    /// The records from the first on.
    pub(crate) fn stream(&self) -> Input<Stream<'_, Reference>> {
        let all: Stream<'_, Reference> = match &self.source {
            Source::Files(files, names) => {
                let keeps = self.only.is_none();
                let records = reader(files, names)?
                    .filter(move |record| keeps || !record.as_ref().is_err_and(epitome_data::Error::is_bad_record));
                Box::new(records.map(|record| Ok(reference(record?))))
            }
            Source::Memory(references) => Box::new(references.iter().cloned().map(Ok)),
        };
        Ok(match &self.only {
            Some(ids) => Box::new(all.filter(|found| found.as_ref().map_or(true, |record| ids.contains(&record.id)))),
            None => all,
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
