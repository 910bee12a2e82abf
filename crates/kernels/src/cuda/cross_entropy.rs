//! Cross-entropy of logits by the kernel of `cuda/training/`.

use super::place::{self, address, address_mut, dense, room, stream};
use super::{check, ffi};
use crate::cpu::cross_entropy::RowLoss;
use candle_core::{DType, Device, Result, Tensor, bail};
use std::ffi::c_int;
use std::ptr::{null, null_mut};

/// What rows of logits are compared with.
#[derive(Clone, Copy)]
pub struct RowTargets<'a> {
    /// A token for each row; below 0 there is none.
    pub labels: &'a [i32],
    /// For each row the tokens that it is chosen from, ascending, its label among them; an empty list is the whole vocabulary.
    pub choices: &'a [&'a [u32]],
    /// For each row what its gradient is multiplied by; an empty list is 1 for all.
    pub weights: &'a [f32],
}

/// The losses of rows of logits, each `[rows]` in f32.
#[derive(Debug)]
pub struct RowLosses {
    /// -log p(target); 0 without one.
    pub nll: Tensor,
    /// Mean over what the target is chosen from of -log p.
    pub uniform: Tensor,
}

impl RowLosses {
    /// Their numbers, for which the GPU is waited for.
    pub(crate) fn read(&self) -> Result<Vec<RowLoss>> {
        let both = self.nll.to_vec1::<f32>()?.into_iter().zip(self.uniform.to_vec1::<f32>()?);
        Ok(both.map(|(nll, uniform)| RowLoss::new(f64::from(nll), f64::from(uniform))).collect())
    }
}

/// How a row's loss becomes the gradient of its logits.
#[derive(Clone, Copy)]
pub struct LossGradient {
    /// What the loss is multiplied by.
    pub scale: f32,
    /// Label smoothing.
    pub smoothing: f32,
}

impl RowTargets<'_> {
    fn check(&self, rows: usize, vocabulary: usize) -> Result<()> {
        let op = "cross_entropy";
        let RowTargets { labels, choices, weights } = self;
        if labels.len() != rows || choices.len() != rows {
            bail!("{op}: {} targets and {} lists of choices for {rows} rows", labels.len(), choices.len());
        }
        if ![0, rows].contains(&weights.len()) {
            bail!("{op}: {} weights for {rows} rows", weights.len());
        }
        if let Some(target) = labels.iter().find(|target| **target >= vocabulary as i32) {
            bail!("{op}: target {target} is not in a vocabulary of {vocabulary}");
        }
        if let Some(token) = choices.iter().copied().flatten().find(|token| **token as usize >= vocabulary) {
            bail!("{op}: the choice {token} is not in a vocabulary of {vocabulary}");
        }
        let is_choice = |(label, choices): (&i32, &&[u32])| {
            *label < 0 || choices.is_empty() || choices.binary_search(&(*label as u32)).is_ok()
        };
        let ascend = |choices: &&[u32]| choices.is_sorted_by(|one, next| one < next);
        if !choices.iter().all(ascend) || !labels.iter().zip(*choices).all(is_choice) {
            bail!("{op}: choices do not ascend, or a target is not among them");
        }
        Ok(())
    }

    /// Labels, where each row's choices begin and the last one's end, weights, and all choices, as one array.
    fn words(&self, device: &Device) -> Result<Tensor> {
        let ends = self.choices.iter().scan(0, |end, choices| {
            *end += choices.len() as i32;
            Some(*end)
        });
        let tokens = self.choices.iter().copied().flatten().map(|token| *token as i32);
        let weights = self.weights.iter().map(|weight| weight.to_bits() as i32);
        let words: Vec<i32> = self.labels.iter().copied().chain([0]).chain(ends).chain(weights).chain(tokens).collect();
        place::words(&words, device)
    }
}

/// Cross-entropy of logits `[rows, stride]`, of which the first `vocabulary` of each row count. The gradient, if it is asked for, is
/// written to a tensor like the logits, of their type or bf16, which may be they; behind the vocabulary it is 0.
///
/// # Errors
/// When shapes or types do not fit, a target or a choice is not below `vocabulary`, choices are not as [`RowTargets`] says, or a
/// launch fails.
pub fn cross_entropy(
    logits: &Tensor,
    vocabulary: usize,
    bias: Option<&Tensor>,
    targets: RowTargets<'_>,
    gradient: Option<(LossGradient, &Tensor)>,
) -> Result<RowLosses> {
    let op = "cross_entropy";
    let ((rows, stride), device) = (logits.dims2()?, logits.device());
    let fits = vocabulary <= stride && vocabulary > 0;
    if !fits || bias.is_some_and(|bias| bias.dims() != [vocabulary]) {
        bail!("{op}: logits {:?} or the bias do not fit a vocabulary of {vocabulary}", logits.dims());
    }
    targets.check(rows, vocabulary)?;
    let launch = launcher(op, logits, gradient.map(|(_, to)| to))?;
    let bias = bias.map(|bias| dense(op, bias, &[DType::F32])).transpose()?;
    let (nll, uniform) = (room(rows, DType::F32, device)?, room(rows, DType::F32, device)?);
    let words = targets.words(device)?;
    let labels = address(&words)?.cast::<c_int>();
    let weights = labels.wrapping_add(2 * rows + 1);
    let LossGradient { scale, smoothing } =
        gradient.map_or(LossGradient { scale: 0.0, smoothing: 0.0 }, |(how, _)| how);
    // SAFETY: the tensors have the shapes that rows, stride and vocabulary say, and the words are as `RowTargets` orders them.
    check(op, unsafe {
        launch(
            address(logits)?,
            gradient.map_or(Ok(null_mut()), |(_, to)| address_mut(to))?,
            bias.as_ref().map_or(Ok(null()), address)?.cast(),
            labels,
            labels.wrapping_add(rows),
            weights.wrapping_add(targets.weights.len()),
            if targets.weights.is_empty() { null() } else { weights.cast() },
            rows as i64,
            stride as i64,
            vocabulary as c_int,
            smoothing,
            scale,
            address_mut(&nll)?.cast(),
            address_mut(&uniform)?.cast(),
            stream(device)?,
        )
    })?;
    Ok(RowLosses { nll, uniform })
}

/// The launcher for logits and a gradient of these types.
fn launcher(op: &str, logits: &Tensor, gradient: Option<&Tensor>) -> Result<ffi::CrossEntropy> {
    if let Some(to) = gradient.filter(|to| to.dims() != logits.dims()) {
        bail!("{op}: a gradient {:?} of logits {:?}", to.dims(), logits.dims());
    }
    let to = gradient.map_or(logits.dtype(), Tensor::dtype);
    match (logits.dtype(), to) {
        (DType::F32, DType::F32) => Ok(ffi::epitome_cross_entropy_f32),
        (DType::F32, DType::BF16) => Ok(ffi::epitome_cross_entropy_f32_bf16),
        (DType::BF16, DType::BF16) => Ok(ffi::epitome_cross_entropy_bf16),
        (from, to) => bail!("{op}: no gradient in {to:?} of logits in {from:?}"),
    }
}
