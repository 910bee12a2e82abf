//! Named tensors of a model, in memory or still in files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use epitome_kernels::{self as kernels, Device, Precision};

use crate::{Error, Result};

/// Where a network takes its tensors from: [`Weights`] in memory, or [`WeightFiles`](crate::WeightFiles), which read each
/// when it is asked for.
pub trait TensorSource {
    /// The tensor `name` in f32.
    ///
    /// # Errors
    /// When it is missing, has another shape, or cannot be read.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor>;

    /// The same in the type `dtype`: of a tensor that changes, a copy that follows it ([`Parameters::copies`], [`Parameters::changed`]).
    ///
    /// [`Parameters::changed`]: crate::Parameters::changed
    /// [`Parameters::copies`]: crate::Parameters::copies
    ///
    /// # Errors
    /// As [`TensorSource::get`].
    fn get_in(&self, name: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        Ok(self.get(name, shape)?.to_dtype(dtype)?)
    }

    /// The same of a table, behind which there are rows of zeros up to a multiple of `multiple` rows.
    ///
    /// # Errors
    /// As [`TensorSource::get`].
    fn get_padded_in(&self, name: &str, shape: &[usize], dtype: DType, multiple: usize) -> Result<Tensor> {
        let table = self.get_in(name, shape, dtype)?;
        Ok(table.pad_with_zeros(0, 0, padding(table.dim(0)?, multiple))?)
    }
}

/// Rows that are missing to a multiple.
pub(crate) fn padding(rows: usize, multiple: usize) -> usize {
    rows.next_multiple_of(multiple) - rows
}

/// A source, and what layers make of its tensors: trainable ones, or weights packed for inference.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) tensors: &'a dyn TensorSource,
    pub(crate) packed: Option<Packing<'a>>,
    /// The type of hidden states.
    pub(crate) activations: DType,
}

/// How weights are kept for inference, and where.
#[derive(Clone, Copy)]
pub(crate) struct Packing<'a> {
    pub(crate) precision: Precision,
    pub(crate) device: &'a Device,
}

impl Source<'_> {
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.tensors.get(name, shape)?;
        Ok(match self.packed {
            Some(packing) => tensor.to_device(packing.device)?,
            None => tensor,
        })
    }

    /// What products read of the tensor `name`: itself, if it is of the type of hidden states.
    pub(crate) fn in_activations(&self, tensor: &Tensor, name: &str) -> Result<Tensor> {
        match tensor.dtype() == self.activations {
            true => Ok(tensor.clone()),
            false => self.tensors.get_in(name, tensor.dims(), self.activations),
        }
    }

    /// What the output head's products read of the table `name`: itself, if it is of the type of hidden states, or else a copy behind
    /// which there may be a few rows of zeros.
    pub(crate) fn head_in_activations(&self, table: &Tensor, name: &str) -> Result<Tensor> {
        match table.dtype() == self.activations {
            true => Ok(table.clone()),
            false => self.tensors.get_padded_in(name, table.dims(), self.activations, kernels::TABLE_ROWS),
        }
    }

    /// A table of embeddings: for inference in the type of hidden states.
    pub(crate) fn table(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let table = self.get(name, shape)?;
        Ok(if self.packed.is_some() { table.to_dtype(self.activations)? } else { table })
    }
}

/// A model's tensors by their hub names, with the place they came from (for error messages). Cloning is cheap: tensors are
/// shared.
#[derive(Clone, Debug)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
    origin: PathBuf,
    ignored: Vec<String>,
}

impl Weights {
    pub(crate) fn new(tensors: BTreeMap<String, Tensor>, origin: &Path, ignored: Vec<String>) -> Self {
        Self { tensors, origin: origin.to_owned(), ignored }
    }

    /// The same with some tensors replaced.
    pub(crate) fn with(&self, replacements: &HashMap<String, Tensor>) -> Self {
        let replaced =
            |(name, tensor): (&String, &Tensor)| (name.clone(), replacements.get(name).unwrap_or(tensor).clone());
        Self { tensors: self.tensors.iter().map(replaced).collect(), ..self.clone() }
    }

    /// The same on a device.
    ///
    /// # Errors
    /// When it has no room for them.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let moved = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), tensor.to_device(device)?));
        Ok(Self { tensors: self.tensors.iter().map(moved).collect::<Result<_>>()?, ..self.clone() })
    }

    /// Names and tensors in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Where the tensors came from.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// Tensors in the file that a LED model does not have, such as a classification head.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }
}

impl TensorSource for Weights {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.tensors.get(name).ok_or_else(|| Error::MissingTensor {
            path: self.origin.clone(),
            name: name.into(),
            expected: shape.into(),
        })?;
        if tensor.dims() != shape {
            return Err(Error::TensorShape {
                path: self.origin.clone(),
                name: name.into(),
                expected: shape.into(),
                found: tensor.dims().into(),
                hint: "",
            });
        }
        Ok(tensor.clone())
    }
}
