//! Gradients accumulated over micro-batches.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use epitome_kernels as kernels;

use crate::Result;

/// Sums of gradients by parameter name. A parameter that took part in no batch has none (semantics A12): the optimizer then
/// leaves it alone, as PyTorch does.
#[derive(Debug, Default)]
pub struct Gradients {
    sums: BTreeMap<String, Tensor>,
}

impl Gradients {
    /// The gradient of parameter `name`, if it has one.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.sums.get(name)
    }

    /// Names and gradients in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.sums.iter().map(|(name, sum)| (name.as_str(), sum))
    }

    /// Adds `gradient`, of which the caller holds no other reference.
    pub(crate) fn add(&mut self, name: &str, gradient: Tensor) -> Result<()> {
        match self.sums.get(name) {
            Some(sum) => kernels::add_assign(sum, &gradient)?,
            None => {
                self.sums.insert(name.to_owned(), gradient.contiguous()?);
            }
        }
        Ok(())
    }

    /// Adds the sums of `other`.
    pub(crate) fn merge(&mut self, other: Self) -> Result<()> {
        other.sums.into_iter().try_for_each(|(name, sum)| self.add(&name, sum))
    }

    /// The sum for `name`, starting from zeros of the parameter's shape, to add to in place.
    pub(crate) fn sum_like(&mut self, name: &str, parameter: &Tensor) -> Result<&Tensor> {
        if !self.sums.contains_key(name) {
            self.sums.insert(name.to_owned(), parameter.zeros_like()?);
        }
        Ok(&self.sums[name])
    }

    /// Takes from a finished backward pass what belongs to `parameters`.
    pub(crate) fn collect<'a>(
        &mut self,
        store: &mut candle_core::backprop::GradStore,
        parameters: impl Iterator<Item = (&'a str, &'a Var)>,
    ) -> Result<()> {
        for (name, variable) in parameters {
            if let Some(gradient) = store.remove(variable) {
                self.add(name, gradient)?;
            }
        }
        Ok(())
    }

    /// The L2 norm over all gradients.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn norm(&self) -> Result<f64> {
        let mut total = 0.0;
        for sum in self.sums.values() {
            total += kernels::sum_of_squares(sum)?;
        }
        Ok(total.sqrt())
    }
}
