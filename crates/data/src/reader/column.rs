//! One column of a Parquet row group: values, or lists of values, with nulls.

use parquet::basic::{Repetition, SortOrder};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::{ColumnDescPtr, Type};
use serde_json::Value;

/// The value of a row, or the offset of the first byte of its text that is not UTF-8.
type Cell = std::result::Result<Value, usize>;

pub(super) struct Column {
    pub(super) name: String,
    reader: ColumnReader,
    /// Whether whole numbers are from 0 up.
    unsigned: bool,
    /// The definition level of a value that is there.
    value_level: i16,
    /// The definition level from which a list has an element; none for a column of single values.
    element_level: Option<i16>,
}

impl Column {
    /// The column of a leaf, under `root` in the schema.
    pub(super) fn new(root: &Type, leaf: ColumnDescPtr, reader: ColumnReader) -> Result<Self> {
        let depth = leaf.path().parts().len();
        // A list is one level of repetition in at most two groups; anything else is a structure.
        let fits = match leaf.max_rep_level() {
            0 => depth == 1,
            1 => depth <= 3 && only_child(root),
            _ => false,
        };
        if !fits {
            let message = format!("column `{}` is nested; it should hold values or lists of values", root.name());
            return Err(ParquetError::General(message));
        }
        Ok(Self {
            name: root.name().to_owned(),
            reader,
            unsigned: leaf.sort_order() == SortOrder::UNSIGNED,
            value_level: leaf.max_def_level(),
            element_level: (leaf.max_rep_level() == 1).then(|| element_level(root)),
        })
    }

    /// The cells of the next `rows` rows.
    pub(super) fn read(&mut self, rows: usize) -> Result<Vec<Cell>> {
        let unsigned = self.unsigned;
        let float = |value: f64| Ok(serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number));
        let levels = match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => Levels::read(reader, rows, |&value| Ok(Value::Bool(value))),
            ColumnReader::Int32ColumnReader(reader) => Levels::read(reader, rows, |&value| {
                Ok(if unsigned { value.cast_unsigned().into() } else { value.into() })
            }),
            ColumnReader::Int64ColumnReader(reader) => Levels::read(reader, rows, |&value| {
                Ok(if unsigned { value.cast_unsigned().into() } else { value.into() })
            }),
            ColumnReader::FloatColumnReader(reader) => Levels::read(reader, rows, |&value| float(value.into())),
            ColumnReader::DoubleColumnReader(reader) => Levels::read(reader, rows, |&value| float(value)),
            ColumnReader::ByteArrayColumnReader(reader) => Levels::read(reader, rows, |value| text(value.data())),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                Levels::read(reader, rows, |value| text(value.data()))
            }
            ColumnReader::Int96ColumnReader(_) => {
                Err(ParquetError::General(format!("column `{}` holds times, not text or numbers", self.name)))
            }
        }?;
        let cells = match self.element_level {
            None => levels.values(self.value_level),
            Some(element_level) => levels.lists(self.value_level, element_level),
        };
        if cells.len() == rows { Ok(cells) } else { Err(ParquetError::General(ends_early(&self.name))) }
    }
}

fn ends_early(column: &str) -> String {
    format!("column `{column}` has fewer values than the file has rows")
}

fn text(bytes: &[u8]) -> Cell {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Value::String(text.to_owned())),
        Err(error) => Err(error.valid_up_to()),
    }
}

fn only_child(node: &Type) -> bool {
    !node.is_group() || matches!(node.get_fields(), [child] if only_child(child))
}

/// How many of the nodes from `root` to the repeated one may be absent: the definition level of a list with an element.
fn element_level(root: &Type) -> i16 {
    let repetition = root.get_basic_info().repetition();
    match root {
        _ if repetition == Repetition::REPEATED => 1,
        Type::GroupType { fields, .. } => {
            i16::from(repetition != Repetition::REQUIRED) + fields.first().map_or(0, |child| element_level(child))
        }
        Type::PrimitiveType { .. } => 0,
    }
}

/// Values as Parquet stores them: those that are there, and for each place how much of the path to it exists (definition)
/// and whether it goes on with the list of the place before (repetition above 0).
struct Levels {
    values: std::vec::IntoIter<Cell>,
    /// Empty where every value is there.
    definition: Vec<i16>,
    /// Empty for columns without lists.
    repetition: Vec<i16>,
}

impl Levels {
    fn read<T: DataType>(
        reader: &mut ColumnReaderImpl<T>,
        rows: usize,
        convert: impl Fn(&T::T) -> Cell,
    ) -> Result<Self> {
        let (mut values, mut definition, mut repetition) = (Vec::new(), Vec::new(), Vec::new());
        let mut read = 0;
        while read < rows {
            let left = rows - read;
            match reader.read_records(left, Some(&mut definition), Some(&mut repetition), &mut values)?.0 {
                0 => break,
                records => read += records,
            }
        }
        let values = values.iter().map(convert).collect::<Vec<_>>().into_iter();
        Ok(Self { values, definition, repetition })
    }

    fn values(mut self, value_level: i16) -> Vec<Cell> {
        if value_level == 0 {
            return self.values.collect();
        }
        let definition = std::mem::take(&mut self.definition);
        definition.into_iter().map_while(|level| self.value(level, value_level)).collect()
    }

    fn lists(mut self, value_level: i16, element_level: i16) -> Vec<Cell> {
        let mut lists: Vec<Cell> = Vec::new();
        let levels = std::mem::take(&mut self.definition).into_iter().zip(std::mem::take(&mut self.repetition));
        for (definition, repetition) in levels {
            if repetition == 0 {
                let absent = definition + 1 < element_level;
                lists.push(Ok(if absent { Value::Null } else { Value::Array(Vec::new()) }));
            }
            if definition < element_level {
                continue;
            }
            let Some(value) = self.value(definition, value_level) else { break };
            match (lists.last_mut(), value) {
                (Some(Ok(Value::Array(list))), Ok(value)) => list.push(value),
                (Some(list @ Ok(_)), Err(byte)) => *list = Err(byte),
                _ => (),
            }
        }
        lists
    }

    /// The value at a place; none if the file has fewer than it says.
    fn value(&mut self, definition: i16, value_level: i16) -> Option<Cell> {
        if definition == value_level { self.values.next() } else { Some(Ok(Value::Null)) }
    }
}
