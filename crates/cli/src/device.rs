//! Where and with which numbers to compute.

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use epitome_distributed::ProcessGroup;
use epitome_kernels::DeviceName;

/// `--device` and `--precision`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DeviceOptions {
    /// Where to compute: cpu, cuda or cuda:N; of several processes on a machine, cuda gives each a GPU of its own
    #[arg(long, default_value = "cpu")]
    pub(crate) device: DeviceName,
    /// Numbers to compute with
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) precision: Precision,
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

impl DeviceOptions {
    /// Refuses what this build cannot do, before anything is loaded.
    pub(crate) fn check(&self) -> Result<()> {
        let Self { device, precision } = self;
        if !device.is_supported() {
            bail!("--device {device}: this build has no GPU support; use --device cpu");
        }
        if *device != DeviceName::Cpu && *precision == Precision::Int8 {
            bail!("--precision int8 is for --device cpu; a GPU computes in f32 or bf16");
        }
        Ok(())
    }

    /// The device of this process; all of `group` must call this together.
    pub(crate) fn open(&self, group: &ProcessGroup) -> Result<epitome_kernels::Device> {
        let device = self.device.of_process(group).and_then(DeviceName::open);
        device.with_context(|| format!("--device {} cannot be used", self.device))
    }

    /// Its kind.
    pub(crate) fn device_name(&self) -> &'static str {
        match self.device {
            DeviceName::Cpu => "cpu",
            DeviceName::Cuda(_) => "cuda",
        }
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
