//! Gradients accumulated over micro-batches.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Tensor};
use epitome_kernels as kernels;

use crate::Result;

/// Sums of gradients by parameter name. A parameter that took part in no batch has none, as the projections of global tokens
/// where there are no such tokens: the optimizer then leaves it alone, as PyTorch does.
#[derive(Debug, Default)]
pub struct Gradients {
    sums: BTreeMap<String, Tensor>,
    /// Zeros for sums that nobody has asked for yet.
    reserved: HashMap<String, Tensor>,
}

/// Numbers between which sums begin that lie in one piece of memory: 256 bytes.
const ALIGNED: usize = 64;

impl Gradients {
    /// The gradient of parameter `name`, if it has one.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.sums.get(name)
    }

    /// Names and gradients in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.sums.iter().map(|(name, sum)| (name.as_str(), sum))
    }

    /// On a GPU, which would do so for each of many: makes zeros for the sums of all these parameters at once.
    pub(crate) fn reserve<'p>(&mut self, parameters: impl Iterator<Item = (&'p str, &'p Tensor)>) -> Result<()> {
        let is_new = |name: &str| !self.sums.contains_key(name) && !self.reserved.contains_key(name);
        let new: Vec<_> = parameters.filter(|(name, _)| is_new(name)).collect();
        let Some(device) =
            new.first().map(|(_, parameter)| parameter.device()).filter(|device| kernels::is_gpu(device))
        else {
            return Ok(());
        };
        let aligned = |parameter: &Tensor| parameter.elem_count().next_multiple_of(ALIGNED);
        let all =
            Tensor::zeros(new.iter().map(|(_, parameter)| aligned(parameter)).sum::<usize>(), DType::F32, device)?;
        let mut first = 0;
        for (name, parameter) in new {
            let sum = all.narrow(0, first, parameter.elem_count())?.reshape(parameter.shape())?;
            self.reserved.insert(name.to_owned(), sum);
            first += aligned(parameter);
        }
        Ok(())
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
        let zeros = self.reserved.remove(name).map_or_else(|| parameter.zeros_like(), Ok)?;
        self.sums.insert(name.to_owned(), zeros.clone());
        Ok(zeros)
    }
}
