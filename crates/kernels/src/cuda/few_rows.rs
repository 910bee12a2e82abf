//! Layers of few rows, as decoding has them, by the kernel of `cuda/decoding/few_rows.cu`, and their logits by that of
//! `cuda/decoding/head.cu`.

use super::place::{address, address_mut, dense, room, shared_memory, stream};
use super::product::aligned;
use super::{check, ffi};
use crate::ops::layer_norm::{Norm, ResidualSum};
use candle_core::{DType, Result, Tensor, bail};
use std::ffi::c_int;
use std::ptr::{null, null_mut};

/// The most rows.
const MOST_ROWS: usize = 16;

/// Warps of a block at most: `MOST_WARPS` of `few_rows_norm.cuh`.
const MOST_WARPS: usize = 16;
const MOST_WARPS_WITH_NORM: usize = 8;

/// Outputs of a product of the matrix unit, of which a block has one, three or four.
const OUTPUTS: usize = 8;

/// Numbers of a row that a warp of the kernel for logits takes at once: `GROUP` times `STEP` of `head.cu`.
const HEAD_GROUP: usize = 256;

/// The widest rows of which there are logits.
const MOST_WIDTH: usize = 4096;

/// Numbers of a row in a step of a warp.
const STEP: usize = 32;

/// The steps of a warp for which there are kernels.
const STEPS: [usize; 5] = [1, 2, 4, 6, 8];

/// A weight `[out, in]` in bf16, its bias `[out]` in f32 if there is one, and what follows.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a> {
    pub(super) weight: &'a Tensor,
    pub(super) bias: Option<&'a Tensor>,
    pub(super) gelu: bool,
}

/// Steps of a warp, few, so that there are many warps, of which there may be `most`.
fn steps(width: usize, most: usize) -> Option<usize> {
    let within = |warps: usize| {
        STEPS.into_iter().find(|steps| width.is_multiple_of(STEP * steps) && width / (STEP * steps) <= warps)
    };
    let found = within(MOST_WARPS_WITH_NORM).or_else(|| within(most));
    found.filter(|_| width > 0)
}

/// Whether all begin at multiples of 16 bytes.
fn is_aligned(tensors: &[&Tensor]) -> Result<bool> {
    for tensor in tensors {
        if !address(tensor)?.addr().is_multiple_of(16) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Layer<'_> {
    /// The product of rows `[R, in]`, `[R, out]`; none where there is no kernel for the sizes.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(steps) = self.steps(x, MOST_WARPS)? else { return Ok(None) };
        let x = dense("few_rows", x, &[DType::BF16])?;
        if !is_aligned(&[&x, self.weight])? {
            return Ok(None);
        }
        let y = room((x.dim(0)?, self.weight.dim(0)?), DType::BF16, x.device())?;
        self.launch(&x, steps, None, &y)?;
        Ok(Some(y))
    }

    /// The layer norm of a sum without dropout `[R, in]`, and its product.
    pub(super) fn after_norm(&self, sum: ResidualSum<'_>, norm: Norm<'_>) -> Result<Option<[Tensor; 2]>> {
        let Some(steps) = self.steps(sum.x, MOST_WARPS_WITH_NORM)? else { return Ok(None) };
        let [x, residual] = [sum.x, sum.residual].map(|tensor| dense("few_rows", tensor, &[DType::BF16]));
        let (x, residual, device) = (x?, residual?, sum.x.device());
        if !is_aligned(&[&x, &residual, self.weight, norm.weight, norm.bias])? {
            return Ok(None);
        }
        let normalised = room(x.shape(), DType::BF16, device)?;
        let y = room((x.dim(0)?, self.weight.dim(0)?), DType::BF16, device)?;
        self.launch(&x, steps, Some((&residual, norm, &normalised)), &y)?;
        Ok(Some([normalised, y]))
    }

    /// The product of rows `[R, in]` in f32, without GELU, in rows that begin at multiples of 16 bytes, `[R, out or a little more]`; none
    /// where there is no kernel for the sizes.
    pub(super) fn logits(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let (op, (rows, width), outputs, device) = ("head", x.dims2()?, self.weight.dim(0)?, x.device());
        if !self.are_few(x)? || self.gelu || !(1..=MOST_WIDTH).contains(&width) || !width.is_multiple_of(STEP) {
            return Ok(None);
        }
        let x = dense(op, x, &[DType::BF16])?;
        let bias = self.bias.map(|bias| dense(op, bias, &[DType::F32])).transpose()?;
        let shared_bytes = rows.next_multiple_of(MOST_ROWS / 2) * width.next_multiple_of(HEAD_GROUP) * 2;
        let fits = shared_memory(device)?.is_none_or(|most| shared_bytes <= most);
        if !fits || !is_aligned(&[&x, self.weight])? {
            return Ok(None);
        }
        let logits = room((rows, aligned(outputs)), DType::F32, device)?;
        // SAFETY: the tensors have the shapes that rows, width, outputs and the stride say.
        check(op, unsafe {
            ffi::epitome_head_bf16(
                address(&x)?,
                rows as c_int,
                width as c_int,
                address(self.weight)?,
                bias.as_ref().map_or(Ok(null()), address)?.cast(),
                outputs as c_int,
                address_mut(&logits)?.cast(),
                aligned(outputs) as i64,
                stream(device)?,
            )
        })?;
        Ok(Some(logits))
    }

    /// How many steps each of up to `most` warps takes, if there is a kernel for these rows.
    fn steps(&self, x: &Tensor, most: usize) -> Result<Option<usize>> {
        let fits = self.are_few(x)? && self.weight.dim(0)?.is_multiple_of(OUTPUTS);
        Ok(if fits { steps(x.dim(1)?, most) } else { None })
    }

    /// Whether there are kernels for so many rows, in the types and as the parameters lie.
    fn are_few(&self, x: &Tensor) -> Result<bool> {
        let ((rows, width), (_, inputs)) = (x.dims2()?, self.weight.dims2()?);
        if width != inputs {
            bail!("linear: x {:?} does not fit weight {:?}", x.dims(), self.weight.dims());
        }
        let is_bf16 = x.dtype() == DType::BF16 && self.weight.dtype() == DType::BF16;
        // A copy that was made just now could be read before it is there: see `launch_early`.
        let lie_ready = self.weight.is_contiguous() && self.bias.is_none_or(Tensor::is_contiguous);
        Ok(is_bf16 && lie_ready && (1..=MOST_ROWS).contains(&rows))
    }

    fn launch(&self, x: &Tensor, steps: usize, norm: Option<(&Tensor, Norm<'_>, &Tensor)>, y: &Tensor) -> Result<()> {
        let op = "few_rows";
        let ((rows, width), outputs, device) = (x.dims2()?, self.weight.dim(0)?, x.device());
        let weight = dense(op, self.weight, &[DType::BF16])?;
        let single = |tensor: &Tensor| dense(op, tensor, &[DType::F32]);
        let bias = self.bias.map(single).transpose()?;
        let norm = match norm {
            Some((residual, norm, y)) => Some((residual, [single(norm.weight)?, single(norm.bias)?], norm.eps, y)),
            None => None,
        };
        let (residual, norm_weight, norm_bias, eps, normalised) = match &norm {
            Some((residual, [weight, bias], eps, y)) => {
                (address(residual)?, address(weight)?.cast(), address(bias)?.cast(), *eps as f32, address_mut(y)?)
            }
            None => (null(), null(), null(), 0.0, null_mut()),
        };
        let bias = match &bias {
            Some(bias) => address(bias)?.cast(),
            None => null(),
        };
        // SAFETY: the tensors have the shapes that rows, width and outputs say.
        check(op, unsafe {
            ffi::epitome_few_rows_bf16(
                address(x)?,
                rows as c_int,
                width as c_int,
                steps as c_int,
                residual,
                norm_weight,
                norm_bias,
                eps,
                normalised,
                address(&weight)?,
                bias,
                self.gelu.into(),
                outputs as c_int,
                address_mut(y)?,
                stream(device)?,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_many_sizes_have_kernels() {
        for (width, with_norm, without) in [
            (768, Some(4), Some(4)),
            (1024, Some(4), Some(4)),
            (1536, Some(6), Some(6)),
            (2048, Some(8), Some(8)),
            (3072, None, Some(6)),
            (4096, None, Some(8)),
            (192, Some(1), Some(1)),
            (256, Some(1), Some(1)),
            (5120, None, None),
            (40, None, None),
            (0, None, None),
        ] {
            let found = [MOST_WARPS_WITH_NORM, MOST_WARPS].map(|most| steps(width, most));
            assert_eq!(found, [with_norm, without], "{width}");
        }
    }

    #[cfg(feature = "cuda-emulation")]
    #[test]
    fn few_rows_take_the_kernel_and_others_do_not() {
        use crate::cuda::emulated;
        use candle_core::Device;
        let of = |rows: usize, inputs: usize, width: usize| {
            let weight = Tensor::zeros((64, inputs), DType::BF16, &Device::Cpu).unwrap();
            let x = Tensor::zeros((rows, width), DType::BF16, &Device::Cpu).unwrap();
            emulated(|| Layer { weight: &weight, bias: None, gelu: false }.forward(&x).map(|y| y.is_some()))
        };
        assert!(of(1, 96, 96).unwrap() && of(16, 768, 768).unwrap());
        assert!(!of(17, 96, 96).unwrap() && !of(3, 40, 40).unwrap());
        let message = of(4, 64, 128).unwrap_err().to_string();
        assert!(message.contains("[4, 128]") && message.contains("[64, 64]"), "{message}");
    }
}
