//! TensorBoard's event files: TFRecords of `Event` messages (tensorflow/core/util/event.proto), of which scalars need few
//! fields.
//!
//! A record is the length of its data (u64), the masked CRC-32C of those eight bytes, the data, and the masked CRC-32C of the
//! data, all numbers little-endian (tensorflow/core/lib/io/record_writer.h).

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::{Error, Result};

/// Numbers of the fields used, from event.proto and summary.proto.
mod field {
    pub(super) const EVENT_WALL_TIME: u32 = 1;
    pub(super) const EVENT_STEP: u32 = 2;
    pub(super) const EVENT_FILE_VERSION: u32 = 3;
    pub(super) const EVENT_SUMMARY: u32 = 5;
    pub(super) const EVENT_SESSION_LOG: u32 = 7;
    pub(super) const SUMMARY_VALUE: u32 = 1;
    pub(super) const VALUE_TAG: u32 = 1;
    pub(super) const VALUE_SIMPLE_VALUE: u32 = 2;
    pub(super) const SESSION_LOG_STATUS: u32 = 1;
}

/// `SessionLog.START`.
const START: u64 = 1;

/// One event file, written record by record.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a new file in `directory` for a run that has made `step` updates. Its first records are the version and the
    /// start of a session at the step to come: TensorBoard hides what older files say of that step and later ones.
    pub(crate) fn create(directory: &Path, step: usize) -> Result<Self> {
        fs::create_dir_all(directory).map_err(Error::io(directory))?;
        let now = since_epoch();
        // TensorBoard reads the files of a run in the order of their names.
        let name = format!("events.out.tfevents.{:010}.{:09}.epitome", now.as_secs(), now.subsec_nanos());
        let path = directory.join(name);
        let mut created = Self { file: File::create_new(&path).map_err(Error::io(&path))?, path };
        created.write(step, |event| event.bytes(field::EVENT_FILE_VERSION, b"brain.Event:2"))?;
        let mut session = Message::default();
        session.varint(field::SESSION_LOG_STATUS, START);
        created.write(step + 1, |event| event.bytes(field::EVENT_SESSION_LOG, &session.0))?;
        Ok(created)
    }

    /// Writes the numbers of a line of the metrics: `validation_loss` as `validation/loss`, all others as `train/...`.
    pub(crate) fn append(&mut self, line: &Value) -> Result<()> {
        let fields = line.as_object().into_iter().flatten();
        let mut summary = Message::default();
        for (name, value) in fields.filter(|(name, _)| *name != "step") {
            let Some(number) = value.as_f64() else { continue };
            let mut scalar = Message::default();
            scalar.bytes(field::VALUE_TAG, tag(name).as_bytes());
            scalar.float(field::VALUE_SIMPLE_VALUE, number as f32);
            summary.bytes(field::SUMMARY_VALUE, &scalar.0);
        }
        let step = line.get("step").and_then(Value::as_u64).unwrap_or_default();
        self.write(step as usize, |event| event.bytes(field::EVENT_SUMMARY, &summary.0))
    }

    /// Writes an event of now.
    fn write(&mut self, step: usize, what: impl FnOnce(&mut Message)) -> Result<()> {
        let mut event = Message::default();
        event.double(field::EVENT_WALL_TIME, since_epoch().as_secs_f64());
        event.varint(field::EVENT_STEP, step as u64);
        what(&mut event);
        self.file.write_all(&record(&event.0)).map_err(Error::io(&self.path))
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn tag(name: &str) -> String {
    match name.strip_prefix("validation_") {
        Some(metric) => format!("validation/{metric}"),
        None => format!("train/{name}"),
    }
}

/// `data` with its length and the checksums of both.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length, &masked_crc(&length).to_le_bytes()[..], data, &masked_crc(data).to_le_bytes()].concat()
}

/// A CRC-32C turned and shifted, so that the checksum of data that holds checksums stays a good one.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A message of protocol buffers, built field by field.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, field: u32, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    fn double(&mut self, field: u32, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u32, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    /// The number of a field and how its value is written.
    fn key(&mut self, field: u32, wire_type: u32) {
        self.raw_varint(u64::from(field << 3 | wire_type));
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A reader that shares nothing with the writer.
    mod reader {
        /// CRC-32C bit by bit: the reflected polynomial of Castagnoli.
        fn masked_crc(data: &[u8]) -> u32 {
            let mut crc = !0u32;
            for byte in data {
                crc ^= u32::from(*byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
                }
            }
            let crc = !crc;
            crc.rotate_right(15).wrapping_add(0xa282_ead8)
        }

        fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
            let (taken, rest) = bytes.split_at(count);
            *bytes = rest;
            taken
        }

        /// The data of all records, whose checksums hold.
        pub(super) fn records(mut file: &[u8]) -> Vec<&[u8]> {
            let mut found = Vec::new();
            while !file.is_empty() {
                let length = take(&mut file, 8);
                assert_eq!(masked_crc(length).to_le_bytes(), take(&mut file, 4));
                let data = take(&mut file, u64::from_le_bytes(length.try_into().unwrap()) as usize);
                assert_eq!(masked_crc(data).to_le_bytes(), take(&mut file, 4));
                found.push(data);
            }
            found
        }

        fn varint(bytes: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = take(bytes, 1)[0];
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        }

        /// Fields of a message: their numbers and their bytes, a varint as eight of them.
        pub(super) fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
            let mut found = Vec::new();
            while !message.is_empty() {
                let key = varint(&mut message);
                let value = match key & 7 {
                    0 => varint(&mut message).to_le_bytes().to_vec(),
                    1 => take(&mut message, 8).to_vec(),
                    2 => {
                        let length = varint(&mut message) as usize;
                        take(&mut message, length).to_vec()
                    }
                    5 => take(&mut message, 4).to_vec(),
                    other => panic!("wire type {other}"),
                };
                found.push((key >> 3, value));
            }
            found
        }
    }

    fn number(bytes: &[u8]) -> u64 {
        u64::from_le_bytes(bytes.try_into().unwrap())
    }

    #[test]
    fn an_event_file_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(directory.path(), 299).unwrap();
        events.append(&json!({"step": 300, "loss": 2.5, "learning_rate": 1e-5, "name": "no number"})).unwrap();
        events.append(&json!({"step": 300, "validation_loss": 3.25, "validation_rouge1": 0.125})).unwrap();
        let bytes = fs::read(&events.path).unwrap();
        let records: Vec<_> = reader::records(&bytes).into_iter().map(reader::fields).collect();
        assert_eq!(records.len(), 4);
        for event in &records {
            let wall_time = f64::from_le_bytes(event[0].1.clone().try_into().unwrap());
            assert!(event[0].0 == 1 && wall_time > 1.6e9 && event[1].0 == 2 && event.len() == 3);
            assert_eq!(number(&event[1].1), if event[2].0 == 3 { 299 } else { 300 });
        }
        assert_eq!(records[0][2], (3, b"brain.Event:2".to_vec()));
        assert_eq!((records[1][2].0, reader::fields(&records[1][2].1)), (7, vec![(1, 1u64.to_le_bytes().to_vec())]));
        let mut scalars = Vec::new();
        for event in &records[2..] {
            assert_eq!(event[2].0, 5);
            for (_, value) in reader::fields(&event[2].1) {
                let value = reader::fields(&value);
                let number = f32::from_le_bytes(value[1].1.clone().try_into().unwrap());
                scalars.push((String::from_utf8(value[0].1.clone()).unwrap(), number));
            }
        }
        let expected = [
            ("train/loss", 2.5),
            ("train/learning_rate", 1e-5),
            ("validation/loss", 3.25),
            ("validation/rouge1", 0.125),
        ];
        assert_eq!(scalars, expected.map(|(tag, value)| (tag.to_owned(), value)));
    }

    #[test]
    fn files_of_resumed_runs_are_named_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..5).map(|step| EventFile::create(directory.path(), step).unwrap().path).collect();
        assert!(names.is_sorted());
    }
}
