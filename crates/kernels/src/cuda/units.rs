//! Which kernels compute attention.

use super::place::capability;
use candle_core::{DType, Device, Result};
use std::sync::LazyLock;

/// The environment variable that, set to 1, lets devices that have them use [`Units::WarpGroups`], which no GPU has run yet.
const USE_WARP_GROUPS: &str = "EPITOME_WARP_GROUPS";

/// The capability of devices with warp groups' matrix instructions, which no later one has.
const WARP_GROUP_CAPABILITY: (i32, i32) = (9, 0);

/// The head sizes that the kernels on matrix units have.
const FAST_SIZES: [usize; 2] = [64, 128];

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
        static ASKED: LazyLock<bool> =
            LazyLock::new(|| std::env::var_os(USE_WARP_GROUPS).is_some_and(|value| value == "1"));
        let groups = *ASKED && Self::WarpGroups.are_of(device)?;
        Ok(if groups { Self::WarpGroups } else { Self::Matrix })
    }

    /// Whether a device has them. The emulation has all.
    ///
    /// # Errors
    /// As [`Units::of`].
    pub fn are_of(self, device: &Device) -> Result<bool> {
        Ok(self != Self::WarpGroups || capability(device)?.is_none_or(|found| found == WARP_GROUP_CAPABILITY))
    }

    /// Those of these that compute attention of such heads.
    pub(super) fn that_fit(self, dtype: DType, head_size: usize) -> Self {
        if dtype == DType::BF16 && has_fast_kernels(head_size) { self } else { Self::Plain }
    }
}

/// Whether the kernels on matrix units are made for heads of this size.
pub(super) fn has_fast_kernels(size: usize) -> bool {
    FAST_SIZES.contains(&size)
}
