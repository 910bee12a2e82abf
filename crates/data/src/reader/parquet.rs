//! The rows of a Parquet file as fields of records, a row group and a few rows at a time.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Once};

use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Map, Value};

use super::column::Column;
use crate::error::{Error, Location, RecordProblem, Result};
use crate::fields::FieldNames;
use crate::record::{Form, Record};

/// What a Parquet file begins and ends with.
pub(super) const MAGIC: [u8; 4] = *b"PAR1";
/// Rows held as text at a time.
const BATCH_ROWS: usize = 64;

type Row = std::result::Result<Map<String, Value>, RecordProblem>;

pub(super) struct Rows {
    name: Arc<str>,
    file: SerializedFileReader<File>,
    groups_begun: usize,
    /// The columns of the current row group that a record may use.
    columns: Vec<Column>,
    /// Rows of the current row group that are still to be read.
    rows_left: usize,
    ready: VecDeque<Row>,
    /// Rows handed out.
    row: usize,
}

impl Rows {
    pub(super) fn open(path: &Path, name: Arc<str>) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
        let length = file.metadata().map_err(|error| Error::io("read", path, error))?.len();
        let file = guarded(|| {
            let file = SerializedFileReader::new(file)?;
            check_places(file.metadata(), length)?;
            Ok(file)
        });
        let file = file.map_err(|error| damaged(&name, &error))?;
        let (columns, ready) = (Vec::new(), VecDeque::new());
        Ok(Self { name, file, groups_begun: 0, columns, rows_left: 0, ready, row: 0 })
    }

    pub(super) fn next(&mut self, form: &Form) -> Option<Result<Record>> {
        while self.ready.is_empty() {
            if self.rows_left == 0 && self.groups_begun == self.file.num_row_groups() {
                return None;
            }
            if let Err(error) = guarded(|| self.read(&form.names)) {
                return Some(Err(damaged(&self.name, &error)));
            }
        }
        self.row += 1;
        let location = Location::row(Arc::clone(&self.name), self.row);
        let record = self.ready.pop_front()?.and_then(|fields| Record::from_fields(fields, location.clone(), form));
        Some(record.map_err(|problem| Error::Record { location, problem }))
    }

    /// Reads some rows, of the next row group if there are no more in this one.
    fn read(&mut self, names: &FieldNames) -> parquet::errors::Result<()> {
        if self.rows_left == 0 {
            self.begin_group(names)?;
        }
        let count = self.rows_left.min(BATCH_ROWS);
        let mut rows: Vec<Row> = (0..count).map(|_| Ok(Map::new())).collect();
        for column in &mut self.columns {
            for (row, cell) in rows.iter_mut().zip(column.read(count)?) {
                match (cell, row) {
                    (Ok(value), Ok(fields)) => drop(fields.insert(column.name.clone(), value)),
                    (Err(byte), row @ Ok(_)) => {
                        *row = Err(RecordProblem::InvalidText { field: column.name.clone(), byte });
                    }
                    (_, Err(_)) => (),
                }
            }
        }
        self.rows_left -= count;
        self.ready.extend(rows);
        Ok(())
    }

    fn begin_group(&mut self, names: &FieldNames) -> parquet::errors::Result<()> {
        let group = self.file.get_row_group(self.groups_begun)?;
        self.groups_begun += 1;
        let rows = group.metadata().num_rows();
        self.rows_left =
            usize::try_from(rows).map_err(|_| ParquetError::General(format!("a row group of {rows} rows")))?;
        let schema = group.metadata().schema_descr();
        self.columns = Vec::new();
        for leaf in 0..schema.num_columns() {
            let root = schema.get_column_root(leaf);
            if names.all().any(|name| name == root.name()) {
                let column = Column::new(root, schema.column(leaf), group.get_column_reader(leaf)?)?;
                self.columns.push(column);
            }
        }
        Ok(())
    }
}

/// Checks that all columns lie within the file, which the library takes for granted.
fn check_places(metadata: &ParquetMetaData, length: u64) -> parquet::errors::Result<()> {
    let columns = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    let within = |column: &ColumnChunkMetaData| {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let (start, bytes) = (u64::try_from(start).ok()?, u64::try_from(column.compressed_size()).ok()?);
        start.checked_add(bytes).filter(|&end| end <= length)
    };
    match columns.into_iter().find(|column| within(column).is_none()) {
        Some(column) => Err(ParquetError::General(format!("column {} lies outside the file", column.column_path()))),
        None => Ok(()),
    }
}

thread_local! {
    /// Whether a panic of this thread is caught and told as an error, so that it need not be printed, too.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs what reads. The library takes some things that a file says for granted, and panics where they are not so.
fn guarded<T>(read: impl FnOnce() -> parquet::errors::Result<T>) -> parquet::errors::Result<T> {
    static SILENCE: Once = Once::new();
    SILENCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            if !IS_GUARDED.get() {
                print(what);
            }
        }));
    });
    IS_GUARDED.set(true);
    // After an error nothing more is read, so that nobody sees what was left half-way.
    let outcome = panic::catch_unwind(AssertUnwindSafe(read));
    IS_GUARDED.set(false);
    outcome.unwrap_or_else(|_| Err(ParquetError::General("its parts contradict each other".into())))
}

fn damaged(name: &Arc<str>, error: &ParquetError) -> Error {
    Error::Parquet { path: name.to_string(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        /// Panics of this thread that were printed, once they are counted.
        static PRINTED: Cell<Option<usize>> = const { Cell::new(None) };
    }

    #[test]
    fn a_panic_is_one_error_and_nothing_is_printed_beside_it() {
        // Before the first file is read in this program. Other tests are told as ever.
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |what| match PRINTED.get() {
            Some(printed) => PRINTED.set(Some(printed + 1)),
            None => print(what),
        }));
        PRINTED.set(Some(0));
        let panics = || panic!("a length is not that of its values");
        assert!(guarded::<()>(panics).unwrap_err().to_string().contains("contradict each other"));
        assert_eq!(PRINTED.get(), Some(0));
        // What nobody guards is printed.
        assert!(panic::catch_unwind(panics).is_err());
        assert_eq!(PRINTED.get(), Some(1));
    }
}
