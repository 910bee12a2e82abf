//! Trainable parameters.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Tensor};
use epitome_kernels as kernels;

use crate::schema::FINAL_LOGITS_BIAS;
use crate::weights::padding;
use crate::{Error, Result, SavedDtype, TensorSource, Weights};

/// A model's tensors, of which all but the buffers are trained. They are updated in place, which every network over them
/// sees once their copies follow ([`Parameters::changed`]).
#[derive(Debug)]
pub struct Parameters {
    weights: Weights,
    /// Those that networks were given in another type; behind a table there may be rows of zeros.
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

    /// To be called when tensors were changed in place without their copies: brings these up to date.
    ///
    /// # Errors
    /// When a copy fails.
    pub fn changed(&self) -> Result<()> {
        let copies = self.copies()?;
        let pairs: Vec<_> = self.iter().filter_map(|(name, tensor)| Some([tensor, copies.get(name)?])).collect();
        Ok(kernels::round_all(&pairs)?)
    }

    /// The copies in other types that networks read, by name, of the shapes of their tensors: whoever changes one of these changes its
    /// copy.
    ///
    /// # Errors
    /// When a copy cannot be read.
    pub fn copies(&self) -> Result<BTreeMap<String, Tensor>> {
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(name, tensor): (&str, &Tensor)| Some((name.to_owned(), own_rows(copies.get(name)?, tensor)));
        self.iter().filter_map(of).map(|(name, copy)| Ok((name, copy?))).collect()
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

    fn get_in(&self, name: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        self.copy_of(name, shape, dtype, None)
    }

    fn get_padded_in(&self, name: &str, shape: &[usize], dtype: DType, multiple: usize) -> Result<Tensor> {
        self.copy_of(name, shape, dtype, Some(multiple))
    }
}

impl Parameters {
    /// One copy, whoever asks: all networks over the parameters compute in one type.
    fn copy_of(&self, name: &str, shape: &[usize], dtype: DType, multiple: Option<usize>) -> Result<Tensor> {
        let own = self.get(name, shape)?;
        let rows = padding(own.dim(0)?, multiple.unwrap_or(1));
        if own.dtype() == dtype {
            return Ok(own.pad_with_zeros(0, 0, rows)?);
        }
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = match copies.get(name) {
            Some(copy) if copy.dtype() != dtype => {
                let other = copy.dtype();
                return Err(Error::Input(format!("`{name}` has a copy in {other:?}, and {dtype:?} is asked for")));
            }
            Some(copy) => copy.clone(),
            None => {
                let copy = own.to_dtype(dtype)?.pad_with_zeros(0, 0, rows)?.contiguous()?;
                copies.insert(name.to_owned(), copy.clone());
                copy
            }
        };
        if multiple.is_some() { Ok(copy) } else { own_rows(&copy, &own) }
    }
}

/// Of a copy what is not padding.
fn own_rows(copy: &Tensor, own: &Tensor) -> Result<Tensor> {
    Ok(if copy.dims() == own.dims() { copy.clone() } else { copy.narrow(0, 0, own.dim(0)?)? })
}
