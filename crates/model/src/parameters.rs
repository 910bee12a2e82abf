//! Trainable parameters: one storage, seen with and without a graph.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{Tensor, Var};

use crate::schema::FINAL_LOGITS_BIAS;
use crate::{Result, Weights};

/// A model's trainable tensors by name. [`Parameters::tracked`] and [`Parameters::frozen`] share storage with them: every
/// in-place update is seen by both.
#[derive(Debug)]
pub struct Parameters {
    variables: BTreeMap<String, Var>,
    buffers: BTreeMap<String, Tensor>,
    origin: PathBuf,
}

impl Parameters {
    /// Makes every tensor but the buffers trainable.
    ///
    /// # Errors
    /// When a tensor cannot be copied.
    pub fn new(weights: &Weights) -> Result<Self> {
        let mut variables = BTreeMap::new();
        let mut buffers = BTreeMap::new();
        for (name, tensor) in weights.iter() {
            if name == FINAL_LOGITS_BIAS {
                buffers.insert(name.to_owned(), tensor.clone());
            } else {
                variables.insert(name.to_owned(), Var::from_tensor(tensor)?);
            }
        }
        Ok(Self { variables, buffers, origin: weights.origin().to_owned() })
    }

    /// Names and parameters in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.variables.iter().map(|(name, variable)| (name.as_str(), variable))
    }

    /// The parameters with a graph: operations on them can be differentiated.
    pub fn tracked(&self) -> Weights {
        self.view(|variable| variable.as_tensor().clone())
    }

    /// The parameters without a graph, for validation, saving and the forward half of recomputation.
    pub fn frozen(&self) -> Weights {
        self.view(Var::as_detached_tensor)
    }

    fn view(&self, tensor: impl Fn(&Var) -> Tensor) -> Weights {
        let mut tensors = self.buffers.clone();
        tensors.extend(self.variables.iter().map(|(name, variable)| (name.clone(), tensor(variable))));
        Weights::new(tensors, &self.origin, Vec::new())
    }
}
