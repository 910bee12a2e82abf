//! What several test files need: fixtures and a seeded source of hostile text.

use std::ops::Range;
use std::path::PathBuf;

use epitome_data::{Record, Tokenizer};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;

/// The path of a committed fixture.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The path of a sample document.
pub(crate) fn sample(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../eval/samples").join(name)
}

/// The small tokenizer that `make.py` made.
pub(crate) fn small_tokenizer() -> Tokenizer {
    Tokenizer::load(fixture("tokenizer")).expect("the fixture is sound")
}

/// A record from its JSON.
pub(crate) fn record(json: &str) -> Record {
    let location = epitome_data::Location::line("records.jsonl", 7);
    Record::from_json(json, location).expect("the record is sound")
}

/// A linear congruential generator (Knuth's MMIX constants): enough to vary test inputs.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % bound
    }

    /// Text of pieces that meet at awkward places, from ASCII to the last plane, without special tokens.
    pub(crate) fn text(&mut self, pieces: usize) -> String {
        const PIECES: [&str; 24] = [
            " ", "  ", "\t", "\n", "\r\n", "'s", "'", "the", "Word", "ing", "0", "42", "é", "\u{301}", "日本", "😀",
            "\u{a0}", "\u{3000}", "\u{2028}", "\u{200d}", "\0", "½", ">", ".",
        ];
        let mut text = String::new();
        for _ in 0..self.below(pieces + 1) {
            match self.below(4) {
                0 => text.extend(char::from_u32(self.below(0x11_0000) as u32)),
                _ => text.push_str(PIECES[self.below(PIECES.len())]),
            }
        }
        text
    }
}

/// A column of a Parquet file.
pub(crate) enum Column<'a> {
    Texts(Vec<Option<&'a [u8]>>),
    Numbers(Vec<Option<i64>>),
    TextLists(Vec<Option<Vec<Option<&'a str>>>>),
    NumberLists(Vec<Option<Vec<Option<i64>>>>),
}

impl Column<'_> {
    fn schema(&self, name: &str) -> String {
        match self {
            Self::Texts(_) => format!("optional binary {name} (UTF8);"),
            Self::Numbers(_) => format!("optional int64 {name};"),
            Self::TextLists(_) => list_schema(name, "binary element (UTF8)"),
            Self::NumberLists(_) => list_schema(name, "int64 element"),
        }
    }

    fn write(&self, rows: Range<usize>, writer: &mut SerializedColumnWriter<'_>) {
        match self {
            Self::Texts(cells) => {
                let cells = cells[rows].iter().map(|cell| cell.map(ByteArray::from));
                let (values, levels) = flat(cells);
                writer.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
            }
            Self::Numbers(cells) => {
                let (values, levels) = flat(cells[rows].iter().copied());
                writer.typed::<Int64Type>().write_batch(&values, Some(&levels), None).unwrap();
            }
            Self::TextLists(lists) => {
                let (values, definition, repetition) = nested(&lists[rows], |text| ByteArray::from(*text));
                writer.typed::<ByteArrayType>().write_batch(&values, Some(&definition), Some(&repetition)).unwrap();
            }
            Self::NumberLists(lists) => {
                let (values, definition, repetition) = nested(&lists[rows], |&number| number);
                writer.typed::<Int64Type>().write_batch(&values, Some(&definition), Some(&repetition)).unwrap();
            }
        }
    }
}

fn list_schema(name: &str, element: &str) -> String {
    format!("optional group {name} (LIST) {{ repeated group list {{ optional {element}; }} }}")
}

fn flat<T>(cells: impl Iterator<Item = Option<T>>) -> (Vec<T>, Vec<i16>) {
    let cells: Vec<Option<T>> = cells.collect();
    let levels = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
    (cells.into_iter().flatten().collect(), levels)
}

/// Values, definition and repetition levels of lists whose lists and elements may both be null.
fn nested<C, T>(lists: &[Option<Vec<Option<C>>>], convert: impl Fn(&C) -> T) -> (Vec<T>, Vec<i16>, Vec<i16>) {
    let (mut values, mut definition, mut repetition) = (Vec::new(), Vec::new(), Vec::new());
    for list in lists {
        let elements = list.as_deref().unwrap_or_default();
        if elements.is_empty() {
            definition.push(i16::from(list.is_some()));
            repetition.push(0);
        }
        for (place, element) in elements.iter().enumerate() {
            definition.push(if element.is_some() { 3 } else { 2 });
            repetition.push(i16::from(place > 0));
            values.extend(element.as_ref().map(&convert));
        }
    }
    (values, definition, repetition)
}

/// The bytes of a Parquet file of `rows` rows in row groups of `group` rows.
pub(crate) fn parquet(
    columns: &[(&str, Column<'_>)],
    (rows, group): (usize, usize),
    compression: Compression,
) -> Vec<u8> {
    let fields: String = columns.iter().map(|(name, column)| column.schema(name)).collect();
    let schema = parse_message_type(&format!("message records {{ {fields} }}")).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema.into(), properties.into()).unwrap();
    for start in (0..rows).step_by(group) {
        let mut row_group = writer.next_row_group().unwrap();
        for (_, column) in columns {
            let mut column_writer = row_group.next_column().unwrap().unwrap();
            column.write(start..rows.min(start + group), &mut column_writer);
            column_writer.close().unwrap();
        }
        row_group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}
