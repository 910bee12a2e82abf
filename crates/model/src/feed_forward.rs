//! The feed-forward sublayer: `LN(x + fc2(gelu(fc1(x))))`, with dropout after the activation and before the sum.

use std::ops::Range;

use candle_core::Tensor;
use epitome_kernels as kernels;

use crate::layers::{LayerNorm, Linear, Site, at};
use crate::weights::Source;
use crate::{Dropouts, GradientSums, Keep, Result};

/// Rows that pass the sublayer at a time in training, which bounds what is between its products.
const ROWS: usize = 4096;

#[derive(Clone, Debug)]
pub(crate) struct FeedForward {
    fc1: Linear,
    fc2: Linear,
    final_layer_norm: LayerNorm,
}

/// What a forward pass keeps.
#[derive(Debug, Default)]
pub(crate) struct FeedForwardKept {
    /// The first product, `[T, width]`.
    inner: Option<Tensor>,
    /// The second after dropout, `[T, d]`.
    output: Option<Tensor>,
}

impl FeedForward {
    pub(crate) fn load(source: Source<'_>, prefix: &str, d: usize, width: usize) -> Result<Self> {
        Ok(Self {
            fc1: Linear::load(source, &format!("{prefix}.fc1"), width, d)?,
            fc2: Linear::load(source, &format!("{prefix}.fc2"), d, width)?,
            final_layer_norm: LayerNorm::load(source, &format!("{prefix}.final_layer_norm"), d)?,
        })
    }

    /// `[T, d]` to `[T, d]`, and what the backward pass is given.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        dropouts: Option<Dropouts>,
        keep: Keep,
    ) -> Result<(Tensor, FeedForwardKept)> {
        let inner = if keep == Keep::Everything { Some(self.fc1.forward(x)?) } else { None };
        let output = self.output(x, inner.as_ref(), dropouts)?;
        let hidden = self.final_layer_norm.add(&output, x)?;
        Ok((hidden, FeedForwardKept { inner, output: (keep >= Keep::Outputs).then_some(output) }))
    }

    /// The second product after dropout.
    fn output(&self, x: &Tensor, inner: Option<&Tensor>, dropouts: Option<Dropouts>) -> Result<Tensor> {
        if let (Linear::Packed(fc1), Linear::Packed(fc2), None) = (&self.fc1, &self.fc2, dropouts) {
            return Ok(fc1.feed_forward(fc2, x)?);
        }
        let part = |rows: Range<usize>| {
            let inner = self.inner(x, inner, rows.clone())?;
            self.fc2.forward(&activation(&inner, rows.start, dropouts)?)
        };
        let parts = parts(x)?.map(part).collect::<Result<Vec<_>>>()?;
        let output = if parts.len() == 1 { parts[0].clone() } else { Tensor::cat(&parts, 0)? };
        Ok(kernels::dropout(&output, at(dropouts, Site::FeedForwardOutput))?)
    }

    /// Some rows of the first product, kept or computed.
    fn inner(&self, x: &Tensor, kept: Option<&Tensor>, rows: Range<usize>) -> Result<Tensor> {
        match kept {
            Some(inner) => Ok(inner.narrow(0, rows.start, rows.len())?),
            None => self.fc1.forward(&x.narrow(0, rows.start, rows.len())?),
        }
    }

    /// The gradient of the input x, given that of the output.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        kept: FeedForwardKept,
        gradient: &Tensor,
        dropouts: Option<Dropouts>,
        sums: &mut dyn GradientSums,
    ) -> Result<Tensor> {
        let FeedForwardKept { inner, output } = kept;
        let output = output.map_or_else(|| self.output(x, inner.as_ref(), dropouts), Ok)?;
        let x_gradient = self.final_layer_norm.backward(&output, Some(x), gradient, sums)?;
        drop(output);
        let gradient = kernels::dropout(&x_gradient, at(dropouts, Site::FeedForwardOutput))?;
        for rows in parts(x)? {
            let part = |tensor: &Tensor| tensor.narrow(0, rows.start, rows.len());
            let inner = self.inner(x, inner.as_ref(), rows.clone())?;
            let gradient = part(&gradient)?;
            self.fc2.backward(&activation(&inner, rows.start, dropouts)?, &gradient, sums)?;
            let gradient = self.fc2.input_gradient(&gradient)?;
            let gradient = dropout_rows(&gradient, rows.start, dropouts)?;
            let gradient = kernels::gelu_backward(&inner, &gradient)?;
            self.fc1.backward(&part(x)?, &gradient, sums)?;
            // These rows of the output's gradient, which without dropout is the same tensor, have been read.
            self.fc1.add_input_gradient(&part(&x_gradient)?, &gradient)?;
        }
        Ok(x_gradient)
    }
}

/// Ranges of the rows of x.
fn parts(x: &Tensor) -> Result<impl Iterator<Item = Range<usize>>> {
    let total = x.dim(0)?;
    Ok((0..total.max(1)).step_by(ROWS).map(move |first| first..total.min(first + ROWS)))
}

/// `dropout(gelu(inner))` of rows from `first` on.
fn activation(inner: &Tensor, first: usize, dropouts: Option<Dropouts>) -> Result<Tensor> {
    dropout_rows(&kernels::gelu(inner)?, first, dropouts)
}

fn dropout_rows(x: &Tensor, first: usize, dropouts: Option<Dropouts>) -> Result<Tensor> {
    let (_, width) = x.dims2()?;
    Ok(kernels::dropout_part(x, at(dropouts, Site::Activation), (first * width) as u64)?)
}
