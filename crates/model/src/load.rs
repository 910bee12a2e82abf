//! Reading weights in the hub's formats.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, safetensors};
use serde_json::Value;

use crate::save::WEIGHTS;
use crate::schema::{FINAL_LOGITS_BIAS, SHARED, is_position_table};
use crate::{Config, Error, ParameterKind, Result, TensorSource, Weights, parameter_shapes, pickled};

/// Names under which checkpoints repeat the shared embedding.
const TIED: [&str; 3] = ["led.encoder.embed_tokens.weight", "led.decoder.embed_tokens.weight", "lm_head.weight"];

/// The weight files of a model directory.
pub(crate) enum Files {
    /// One or several safetensors files, memory-mapped.
    SafeTensors(Vec<(PathBuf, safetensors::MmapedSafetensors)>),
    /// `pytorch_model.bin`, its shards, or bytes in memory, read whole.
    Read(PathBuf, HashMap<String, Tensor>),
}

impl Weights {
    /// Loads the tensors that `config` implies from `model.safetensors` or `pytorch_model.bin`, whole or in shards, as f32
    /// whatever the type in the file. Tied embeddings may be present once or several times; a missing `final_logits_bias`
    /// is zero; names may lack the leading `led.`.
    ///
    /// # Errors
    /// When no weight file is found, one cannot be read, or a tensor is missing or has the wrong shape.
    pub fn load(directory: &Path, config: &Config) -> Result<Self> {
        let files = WeightFiles::open(directory, config)?;
        let tensor = |parameter: crate::ParameterShape| {
            let tensor = files.get(&parameter.name, &parameter.shape)?;
            Ok((parameter.name, tensor))
        };
        let tensors = parameter_shapes(config).into_iter().map(tensor).collect::<Result<_>>()?;
        Ok(Self::new(tensors, &files.origin, files.ignored))
    }
}

/// The weight files of a model directory, whose tensors are read one at a time.
pub struct WeightFiles {
    files: Files,
    origin: PathBuf,
    /// Under which name the files hold a parameter; buffers that they do not hold are zero.
    stored: BTreeMap<String, String>,
    ignored: Vec<String>,
}

impl WeightFiles {
    /// Finds the tensors that `config` implies, as [`Weights::load`].
    ///
    /// # Errors
    /// When no weight file is found, one cannot be read, or a tensor is missing.
    pub fn open(directory: &Path, config: &Config) -> Result<Self> {
        let files = Files::open(directory)?;
        let origin = files.describe(directory);
        Self::new(files, &origin, config)
    }

    /// As [`WeightFiles::open`], from the bytes of a `model.safetensors` in memory; `origin` stands for the file in errors.
    ///
    /// # Errors
    /// As [`WeightFiles::open`].
    pub fn from_bytes(bytes: &[u8], origin: &Path, config: &Config) -> Result<Self> {
        let tensors = safetensors::load_buffer(bytes, &Device::Cpu).map_err(unreadable(origin))?;
        Self::new(Files::Read(origin.to_owned(), tensors), origin, config)
    }

    fn new(files: Files, origin: &Path, config: &Config) -> Result<Self> {
        let names = files.names();
        let mut stored = BTreeMap::new();
        for parameter in parameter_shapes(config) {
            match stored_name(&parameter.name, &names) {
                Some(name) => {
                    stored.insert(parameter.name, name.to_owned());
                }
                None if parameter.kind == ParameterKind::Buffer => (),
                None => {
                    return Err(Error::MissingTensor {
                        path: origin.to_owned(),
                        name: parameter.name,
                        expected: parameter.shape,
                    });
                }
            }
        }
        let used: BTreeSet<&String> = stored.values().collect();
        let ignored: Vec<String> =
            names.iter().filter(|name| !used.contains(name) && !is_tied(name)).cloned().collect();
        if let Some(name) = ignored.iter().find(|name| is_of_a_layer(name)) {
            return Err(Error::SurplusTensor { path: origin.to_owned(), name: name.clone() });
        }
        Ok(Self { files, origin: origin.to_owned(), stored, ignored })
    }
}

impl TensorSource for WeightFiles {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        match self.stored.get(name) {
            Some(stored) => self.files.read(stored, name, shape),
            None if name == FINAL_LOGITS_BIAS => Ok(Tensor::zeros(shape, DType::F32, &Device::Cpu)?),
            None => Err(Error::MissingTensor { path: self.origin.clone(), name: name.into(), expected: shape.into() }),
        }
    }
}

fn is_tied(name: &str) -> bool {
    TIED.iter().chain([&SHARED]).any(|tied| *tied == name || tied.strip_prefix("led.") == Some(name))
}

/// Whether a tensor belongs to one of the layers, in LED or in its ancestors.
pub(crate) fn is_of_a_layer(name: &str) -> bool {
    let name = ["led.", "model."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    name.starts_with("encoder.layers.") || name.starts_with("decoder.layers.")
}

/// The name under which the files hold parameter `name`.
fn stored_name<'a>(name: &str, names: &'a BTreeSet<String>) -> Option<&'a str> {
    let aliases: &[&str] = if name == SHARED { &TIED } else { &[] };
    std::iter::once(name)
        .chain(aliases.iter().copied())
        .flat_map(|name| [Some(name), name.strip_prefix("led.")])
        .flatten()
        .find_map(|candidate| names.get(candidate).map(String::as_str))
}

impl Files {
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let single = directory.join(WEIGHTS);
        if single.exists() {
            return Ok(Self::SafeTensors(vec![map(single)?]));
        }
        let index = directory.join("model.safetensors.index.json");
        if index.exists() {
            let shards = shard_paths(&index)?;
            return Ok(Self::SafeTensors(shards.into_iter().map(map).collect::<Result<_>>()?));
        }
        let single = directory.join("pytorch_model.bin");
        if single.exists() {
            let tensors = pickled::read(&single)?;
            return Ok(Self::Read(single, tensors));
        }
        let index = directory.join("pytorch_model.bin.index.json");
        if index.exists() {
            let mut tensors = HashMap::new();
            for shard in shard_paths(&index)? {
                tensors.extend(pickled::read(&shard)?);
            }
            return Ok(Self::Read(index, tensors));
        }
        Err(Error::Io {
            path: directory.to_owned(),
            source: std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "no model.safetensors or pytorch_model.bin here, nor an index of shards of them",
            ),
        })
    }

    pub(crate) fn names(&self) -> BTreeSet<String> {
        match self {
            Self::SafeTensors(shards) => {
                shards.iter().flat_map(|(_, shard)| shard.tensors().into_iter().map(|(name, _)| name)).collect()
            }
            Self::Read(_, tensors) => tensors.keys().cloned().collect(),
        }
    }

    pub(crate) fn describe(&self, directory: &Path) -> PathBuf {
        match self {
            Self::SafeTensors(shards) if shards.len() == 1 => shards[0].0.clone(),
            Self::SafeTensors(_) => directory.to_owned(),
            Self::Read(path, _) => path.clone(),
        }
    }

    /// The tensor `stored`, one of [`Files::names`], as it is in the file, and the file.
    pub(crate) fn tensor(&self, stored: &str) -> Result<(&Path, Tensor)> {
        match self {
            Self::SafeTensors(shards) => {
                let (path, shard) = shards
                    .iter()
                    .find(|(_, shard)| shard.get(stored).is_ok())
                    .expect("the name was listed by one of the shards");
                let tensor = shard.load(stored, &Device::Cpu).map_err(unreadable(path))?;
                // SAFETY: a part of a read-only map of a file.
                #[allow(unsafe_code)]
                unsafe {
                    release(shard.get(stored).map_err(unreadable(path))?.data());
                }
                Ok((path, tensor))
            }
            Self::Read(path, tensors) => Ok((path, tensors[stored].clone())),
        }
    }

    fn read(&self, stored: &str, name: &str, expected: &[usize]) -> Result<Tensor> {
        let (path, tensor) = self.tensor(stored)?;
        let tensor = if name == FINAL_LOGITS_BIAS && tensor.rank() == 1 { tensor.unsqueeze(0)? } else { tensor };
        if tensor.dims() != expected {
            return Err(Error::TensorShape {
                path: path.to_owned(),
                name: name.into(),
                expected: expected.into(),
                found: tensor.dims().into(),
                hint: hint(name, tensor.dims(), expected),
            });
        }
        Ok(tensor.to_dtype(DType::F32)?.contiguous()?)
    }
}

/// BART and allenai position tables have two extra leading rows.
fn hint(name: &str, found: &[usize], expected: &[usize]) -> &'static str {
    let extra_rows = is_position_table(name) && found.first() == expected.first().map(|rows| rows + 2).as_ref();
    if extra_rows { "; two extra leading rows mean a BART or allenai file: run `epitome convert` first" } else { "" }
}

fn map(path: PathBuf) -> Result<(PathBuf, safetensors::MmapedSafetensors)> {
    let mapped = map_safetensors(&path)?;
    Ok((path, mapped))
}

fn unreadable(path: &Path) -> impl FnOnce(candle_core::Error) -> Error + '_ {
    move |error| Error::WeightFile { path: path.to_owned(), message: error.to_string() }
}

/// Lets the system take back the memory that holds a part of a mapped file.
///
/// # Safety
/// `bytes` lie in a read-only map of a file, whose pages are read from the file again when they are touched.
#[allow(unsafe_code)]
unsafe fn release(bytes: &[u8]) {
    #[cfg(unix)]
    {
        /// At least a page of any system.
        const PAGE: usize = 1 << 16;
        let first = bytes.as_ptr().addr().next_multiple_of(PAGE);
        let end = bytes.as_ptr_range().end.addr() / PAGE * PAGE;
        if first < end {
            let start = bytes.as_ptr().with_addr(first).cast_mut().cast();
            // SAFETY: whole pages of such a map, by this function's contract. Should the system refuse, they stay.
            unsafe { libc::madvise(start, end - first, libc::MADV_DONTNEED) };
        }
    }
}

/// Memory-maps one file.
#[allow(unsafe_code)]
fn map_safetensors(path: &Path) -> Result<safetensors::MmapedSafetensors> {
    fs::metadata(path).map_err(Error::io(path))?;
    // SAFETY: the map is read-only, and every tensor is copied out of it. As
    // with every memory map, another process that truncates the file meanwhile ends this one; weight files that this
    // program writes are replaced by renaming, never changed in place.
    unsafe { safetensors::MmapedSafetensors::new(path) }.map_err(unreadable(path))
}

fn shard_paths(index: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string(index).map_err(Error::io(index))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| Error::config(index, error.to_string()))?;
    let map = value
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| Error::config(index, "has no `weight_map` object"))?;
    let mut shards = BTreeSet::new();
    for (name, shard) in map {
        let shard = shard.as_str().ok_or_else(|| Error::config(index, format!("`{name}` does not name a file")))?;
        shards.insert(index.with_file_name(shard));
    }
    Ok(shards.into_iter().collect())
}
