//! Trainable parameters.

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;

use crate::schema::FINAL_LOGITS_BIAS;
use crate::{Result, SavedDtype, TensorSource, Weights};

/// A model's tensors, of which all but the buffers are trained. They are updated in place, which every network over them
/// sees.
#[derive(Debug)]
pub struct Parameters(Weights);

impl Parameters {
    /// Takes the weights over: whoever else holds one of their tensors sees it change.
    pub fn new(weights: Weights) -> Self {
        Self(weights)
    }

    /// Names and trainable tensors in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().filter(|(name, _)| *name != FINAL_LOGITS_BIAS)
    }

    /// The same with some tensors replaced by others of their shapes; the rest are shared.
    #[must_use]
    pub fn with(&self, replacements: &HashMap<String, Tensor>) -> Self {
        Self(self.0.with(replacements))
    }

    /// Writes them as [`Weights::save`] does.
    ///
    /// # Errors
    /// As [`Weights::save`].
    pub fn save(&self, directory: &Path, dtype: SavedDtype) -> Result<()> {
        self.0.save(directory, dtype)
    }
}

impl TensorSource for Parameters {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.0.get(name, shape)
    }
}
