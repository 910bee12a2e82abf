//! [`DeviceName`].

use candle_core::{Device, Result, bail};
use epitome_distributed::ProcessGroup;
use std::fmt;
use std::str::FromStr;

/// Where to compute, named as in PyTorch: `cpu`, `cuda` or `cuda:1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The host.
    Cpu,
    /// The NVIDIA GPU with this number. Without one it is the first, or of several processes on a machine each has its own.
    Cuda(Option<usize>),
}

impl DeviceName {
    /// Whether this build computes there.
    pub fn is_supported(self) -> bool {
        #[cfg(feature = "cuda-emulation")]
        if crate::cuda::runs_on(&Device::Cpu) {
            return true;
        }
        self == Self::Cpu || cfg!(feature = "cuda")
    }

    /// The device of this process of a group: `cuda` is the GPU with the process's number on its machine. All processes must
    /// call this together.
    ///
    /// # Errors
    /// In the first process, when one GPU is named for several processes, or a machine has fewer GPUs than processes. The
    /// others wait until it has ended them.
    pub fn of_process(self, group: &ProcessGroup) -> Result<Self> {
        if group.world_size() == 1 || self == Self::Cpu {
            return Ok(self);
        }
        let own = self.own_gpu(group);
        let problem = own.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let all = group.gather(problem.as_bytes()).unwrap_or_default();
        if let Some(problem) = all.iter().find(|problem| !problem.is_empty()) {
            bail!("{}", String::from_utf8_lossy(problem));
        }
        group.barrier();
        own
    }

    fn own_gpu(self, group: &ProcessGroup) -> Result<Self> {
        let (rank, processes) = (group.rank(), group.on_this_machine());
        match self {
            Self::Cuda(Some(_)) if processes == 1 => return Ok(self),
            Self::Cuda(Some(_)) => {
                bail!("it is one GPU for {processes} processes; `cuda` gives each process a GPU of its own")
            }
            _ => {}
        }
        let (gpus, own) = (gpu_count()?, group.rank_on_this_machine());
        if gpus < processes {
            bail!(
                "process {rank} sees {gpus} GPU(s), and its machine has {processes} processes: each needs a GPU of its own, \
                 and to see all of them"
            );
        }
        Ok(Self::Cuda(Some(own)))
    }

    /// The device, which one thread at a time may use: its work is done in one order.
    ///
    /// # Errors
    /// When this build does not compute there, or there is no such GPU.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            #[cfg(gpu)]
            Self::Cuda(index) => crate::cuda::open(index.unwrap_or_default()),
            #[cfg(not(gpu))]
            Self::Cuda(_) => bail!("this build has no GPU support"),
        }
    }
}

/// Whether operations on the device's tensors are a GPU's.
pub fn is_gpu(device: &Device) -> bool {
    #[cfg(gpu)]
    return crate::cuda::runs_on(device);
    #[cfg(not(gpu))]
    device.is_cuda()
}

/// What CUDA calls having no memory left.
pub(crate) const GPU_IS_FULL: &str = "CUDA_ERROR_OUT_OF_MEMORY";

/// Whether something failed because a GPU has no memory left.
pub fn is_gpu_full(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.to_string().contains(GPU_IS_FULL))
}

/// Bytes of memory that a GPU has; none for the CPU.
pub fn gpu_memory(device: &Device) -> Option<usize> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => crate::cuda::memory(device).ok(),
        _ => None,
    }
}

fn gpu_count() -> Result<usize> {
    #[cfg(gpu)]
    return crate::cuda::gpu_count();
    #[cfg(not(gpu))]
    bail!("this build has no GPU support")
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(None)),
            Some(("cuda", index)) => index
                .parse()
                .map(|index| Self::Cuda(Some(index)))
                .map_err(|_| format!("`{index}` is not the number of a GPU")),
            _ => Err("expected cpu, cuda or cuda:N".into()),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(None) => f.write_str("cuda"),
            Self::Cuda(Some(index)) => write!(f, "cuda:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceName;

    #[test]
    fn devices_are_named_as_in_pytorch() {
        assert_eq!("cpu".parse(), Ok(DeviceName::Cpu));
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(None)));
        assert_eq!("cuda:3".parse(), Ok(DeviceName::Cuda(Some(3))));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cpu:0", "CUDA"] {
            assert!(wrong.parse::<DeviceName>().is_err(), "{wrong}");
        }
        assert_eq!(DeviceName::Cuda(Some(2)).to_string(), "cuda:2");
        assert_eq!(DeviceName::Cuda(None).to_string(), "cuda");
    }
}
