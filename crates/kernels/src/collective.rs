//! [`Collective`].

#[cfg(gpu)]
use crate::cuda;
use candle_core::{Device, Result, Tensor};
use epitome_distributed::ProcessGroup;

/// Several processes that add up tensors, each with its own device: on GPUs through NCCL, on the CPU through MPI.
pub struct Collective<'a> {
    group: &'a ProcessGroup,
    #[cfg(gpu)]
    gpus: Option<cuda::Communicator>,
}

impl<'a> Collective<'a> {
    /// The processes of `group`, whose tensors lie on `device`: all of them on the CPU, or each on a GPU of its own. All
    /// processes must call this together.
    ///
    /// # Errors
    /// When there are several processes on GPUs and NCCL is missing, or cannot bring them together.
    pub fn join(group: &'a ProcessGroup, device: &Device) -> Result<Self> {
        #[cfg(not(gpu))]
        let _ = device;
        Ok(Self {
            group,
            #[cfg(gpu)]
            gpus: match group.world_size() > 1 && cuda::runs_on(device) {
                true => Some(cuda::Communicator::join(group, device)?),
                false => None,
            },
        })
    }

    /// The processes.
    pub fn group(&self) -> &'a ProcessGroup {
        self.group
    }

    /// Replaces the numbers of `tensors`, f32 and dense, by their sums over all processes; every process gets the same bits.
    /// All processes must call this together, with tensors of the same shapes in the same order. On a GPU the sums are one
    /// group of NCCL's, made in the order of the device's stream, and this does not wait for them.
    ///
    /// # Errors
    /// When a tensor is not of that kind, or NCCL fails.
    pub fn all_reduce(&self, tensors: &[&Tensor]) -> Result<()> {
        if self.group.world_size() == 1 {
            return Ok(());
        }
        #[cfg(gpu)]
        if let Some(gpus) = &self.gpus {
            return gpus.all_reduce(tensors);
        }
        tensors.iter().try_for_each(|tensor| crate::update(tensor, |values| self.group.all_reduce(values)))
    }

    /// Parts the processes. All of them must come here together, or a process waits for the others: one that has failed goes
    /// without, and what NCCL holds goes with it.
    ///
    /// # Errors
    /// When NCCL fails.
    pub fn leave(self) -> Result<()> {
        #[cfg(gpu)]
        if let Some(gpus) = self.gpus {
            return gpus.leave();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_sums_are_what_they_were() {
        let group = ProcessGroup::single();
        let collective = Collective::join(&group, &Device::Cpu).unwrap();
        let tensor = Tensor::new(&[1.5f32, -2.0], &Device::Cpu).unwrap();
        collective.all_reduce(&[&tensor]).unwrap();
        assert_eq!(tensor.to_vec1::<f32>().unwrap(), [1.5, -2.0]);
        collective.leave().unwrap();
    }
}
