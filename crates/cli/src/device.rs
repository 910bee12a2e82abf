//! Where and with which numbers to compute.

use std::str::FromStr;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

/// `--device` and `--precision`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DeviceOptions {
    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Device,
    /// Numbers to compute with
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) precision: Precision,
}

/// A device as the user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// The host.
    Cpu,
    /// An NVIDIA GPU.
    Cuda(usize),
}

/// Numbers as the user names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// 32-bit floats.
    F32,
    /// 16-bit brain floats.
    Bf16,
    /// 8-bit integers.
    Int8,
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
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

impl DeviceOptions {
    /// Refuses what this build cannot do, before anything is loaded.
    pub(crate) fn check(&self) -> Result<()> {
        if let Device::Cuda(index) = self.device {
            bail!("--device cuda:{index}: this build has no GPU support; use --device cpu");
        }
        Ok(())
    }

    /// What the weights of linear layers are kept in.
    pub(crate) fn precision(&self) -> epitome_kernels::Precision {
        self.precision.of_kernels()
    }

    /// As the user says it.
    pub(crate) fn name(&self) -> &'static str {
        self.precision.name()
    }
}

impl Precision {
    pub(crate) fn of_kernels(self) -> epitome_kernels::Precision {
        match self {
            Self::F32 => epitome_kernels::Precision::F32,
            Self::Bf16 => epitome_kernels::Precision::Bf16,
            Self::Int8 => epitome_kernels::Precision::Int8,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Device;

    #[test]
    fn devices_are_named_as_in_pytorch() {
        assert_eq!("cpu".parse(), Ok(Device::Cpu));
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(Device::Cuda(3)));
        for wrong in ["gpu", "cuda:x", "cpu:0", ""] {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
    }
}
