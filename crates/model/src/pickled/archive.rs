//! The zip archive that torch writes since 1.6: a pickle `NAME/data.pkl`, and each storage as a file `NAME/data/KEY`.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::io::{BufReader, Read, Seek};

use candle_core::Tensor;
use zip::ZipArchive;

use super::{Found, View, object, take, views};

const PICKLE: &str = "data.pkl";

/// All tensors of an archive of `size` bytes. As in torch, checksums are not looked at: it can be told to write none.
pub(super) fn tensors(reader: impl Read + Seek, size: u64) -> Found<HashMap<String, Tensor>> {
    let mut archive = ZipArchive::new(reader).map_err(|error| error.to_string())?;
    let folder = |name: Cow<str>| name.strip_suffix(PICKLE).map(str::to_owned);
    let folder = archive.file_names().filter_map(Result::ok).find_map(folder);
    let folder = folder.ok_or("an archive without data.pkl, so not one of torch.save")?;
    let pickle = archive.by_name(&format!("{folder}{PICKLE}")).map_err(|error| error.to_string())?;
    // What is no tensor that a parameter could be may lie beside those that are.
    let views = views(object(&mut BufReader::new(pickle))?)?.filter_map(|(name, view)| Some((name, view.ok()?)));
    let views: Vec<(String, View)> = views.collect();
    let keys: BTreeSet<&str> = views.iter().map(|(_, view)| view.storage.as_str()).collect();
    let mut tensors = HashMap::new();
    for key in keys {
        let storage = storage(&mut archive, &format!("{folder}data/{key}"), size);
        take(&mut tensors, &views, key, &storage.map_err(|message| format!("storage {key}: {message}"))?)?;
    }
    Ok(tensors)
}

/// The file `name` of an archive of `size` bytes, which is stored as it is.
fn storage(archive: &mut ZipArchive<impl Read + Seek>, name: &str, size: u64) -> Found<Vec<u8>> {
    let mut entry = archive.by_name(name).map_err(|error| error.to_string())?;
    if entry.size() > size {
        return Err(format!("{} bytes in a file of {size}", entry.size()));
    }
    let mut data = vec![0; entry.size() as usize];
    entry.read_exact(&mut data).map_err(|error| error.to_string())?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

    use std::io::{Cursor, Write};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::super::tests::{entry, six, text};
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, data) in files {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(data).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn read(bytes: &[u8]) -> Found<HashMap<String, Tensor>> {
        tensors(Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn views_of_storages_in_files_of_their_own() {
        let entries = [
            entry("columns", "FloatStorage", "0", 1, &[2, 2], &[3, 1]),
            entry("of another kind", "QInt8Storage", "2", 0, &[2], &[1]),
            [text("no tensor"), b"cargparse\nNamespace\n)R".to_vec()].concat(),
            entry("half", "HalfStorage", "1", 0, &[2], &[1]),
        ];
        let pickle = [b"\x80\x02}(".as_slice(), &entries.concat(), b"u."].concat();
        let half = [0, 0x3c, 0, 0xc0];
        let bytes = archive(&[("model/data.pkl", &pickle), ("model/data/0", &six()), ("model/data/1", &half)]);
        let tensors = read(&bytes).unwrap();
        assert_eq!(tensors["columns"].to_vec2::<f32>().unwrap(), [[1.0, 2.0], [4.0, 5.0]]);
        assert_eq!(tensors.len(), 2);
        assert_eq!(tensors["half"].to_dtype(candle_core::DType::F32).unwrap().to_vec1::<f32>().unwrap(), [1.0, -2.0]);
        let refused = |bytes: &[u8], expected: &str| {
            let message = read(bytes).unwrap_err();
            assert!(message.contains(expected), "{message:?} does not say {expected:?}");
        };
        refused(&archive(&[("model/data.pkl", &pickle), ("model/data/0", &six())]), "storage 1: ");
        refused(&archive(&[("model/data.pkl", &pickle), ("model/data/0", &half)]), "beyond the 1 elements");
        refused(&archive(&[("model/data/0", &half)]), "without data.pkl");
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
        }
    }
}
