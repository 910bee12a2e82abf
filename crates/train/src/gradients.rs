//! Gradients accumulated over micro-batches.

use std::collections::BTreeMap;

use candle_core::Tensor;
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

    /// Adds the sums of `other`.
    pub(crate) fn merge(&mut self, other: Self) -> Result<()> {
        for (name, gradient) in other.sums {
            match self.sums.get(&name) {
                Some(sum) => kernels::add_assign(sum, &gradient)?,
                None => {
                    self.sums.insert(name, gradient);
                }
            }
        }
        Ok(())
    }

    /// The L2 norm over all gradients.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn norm(&self) -> Result<f64> {
        let sums: Vec<&Tensor> = self.sums.values().collect();
        Ok(kernels::sum_of_squares(&sums)?.sqrt())
    }

    /// The running sum for parameter `name`, of its shape; zeros when it is asked for first.
    ///
    /// # Errors
    /// When it cannot be allocated.
    pub fn sum(&mut self, name: &str, parameter: &Tensor) -> epitome_model::Result<Tensor> {
        if let Some(sum) = self.sums.get(name) {
            return Ok(sum.clone());
        }
        let zeros = parameter.zeros_like()?;
        self.sums.insert(name.to_owned(), zeros.clone());
        Ok(zeros)
    }
}
