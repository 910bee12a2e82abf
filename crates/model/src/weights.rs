//! Named tensors of a model, in memory or still in files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use epitome_kernels::Precision;

use crate::{Error, Result};

/// Where a network takes its tensors from: [`Weights`] in memory, or [`WeightFiles`](crate::WeightFiles), which read each
/// when it is asked for.
pub trait TensorSource {
    /// The tensor `name` in f32.
    ///
    /// # Errors
    /// When it is missing, has another shape, or cannot be read.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor>;
}

/// A source, and what linear layers make of its weights: trainable tensors, or weights packed for inference.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) tensors: &'a dyn TensorSource,
    pub(crate) packed: Option<Precision>,
}

impl Source<'_> {
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.tensors.get(name, shape)
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
