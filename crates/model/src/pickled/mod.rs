//! `pytorch_model.bin`: a pickle of named tensors, of which nothing is ever executed.
//!
//! Since 1.6 torch writes a zip archive (`archive`). Before, a file was a sequence of pickles (a magic number, the version, facts
//! about the machine, the object, the keys of its storages) and then each storage as a count of elements and the elements:
//! `torch.serialization._legacy_save`. Either way a tensor is a [`View`] of a storage.

mod archive;
mod view;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;

use candle_core::pickle::{Object, Stack};
use candle_core::{DType, Tensor};

use self::view::View;
use crate::{Error, Result};

/// How a zip archive begins.
const ARCHIVE: &[u8] = b"PK";
/// The first pickle of the format before: the number 0x1950a86a20f9469cfc6c in protocol 2.
const MAGIC: &[u8; 15] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// All tensors of a file.
///
/// # Errors
/// When the file cannot be read, is in neither format, ends early, or holds a tensor that lies outside its storage.
pub(crate) fn read(path: &Path) -> Result<HashMap<String, Tensor>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let mut reader = BufReader::new(file);
    let start = reader.fill_buf().map_err(Error::io(path))?;
    let tensors = if start.starts_with(ARCHIVE) {
        archive::tensors(reader, size)
    } else if start.starts_with(MAGIC) {
        reader.consume(MAGIC.len());
        sequence(&mut reader, size)
    } else {
        Err("not a file of torch.save; load the model where it came from and save it as safetensors".into())
    };
    tensors.map_err(|message| Error::WeightFile { path: path.to_owned(), message })
}

type Found<T> = std::result::Result<T, String>;

/// What follows the magic number.
fn sequence(reader: &mut (impl BufRead + Seek), size: u64) -> Found<HashMap<String, Tensor>> {
    let _version = object(reader)?;
    let machine = object(reader)?;
    if entry(&machine, "little_endian") == Some(&Object::Bool(false)) {
        return Err("written on a big-endian machine; load and save it with torch there".into());
    }
    // What cannot be read stands in the way of what lies behind it.
    let views = views(object(reader)?)?.map(|(name, view)| Ok((name, view?))).collect::<Found<Vec<_>>>()?;
    let Object::List(keys) = object(reader)? else { return Err("no list of storages after the tensors".into()) };
    let mut tensors = HashMap::new();
    for key in keys {
        let key = key.unicode().map_err(|_| "the key of a storage is not a string")?;
        let dtype = views.iter().find(|(_, view)| view.storage == key).map(|(_, view)| view.dtype);
        let dtype = dtype.ok_or_else(|| format!("storage {key} belongs to no tensor at the top of the file"))?;
        let storage = storage(reader, size, dtype).map_err(|message| format!("storage {key}: {message}"))?;
        take(&mut tensors, &views, &key, &storage)?;
    }
    match views.iter().find(|(name, _)| !tensors.contains_key(name)) {
        Some((name, view)) => Err(format!("tensor {name}: the file has no storage {}", view.storage)),
        None => Ok(tensors),
    }
}

fn object(reader: &mut impl BufRead) -> Found<Object> {
    let mut stack = Stack::empty();
    let read = stack.read_loop(reader).and_then(|()| stack.finalize());
    read.map_err(|error| format!("a pickle cannot be read: {error}"))
}

fn entry<'a>(object: &'a Object, name: &str) -> Option<&'a Object> {
    let Object::Dict(entries) = object else { return None };
    entries.iter().find(|(key, _)| matches!(key, Object::Unicode(key) if key == name)).map(|(_, value)| value)
}

/// What has a name in a state dict and may be a tensor; whatever else is in it is left out.
fn views(object: Object) -> Found<impl Iterator<Item = (String, Found<View>)>> {
    let Object::Dict(entries) = object else {
        return Err("holds no dictionary of named tensors (`model.state_dict()`)".into());
    };
    Ok(entries.into_iter().filter_map(|entry| match entry {
        (Object::Unicode(name), Object::Reduce { callable, args }) => {
            let view = View::of(*callable, *args).map_err(|message| format!("tensor {name}: {message}"));
            Some((name, view))
        }
        _ => None,
    }))
}

/// Adds the tensors that are views of the storage `key`, whose bytes are `storage`.
fn take(tensors: &mut HashMap<String, Tensor>, views: &[(String, View)], key: &str, storage: &[u8]) -> Found<()> {
    for (name, view) in views.iter().filter(|(_, view)| view.storage == key) {
        let tensor = view.tensor(storage).map_err(|message| format!("tensor {name}: {message}"))?;
        tensors.insert(name.clone(), tensor);
    }
    Ok(())
}

/// The elements that follow their count, if the file is as long as that.
fn storage(reader: &mut (impl BufRead + Seek), size: u64, dtype: DType) -> Found<Vec<u8>> {
    let mut count = [0; 8];
    reader.read_exact(&mut count).map_err(|error| error.to_string())?;
    let count = u64::from_le_bytes(count);
    let left = size.saturating_sub(reader.stream_position().map_err(|error| error.to_string())?);
    let bytes = count.checked_mul(dtype.size_in_bytes() as u64).filter(|&bytes| bytes <= left);
    let bytes = bytes.ok_or_else(|| format!("{count} elements of {dtype:?}, but the file ends after {left} bytes"))?;
    let mut data = vec![0; bytes as usize];
    reader.read_exact(&mut data).map_err(|error| error.to_string())?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

    use std::io::Cursor;

    use super::*;

    pub(super) fn text(text: &str) -> Vec<u8> {
        [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
    }

    fn tuple(numbers: &[i32]) -> Vec<u8> {
        let numbers = numbers.iter().flat_map(|number| [b"J".as_slice(), &number.to_le_bytes()].concat());
        [b"(".as_slice(), &numbers.collect::<Vec<u8>>(), b"t"].concat()
    }

    /// An entry of a state dict, as `torch.save` of version 1.5 writes it.
    pub(super) fn entry(name: &str, class: &str, key: &str, offset: u8, shape: &[i32], strides: &[i32]) -> Vec<u8> {
        [
            text(name),
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            format!("ctorch\n{class}\n").into_bytes(),
            text(key),
            text("cpu"),
            vec![b'K', 6, b'N', b't', b'Q', b'K', offset],
            tuple(shape),
            tuple(strides),
            b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
        ]
        .concat()
    }

    /// What stands behind the magic number.
    fn file(entries: &[Vec<u8>], storages: &[(&str, i64, &[u8])]) -> Vec<u8> {
        let mut bytes = b"\x80\x02M\xe9\x03.\x80\x02}(".to_vec();
        bytes.extend([text("little_endian"), b"\x88u.\x80\x02ccollections\nOrderedDict\n)R(".to_vec()].concat());
        bytes.extend(entries.concat());
        bytes.extend(b"u.\x80\x02](");
        bytes.extend(storages.iter().flat_map(|(key, _, _)| text(key)));
        bytes.extend(b"e.");
        for (_, count, data) in storages {
            bytes.extend(count.to_le_bytes());
            bytes.extend(*data);
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Found<HashMap<String, Tensor>> {
        sequence(&mut Cursor::new(bytes), bytes.len() as u64)
    }

    pub(super) fn six() -> Vec<u8> {
        (0u8..6).flat_map(|i| f32::from(i).to_le_bytes()).collect()
    }

    #[test]
    fn tensors_of_several_types_and_layouts() {
        let entries = [
            entry("whole", "FloatStorage", "1", 0, &[2, 3], &[3, 1]),
            entry("part", "FloatStorage", "1", 2, &[3], &[1]),
            entry("transposed", "FloatStorage", "1", 0, &[3, 2], &[1, 3]),
            entry("columns", "FloatStorage", "1", 1, &[2, 2], &[3, 1]),
            entry("strided", "FloatStorage", "1", 1, &[3], &[2]),
            entry("overlapping", "FloatStorage", "1", 0, &[2, 3], &[1, 1]),
            entry("empty", "FloatStorage", "1", 6, &[0, 3], &[3, 1]),
            entry("half", "HalfStorage", "2", 0, &[2], &[1]),
        ];
        let tensors = parse(&file(&entries, &[("1", 6, &six()), ("2", 2, &[0, 0x3c, 0, 0xc0])])).unwrap();
        let rows = |name: &str| tensors[name].to_vec2::<f32>().unwrap();
        assert_eq!(rows("whole"), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]);
        assert_eq!(rows("transposed"), [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]);
        assert_eq!(rows("columns"), [[1.0, 2.0], [4.0, 5.0]]);
        assert_eq!(rows("overlapping"), [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]);
        assert_eq!(tensors["strided"].to_vec1::<f32>().unwrap(), [1.0, 3.0, 5.0]);
        assert_eq!(tensors["empty"].dims(), [0, 3]);
        assert_eq!(tensors["part"].to_vec1::<f32>().unwrap(), [2.0, 3.0, 4.0]);
        assert_eq!(tensors["half"].to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap(), [1.0, -2.0]);
    }

    #[test]
    fn every_length_is_checked_against_the_file() {
        let whole = || [entry("a", "FloatStorage", "1", 0, &[2, 3], &[3, 1])];
        let bytes = file(&whole(), &[("1", 6, &six())]);
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
        }
        let refused = |entries: &[Vec<u8>], count: i64, expected: &str| {
            let message = parse(&file(entries, &[("1", count, &six())])).unwrap_err();
            assert!(message.contains(expected), "{message:?} does not say {expected:?}");
        };
        refused(&whole(), i64::MAX, "the file ends after 24 bytes");
        refused(&whole(), -1, "the file ends after 24 bytes");
        refused(&whole(), 5, "tensor a: reaches beyond the 5 elements");
        refused(&[entry("a", "FloatStorage", "1", 1, &[2, 3], &[3, 1])], 6, "reaches beyond the 6 elements");
        refused(&[entry("a", "FloatStorage", "1", 0, &[-2], &[1])], 6, "negative");
        refused(&[entry("a", "FloatStorage", "1", 0, &[2], &[])], 6, "strides");
        refused(&[entry("a", "FloatStorage", "1", 0, &[1 << 30, 1 << 30, 1 << 30], &[0, 0, 0])], 6, "reaches beyond");
        refused(&[entry("a", "FloatStorage", "1", 0, &[1 << 30, 1 << 30], &[0, 0])], 6, "repeats elements");
        refused(&[entry("a", "FloatStorage", "1", 6, &[1 << 30], &[0])], 6, "reaches beyond");
        refused(&[entry("a", "FloatStorage", "1", 0, &[2, i32::MAX], &[i32::MAX, 1])], 6, "reaches beyond");
        refused(&[entry("a", "FloatStorage", "1", 0, &[3, 3], &[1, 1])], 6, "repeats elements");
        refused(&[entry("a", "FloatStorage", "2", 0, &[2], &[1])], 6, "storage 1 belongs to no tensor");
        refused(&[entry("a", "QInt8Storage", "1", 0, &[2], &[1])], 6, "`QInt8Storage` are not supported");
        let mut calls = entry("a", "FloatStorage", "1", 0, &[2], &[1]);
        let at = calls.windows(6).position(|window| window == b"torch.").unwrap();
        calls.splice(at.., *b"os\nsystem\n(tR");
        refused(&[calls], 6, "made by `system`");
    }
}
