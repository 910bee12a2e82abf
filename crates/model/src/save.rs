//! Writing weights so that `transformers` reads them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use safetensors::{Dtype, View};

use crate::{Error, Result, Weights};

/// The file of a model directory that says how to search with it: it goes along unchanged when a model is saved anew.
pub const GENERATION_CONFIG: &str = "generation_config.json";

/// The file that holds the weights of a model that is saved.
pub(crate) const WEIGHTS: &str = "model.safetensors";

/// Files of a model directory that make it a model.
const MODEL_FILES: [&str; 5] =
    [WEIGHTS, "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json", "config.json"];

/// The file that makes `directory` a model, if it is one: whoever writes another there would destroy it.
pub fn held_model(directory: &Path) -> Option<PathBuf> {
    MODEL_FILES.iter().map(|name| directory.join(name)).find(|path| path.exists())
}

/// The number type of saved weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedDtype {
    /// 32-bit floats.
    F32,
    /// 16-bit brain floats: half the size, three significant digits.
    Bf16,
}

impl Weights {
    /// Writes `model.safetensors` into `directory`, replacing it atomically. Tied embeddings are written once.
    ///
    /// # Errors
    /// When the file cannot be written; the old one is then untouched.
    pub fn save(&self, directory: &Path, dtype: SavedDtype) -> Result<()> {
        let path = directory.join(WEIGHTS);
        let views = self.iter().map(|(name, tensor)| (name, Saved { tensor, dtype }));
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let written = epitome_files::replace_file(&path, |temporary| {
            safetensors::serialize_to_file(views, Some(metadata), temporary).map_err(|error| match error {
                safetensors::SafeTensorError::IoError(source) => source,
                other => io::Error::other(other),
            })
        });
        written.map_err(Error::io(&path))
    }
}

struct Saved<'a> {
    tensor: &'a Tensor,
    dtype: SavedDtype,
}

impl Saved<'_> {
    fn element_size(&self) -> usize {
        match self.dtype {
            SavedDtype::F32 => 4,
            SavedDtype::Bf16 => 2,
        }
    }
}

impl View for Saved<'_> {
    fn dtype(&self) -> Dtype {
        match self.dtype {
            SavedDtype::F32 => Dtype::F32,
            SavedDtype::Bf16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        self.tensor.dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self
            .tensor
            .flatten_all()
            .and_then(|flat| flat.to_dtype(DType::F32)?.to_vec1::<f32>())
            .expect("a model's tensors are dense numbers on the host");
        let mut bytes = Vec::with_capacity(values.len() * self.element_size());
        match self.dtype {
            SavedDtype::F32 => values.iter().for_each(|value| bytes.extend(value.to_le_bytes())),
            SavedDtype::Bf16 => {
                values.iter().for_each(|&value| bytes.extend(half::bf16::from_f32(value).to_le_bytes()))
            }
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.elem_count() * self.element_size()
    }
}
