//! Sums over the GPUs of several processes by NCCL (NVIDIA Collective Communications Library), which is loaded when several
//! processes ask for it. Emulated, its functions are those of `emulated`.

#[cfg(feature = "cuda-emulation")]
mod emulated;
mod library;

use super::place::{address_mut, stream};
use candle_core::{DType, Device, Result, Tensor, bail};
use epitome_distributed::ProcessGroup;
use library::{Handle, Library, UniqueId};
use std::ffi::c_void;

/// The processes of a group, each with a GPU of its own. What it holds is given back by [`Communicator::leave`] or with the
/// process: NCCL's own end waits for the other processes, for which one that has failed must not.
pub(crate) struct Communicator {
    library: Library,
    handle: Handle,
}

impl Communicator {
    /// Brings together the processes of `group`, of which this one computes on `device`.
    pub(crate) fn join(group: &ProcessGroup, device: &Device) -> Result<Self> {
        // NCCL takes the device whose context is this thread's.
        stream(device)?;
        // The first process looks for the library alone, so that one error says that it is missing.
        let mut id = match group.is_root() {
            true => open(group)?.unique_id()?.to_vec(),
            false => Vec::new(),
        };
        group.broadcast(&mut id);
        let Ok(id) = UniqueId::try_from(id) else { bail!("the first process sent no id of NCCL's") };
        let library = open(group)?;
        let handle = library.join(id, group.rank(), group.world_size())?;
        Ok(Self { library, handle })
    }

    /// Replaces the numbers of `tensors` on this process's GPU by their sums over all processes.
    pub(crate) fn all_reduce(&self, tensors: &[&Tensor]) -> Result<()> {
        let Some(device) = tensors.first().map(|tensor| tensor.device()) else { return Ok(()) };
        let stream = stream(device)?;
        let tensors = tensors.iter().filter(|tensor| tensor.elem_count() > 0);
        let buffers = tensors.map(|tensor| numbers(tensor)).collect::<Result<Vec<_>>>()?;
        // SAFETY: the buffers are memory of the device in the order of its stream, whose context is this thread's.
        unsafe { self.library.sum(self.handle, &buffers, stream) }
    }

    /// Ends the communication once all processes come here.
    pub(crate) fn leave(self) -> Result<()> {
        self.library.leave(self.handle)
    }
}

fn open(group: &ProcessGroup) -> Result<Library> {
    #[cfg(feature = "cuda-emulation")]
    if super::runs_on(&Device::Cpu) {
        return Ok(emulated::library(group));
    }
    let _ = group;
    Library::load(library::NAME)
}

/// Where the numbers of a tensor lie, and how many they are.
fn numbers(tensor: &Tensor) -> Result<(*mut c_void, usize)> {
    match tensor.dtype() {
        DType::F32 => Ok((address_mut(tensor)?, tensor.elem_count())),
        other => bail!("all_reduce: a tensor of shape {:?} is {other:?}, not f32", tensor.dims()),
    }
}

#[cfg(all(test, feature = "cuda-emulation"))]
mod tests {
    use super::*;
    use crate::cuda::emulated;

    #[test]
    fn a_missing_library_is_named() {
        let error = Library::load("libnccl-that-is-nowhere.so").err().unwrap().to_string();
        assert!(error.contains("need NCCL") && error.contains("libnccl-that-is-nowhere.so"), "{error}");
        let error = Library::load("libc.so.6").err().unwrap().to_string();
        assert!(error.contains("ncclGetUniqueId"), "{error}");
    }

    #[test]
    fn a_group_of_one_keeps_its_numbers() {
        emulated(|| {
            let group = ProcessGroup::single();
            let communicator = Communicator::join(&group, &Device::Cpu).unwrap();
            let (one, none) = (Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap(), Tensor::new(&[0f32; 0], &Device::Cpu));
            communicator.all_reduce(&[&one, &none.unwrap()]).unwrap();
            assert_eq!(one.to_vec1::<f32>().unwrap(), [1.0, 2.0]);
            let wrong = Tensor::new(&[1u32], &Device::Cpu).unwrap();
            let error = communicator.all_reduce(&[&one, &wrong]).unwrap_err().to_string();
            assert!(error.contains("U32, not f32"), "{error}");
            communicator.leave().unwrap();
        });
    }

    #[test]
    fn a_group_is_closed_after_an_error_in_it() {
        emulated(|| {
            let processes = ProcessGroup::single();
            let library = open(&processes).unwrap();
            let handle = library.join(library.unique_id().unwrap(), 0, 1).unwrap();
            let mut value = 1f32;
            let buffers = [((&raw mut value).cast(), 1), (std::ptr::null_mut(), 1)];
            for _ in 0..2 {
                // SAFETY: the emulation refuses the null pointer.
                let error = unsafe { library.sum(handle, &buffers, std::ptr::null_mut()) }.unwrap_err().to_string();
                assert!(error.starts_with("ncclAllReduce: invalid argument"), "{error}");
            }
            library.leave(handle).unwrap();
        });
    }
}
