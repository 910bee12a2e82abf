//! Which kernels compute attention.

use super::place::{capability, shared_memory};
use candle_core::{DType, Device, Result};
use std::sync::LazyLock;

/// The environment variable that, set to 0, keeps devices that have them from using [`Units::WarpGroups`].
const USE_WARP_GROUPS: &str = "EPITOME_WARP_GROUPS";

/// The capability of devices with warp groups' matrix instructions, which no later one has.
const WARP_GROUP_CAPABILITY: (i32, i32) = (9, 0);

/// Bytes of shared memory that blocks for heads of 128 take at most; processors of capability 8.6, 8.9 and 12 have fewer.
const SHARED_FOR_128: usize = 135_168;

/// Which kernels compute attention. Those on matrix units are for bf16 and a head size of 64 or 128; the others compute the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// Those on the matrix units of capability 9.0, which multiply by warp groups.
    WarpGroups,
    /// Those on the matrix units of any device.
    Matrix,
    /// Those without, for any head size.
    Plain,
}

impl Units {
    /// What the product uses.
    ///
    /// # Errors
    /// When the device's capability cannot be asked for.
    pub fn of(device: &Device) -> Result<Self> {
        static ALLOWED: LazyLock<bool> =
            LazyLock::new(|| std::env::var_os(USE_WARP_GROUPS).is_none_or(|value| value != "0"));
        let groups = *ALLOWED && Self::WarpGroups.are_of(device)?;
        Ok(if groups { Self::WarpGroups } else { Self::Matrix })
    }

    /// Whether a device has them. The emulation has all.
    ///
    /// # Errors
    /// As [`Units::of`].
    pub fn are_of(self, device: &Device) -> Result<bool> {
        Ok(self != Self::WarpGroups || capability(device)?.is_none_or(|found| found == WARP_GROUP_CAPABILITY))
    }

    /// Those of these that compute attention of such heads on a device.
    ///
    /// # Errors
    /// When the device cannot be asked for its memory.
    pub(super) fn that_fit(self, device: &Device, dtype: DType, head_size: usize) -> Result<Self> {
        Ok(if has_fast_kernels(device, dtype, head_size)? { self } else { Self::Plain })
    }
}

/// Whether a device has kernels on matrix units for heads of this type and size.
///
/// # Errors
/// When it cannot be asked for its memory.
pub(super) fn has_fast_kernels(device: &Device, dtype: DType, head_size: usize) -> Result<bool> {
    match (dtype, head_size) {
        (DType::BF16, 64) => Ok(true),
        (DType::BF16, 128) => Ok(shared_memory(device)?.is_none_or(|bytes| bytes >= SHARED_FOR_128)),
        _ => Ok(false),
    }
}
