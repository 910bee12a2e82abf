//! The kernels of the folder `cuda`, on a GPU or emulated, against the same references.

pub(crate) mod attention;
mod cross_entropy;
mod decoding;
mod few_rows;
mod global_attention;
mod heads;
mod optimizer;
mod rows;

use candle_core::{DType, Device, Tensor};
use epitome_kernels::DeviceName;
use half::bf16;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by the test that uses the GPU: while launches of one are recorded, nobody else may use it, whatever the thread.
static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    /// Opening one takes a while, so it is kept until the test's thread ends, and its turn with it.
    static DEVICE: (Device, Option<MutexGuard<'static, ()>>) = if cfg!(feature = "cuda") {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        (DeviceName::Cuda(None).open().unwrap(), Some(turn))
    } else {
        (Device::Cpu, None)
    };
}

/// Where the kernels run.
pub(crate) fn device() -> Device {
    DEVICE.with(|(device, _)| device.clone())
}

/// Runs operations for which tensors there are a GPU's, if only an emulated one's.
pub(crate) fn on_device<R>(body: impl FnOnce() -> R) -> R {
    #[cfg(feature = "cuda-emulation")]
    return epitome_kernels::cuda::emulated(body);
    #[cfg(not(feature = "cuda-emulation"))]
    body()
}

/// A tensor there.
pub(crate) fn place(values: &[f64], shape: &[usize], dtype: DType) -> Tensor {
    epitome_kernels::cuda::copies_between_launches();
    let singles: Vec<f32> = values.iter().map(|value| *value as f32).collect();
    // Its type is changed on the CPU: candle launches no kernel for a tensor without elements.
    Tensor::from_vec(singles, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap().to_device(&device()).unwrap()
}

/// Its numbers.
pub(crate) fn numbers_of(tensor: &Tensor) -> Vec<f64> {
    let singles = tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F32).unwrap().flatten_all().unwrap();
    singles.to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
}

/// What a type keeps of numbers.
pub(crate) fn rounded(values: &[f64], dtype: DType) -> Vec<f64> {
    let kept = |value: &f64| {
        if dtype == DType::BF16 { f64::from(bf16::from_f32(*value as f32)) } else { f64::from(*value as f32) }
    };
    values.iter().map(kept).collect()
}

/// Fails unless the root mean square of the errors is within `tolerance` times that of what is wanted, and every error
/// within twice that of the largest wanted number (at least 1).
#[track_caller]
pub(crate) fn close(what: &str, found: &Tensor, wanted: &[f64], tolerance: f64) {
    let found = numbers_of(found);
    assert_eq!(found.len(), wanted.len(), "{what}: number of elements");
    let most = wanted.iter().fold(1.0f64, |most, value| most.max(value.abs()));
    let (mut errors, mut squares) = (0.0, 0.0);
    for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let error = found - wanted;
        assert!(error.abs() <= 2.0 * tolerance * most, "{what}: element {i} is {found}, not {wanted}");
        errors += error * error;
        squares += wanted * wanted;
    }
    let ratio: f64 = f64::sqrt(errors / squares);
    assert!(squares == 0.0 || ratio <= tolerance, "{what}: the errors are {ratio} of the numbers");
}
