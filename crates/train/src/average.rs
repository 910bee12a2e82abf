//! An exponential moving average of the weights (Polyak and Juditsky, 1992, with weights that decay).

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;
use epitome_kernels as kernels;
use epitome_model::{Config, Parameters};

use crate::checkpoint::AVERAGE;
use crate::tensors::{load_tensors, save_tensors};
use crate::{OptimConfig, Result, Trainable};

/// The average of the trained parameters, and the network over it, which shares the frozen ones with the run's.
#[derive(Debug)]
pub(crate) struct Average {
    decay: f64,
    warmup: bool,
    trained: HashMap<String, Tensor>,
    trainable: Trainable,
}

impl Average {
    /// The average that `config` asks for: that of `checkpoint`, else of the weights at the start.
    pub(crate) fn new(
        config: &OptimConfig,
        (model, trainable): (&Config, &Trainable),
        is_trained: impl Fn(&str) -> bool,
        checkpoint: Option<&Path>,
    ) -> Result<Option<Self>> {
        let Some(decay) = config.ema_decay else { return Ok(None) };
        let parameters = trainable.parameters();
        let trained: HashMap<String, Tensor> = match checkpoint {
            Some(checkpoint) => {
                let device = trainable.led().shared().device();
                let moved = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_device(device)?));
                load_tensors(&checkpoint.join(AVERAGE))?.into_iter().map(moved).collect::<Result<_>>()?
            }
            None => {
                let copy = |(name, parameter): (&str, &Tensor)| Ok((name.to_owned(), parameter.copy()?));
                parameters.iter().filter(|(name, _)| is_trained(name)).map(copy).collect::<Result<_>>()?
            }
        };
        let trainable = Trainable::computing_in(model, parameters.with(&trained), trainable.activations())?;
        Ok(Some(Self { decay, warmup: config.ema_warmup, trained, trainable }))
    }

    /// Takes in the weights after update `step`, counted from 1.
    pub(crate) fn update(&self, parameters: &Parameters, step: usize) -> Result<()> {
        for (name, parameter) in parameters.iter() {
            if let Some(average) = self.trained.get(name) {
                kernels::lerp_assign(average, parameter, 1.0 - decay(self.decay, self.warmup, step))?;
            }
        }
        Ok(())
    }

    /// The averaged weights and the network over them, which nobody looks at between updates but here.
    pub(crate) fn trainable(&self) -> Result<&Trainable> {
        self.trainable.parameters().changed()?;
        Ok(&self.trainable)
    }

    /// Writes the averages of the trained parameters.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        save_tensors(path, &self.trained)
    }
}

fn decay(decay: f64, warmup: bool, step: usize) -> f64 {
    if warmup { decay.min((1 + step) as f64 / (10 + step) as f64) } else { decay }
}

#[cfg(test)]
mod tests {
    use super::decay;

    #[test]
    fn the_warm_up_ends_at_the_decay() {
        assert_eq!(decay(0.9, false, 1), 0.9);
        assert_eq!(decay(0.9, true, 1), 2.0 / 11.0);
        assert_eq!(decay(0.9, true, 1000), 0.9);
    }
}
