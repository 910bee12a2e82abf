//! The bytes of a store.
//!
//! | part | bytes |
//! |---|---|
//! | header | [`HEADER`]: magic, number of examples, where the index begins, length of the summary, checksum of index and summary |
//! | examples | each a fixed part, then ids (u32), global positions (u32), labels (i64) and the name of the record |
//! | index | [`ENTRY`] an example: where it begins, its checksum, tokens of source and target |
//! | summary | JSON: the [`Statistics`](crate::Statistics) of the examples |
//!
//! All numbers are little-endian.

use std::sync::Arc;

use crate::error::{Location, Unit};
use crate::examples::Example;

/// What a store begins with. Raise the number when the bytes, or what a record's tokens are, change.
pub(super) const MAGIC: &[u8; 8] = b"EPITOK\x00\x02";
/// Bytes of the header.
pub(super) const HEADER: usize = 64;
/// Bytes of an entry of the index.
pub(super) const ENTRY: usize = 24;
/// Bytes before the ids of an example.
const FIXED: usize = 32;

/// The beginning of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) examples: u64,
    pub(super) index_offset: u64,
    pub(super) summary_length: u64,
    pub(super) checksum: [u8; 32],
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.examples.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.index_offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.summary_length.to_le_bytes());
        bytes[32..].copy_from_slice(&self.checksum);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; HEADER]) -> Option<Self> {
        let (checksum, number) = (bytes[32..].try_into().ok()?, |at| u64_at(bytes, at));
        let header = Self { examples: number(8)?, index_offset: number(16)?, summary_length: number(24)?, checksum };
        (bytes[..8] == *MAGIC).then_some(header)
    }

    /// How long the file must be; none if that is no length of a file.
    pub(super) fn file_length(&self) -> Option<u64> {
        self.examples.checked_mul(ENTRY as u64)?.checked_add(self.index_offset)?.checked_add(self.summary_length)
    }
}

/// An example's entry in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    /// The first eight bytes of the BLAKE3 of the example's bytes.
    pub(super) checksum: u64,
    pub(super) source_length: u32,
    pub(super) target_length: u32,
}

impl Entry {
    pub(super) fn to_bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.source_length.to_le_bytes());
        bytes[20..].copy_from_slice(&self.target_length.to_le_bytes());
        bytes
    }

    /// The entry of the example at `index`, one of `count`.
    pub(super) fn read(entries: &[u8], index: usize, count: usize) -> Self {
        assert!(index < count, "example {index} of {count}");
        let bytes = &entries[index * ENTRY..][..ENTRY];
        let number = |at| u64_at(bytes, at).expect("an entry is long enough");
        let lengths = number(16).to_le_bytes();
        let length = |at| u32_at(&lengths, at).expect("there are two");
        Self { offset: number(0), checksum: number(8), source_length: length(0), target_length: length(4) }
    }
}

pub(super) fn checksum(bytes: &[u8]) -> u64 {
    u64_at(blake3::hash(bytes).as_bytes(), 0).expect("a hash has 32 bytes")
}

/// Appends the bytes of an example from the file numbered `file`; none if a length does not fit.
pub(super) fn encode(example: &Example, file: usize, bytes: &mut Vec<u8>) -> Option<()> {
    let (row, number) = (u32::from(example.location.unit == Unit::Row), example.location.number as u64);
    let lengths = [example.input_ids.len(), example.global_positions.len(), example.labels.len()];
    for value in lengths.into_iter().chain([example.leading_tokens, file]) {
        bytes.extend(u32::try_from(value).ok()?.to_le_bytes());
    }
    bytes.extend(row.to_le_bytes());
    bytes.extend(number.to_le_bytes());
    bytes.extend(example.input_ids.iter().flat_map(|id| id.to_le_bytes()));
    // Positions lie below the number of ids, which fits.
    bytes.extend(example.global_positions.iter().flat_map(|&position| (position as u32).to_le_bytes()));
    bytes.extend(example.labels.iter().flat_map(|label| label.to_le_bytes()));
    bytes.extend(example.id.as_bytes());
    Some(())
}

/// The example that `bytes` are, from one of `files`; none if they are no example.
pub(super) fn decode(bytes: &[u8], files: &[Arc<str>]) -> Option<Example> {
    let number = |at| Some(u32_at(bytes, at)? as usize);
    let (sources, globals, labels, leading_tokens) = (number(0)?, number(4)?, number(8)?, number(12)?);
    let unit = if number(20)? == 0 { Unit::Line } else { Unit::Row };
    let file = Arc::clone(files.get(number(16)?)?);
    let location = Location { file, number: u64_at(bytes, 24)? as usize, unit };
    let (input_ids, rest) = bytes.get(FIXED..)?.split_at_checked(4 * sources)?;
    let (global_positions, rest) = rest.split_at_checked(4 * globals)?;
    let (labels, id) = rest.split_at_checked(8 * labels)?;
    Some(Example {
        id: std::str::from_utf8(id).ok()?.to_owned(),
        location,
        input_ids: words(input_ids).collect(),
        leading_tokens,
        global_positions: words(global_positions).map(|position| position as usize).collect(),
        choices: Vec::new(),
        weights: Vec::new(),
        labels: labels.as_chunks().0.iter().map(|&label| i64::from_le_bytes(label)).collect(),
    })
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
