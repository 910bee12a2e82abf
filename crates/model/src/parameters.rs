//! Trainable parameters.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Tensor};
use epitome_kernels as kernels;

use crate::schema::FINAL_LOGITS_BIAS;
use crate::{Error, Result, SavedDtype, TensorSource, Weights};

/// A model's tensors, of which all but the buffers are trained. They are updated in place, which every network over them
/// sees once it has been told ([`Parameters::changed`]).
#[derive(Debug)]
pub struct Parameters {
    weights: Weights,
    /// Those that networks were given in another type.
    copies: Mutex<BTreeMap<String, Tensor>>,
}

impl Parameters {
    /// Takes the weights over: whoever else holds one of their tensors sees it change.
    pub fn new(weights: Weights) -> Self {
        Self { weights, copies: Mutex::default() }
    }

    /// Names and trainable tensors in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.weights.iter().filter(|(name, _)| *name != FINAL_LOGITS_BIAS)
    }

    /// The same with some tensors replaced by others of their shapes; the rest are shared.
    #[must_use]
    pub fn with(&self, replacements: &HashMap<String, Tensor>) -> Self {
        Self::new(self.weights.with(replacements))
    }

    /// To be called when tensors were changed in place: brings copies in other types up to date.
    ///
    /// # Errors
    /// When a copy fails.
    pub fn changed(&self) -> Result<()> {
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs: Vec<_> = self.iter().filter_map(|(name, tensor)| Some([tensor, copies.get(name)?])).collect();
        Ok(kernels::round_all(&pairs)?)
    }

    /// Writes them as [`Weights::save`] does.
    ///
    /// # Errors
    /// As [`Weights::save`].
    pub fn save(&self, directory: &Path, dtype: SavedDtype) -> Result<()> {
        self.weights.save(directory, dtype)
    }
}

impl TensorSource for Parameters {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.weights.get(name, shape)
    }

    /// One copy, whoever asks: all networks over the parameters compute in one type.
    fn get_in(&self, name: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let own = self.get(name, shape)?;
        if own.dtype() == dtype {
            return Ok(own);
        }
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copy) = copies.get(name) {
            return match copy.dtype() == dtype {
                true => Ok(copy.clone()),
                false => {
                    Err(Error::Input(format!("`{name}` has a copy in {:?}, and {dtype:?} is asked for", copy.dtype())))
                }
            };
        }
        let copy = own.to_dtype(dtype)?.contiguous()?;
        copies.insert(name.to_owned(), copy.clone());
        Ok(copy)
    }
}
