//! Named tensors in files.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::{Error, Result};

/// Writes a safetensors file.
pub(crate) fn save_tensors(path: &Path, tensors: &HashMap<String, Tensor>) -> Result<()> {
    epitome_files::replace_file(path, |temporary| {
        candle_core::safetensors::save(tensors, temporary).map_err(io::Error::other)
    })
    .map_err(Error::io(path))
}

/// The tensors of a safetensors file of a checkpoint.
pub(crate) fn load_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let complain = |error: candle_core::Error| Error::Checkpoint { path: path.to_owned(), message: error.to_string() };
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).map_err(complain)?;
    Ok(tensors.into_iter().collect())
}
