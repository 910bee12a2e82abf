//! What the layers' backward passes have in common.

use candle_core::Tensor;
use epitome_kernels::AffineSums;

use crate::Result;

/// Running sums of the gradients of parameters, to which backward passes add in place.
pub trait GradientSums {
    /// The sum for the parameter `name`, of its shape; zeros when it is asked for first. None for a parameter that is not
    /// trained: its gradient is not computed.
    ///
    /// # Errors
    /// When it cannot be made.
    fn sum(&mut self, name: &str, parameter: &Tensor) -> Result<Option<Tensor>>;
}

/// The sums of `{prefix}.weight` and `{prefix}.bias`.
pub(crate) fn affine_sums(
    sums: &mut dyn GradientSums,
    prefix: &str,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<AffineSums> {
    Ok(AffineSums {
        weight: sums.sum(&format!("{prefix}.weight"), weight)?,
        bias: sums.sum(&format!("{prefix}.bias"), bias)?,
    })
}

/// What a forward pass keeps of a layer for its backward pass, besides the layer's input; the rest is computed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    /// Nothing.
    Input,
    /// The outputs of attention, of its output projection and of the feed-forward layer, and what there is of global tokens: with
    /// them the backward pass runs neither attention nor the second half of the products again.
    Outputs,
    /// Everything: nothing large is computed again.
    Everything,
}
