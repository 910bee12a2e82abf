//! Where a run computes, and in which numbers.

use candle_core::{DType, Device};
use epitome_distributed::ProcessGroup;
use epitome_kernels::{DeviceName, Precision};

use crate::{Error, Result, RunConfig};

impl RunConfig {
    /// The device of this process of `group`, and the type of hidden states there.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn place(&self, group: &ProcessGroup) -> Result<(Device, DType)> {
        let (name, precision) = self.named_place().map_err(|message| Error::config("the run", message))?;
        let refused = |error| Error::config("run.device", format!("`{name}` cannot be used: {error}"));
        let device = name.of_process(group).and_then(DeviceName::open).map_err(refused)?;
        let activations = precision.activations(&device)?;
        Ok((device, activations))
    }

    /// Whether the run is made on a GPU.
    pub(crate) fn is_on_gpu(&self) -> bool {
        self.run.device != "cpu"
    }

    /// What the keys `device` and `precision` of the table `run` say, if the run can be made there.
    pub(crate) fn named_place(&self) -> std::result::Result<(DeviceName, Precision), String> {
        let (device, precision) = (&self.run.device, &self.run.precision);
        let name: DeviceName = device.parse().map_err(|message| format!("run.device is `{device}`: {message}"))?;
        if !name.is_supported() {
            return Err(format!("run.device is `{device}`; this build trains with `cpu` only"));
        }
        let precision = match (precision.as_str(), name) {
            ("f32", _) => Precision::F32,
            ("bf16", DeviceName::Cuda(_)) => Precision::Bf16,
            _ => {
                return Err(format!(
                    "run.precision is `{precision}`; training computes in `f32`, on a GPU also in `bf16`"
                ));
            }
        };
        if name != DeviceName::Cpu {
            self.refuse_on_gpu()?;
        }
        Ok((name, precision))
    }

    fn refuse_on_gpu(&self) -> std::result::Result<(), String> {
        for (wanted, what) in [
            (self.run.parallel_micro_batches > 1, "run.parallel_micro_batches above 1"),
            (self.run.memory_limit_gib.is_some(), "run.memory_limit_gib"),
        ] {
            if wanted {
                return Err(format!("{what} is for run.device `cpu` only"));
            }
        }
        Ok(())
    }
}
