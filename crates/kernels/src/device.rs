//! [`DeviceName`].

use candle_core::{Device, Result};
use std::fmt;
use std::str::FromStr;

/// Where to compute, named as in PyTorch: `cpu`, `cuda` or `cuda:1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The host.
    Cpu,
    /// The NVIDIA GPU with this number.
    Cuda(usize),
}

impl DeviceName {
    /// Whether this build computes there.
    pub fn is_supported(self) -> bool {
        self == Self::Cpu || cfg!(feature = "cuda")
    }

    /// The device, which one thread at a time may use: its work is done in one order.
    ///
    /// # Errors
    /// When this build does not compute there, or there is no such GPU.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => crate::cuda::open(index),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => candle_core::bail!("this build has no GPU support"),
        }
    }
}

/// Bytes of memory that a GPU has; none for the CPU.
pub fn gpu_memory(device: &Device) -> Option<usize> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => crate::cuda::memory(device).ok(),
        _ => None,
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) => {
                index.parse().map(Self::Cuda).map_err(|_| format!("`{index}` is not the number of a GPU"))
            }
            _ => Err("expected cpu, cuda or cuda:N".into()),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceName;

    #[test]
    fn devices_are_named_as_in_pytorch() {
        assert_eq!("cpu".parse(), Ok(DeviceName::Cpu));
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(DeviceName::Cuda(3)));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cpu:0", "CUDA"] {
            assert!(wrong.parse::<DeviceName>().is_err(), "{wrong}");
        }
        assert_eq!(DeviceName::Cuda(2).to_string(), "cuda:2");
    }
}
