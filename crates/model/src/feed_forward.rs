//! The feed-forward sublayer: `LN(x + fc2(gelu(fc1(x))))`, with dropout after the activation and before the sum.

use std::ops::Range;

use candle_core::Tensor;
use epitome_kernels::{self as kernels, Dropout, ResidualSum};

use crate::layers::{LayerNorm, Linear, Site, at, residual_sum};
use crate::step_input::StepInput;
use crate::weights::Source;
use crate::{Dropouts, GradientSums, Keep, Result};

/// Rows that pass the sublayer at a time in training, which bounds what is between its products.
const ROWS: usize = 4096;

/// The same on a GPU, which few rows do not fill.
const GPU_ROWS: usize = 1 << 14;

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
    /// The second, `[T, d]`.
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
        let hidden = self.final_layer_norm.add(residual_sum(&output, x, at(dropouts, Site::FeedForwardOutput)))?;
        Ok((hidden, FeedForwardKept { inner, output: (keep >= Keep::Outputs).then_some(output) }))
    }

    /// The sum at the end of a step's sublayer.
    pub(crate) fn step(&self, input: &StepInput<'_>) -> Result<StepInput<'_>> {
        let [residual, x] = match (&self.fc1, &self.fc2) {
            (Linear::Packed(fc1), Linear::Packed(fc2)) => input.feed_forward(fc1, fc2)?,
            _ => {
                let rows = input.rows()?;
                let output = self.output(&rows, None, None)?;
                [rows, output]
            }
        };
        Ok(StepInput::Sum { x, residual, norm: &self.final_layer_norm })
    }

    /// The second product.
    fn output(&self, x: &Tensor, inner: Option<&Tensor>, dropouts: Option<Dropouts>) -> Result<Tensor> {
        if let (Linear::Packed(fc1), Linear::Packed(fc2), None) = (&self.fc1, &self.fc2, dropouts) {
            return Ok(fc1.feed_forward(fc2, x)?);
        }
        let part = |rows: Range<usize>| {
            let inner = self.inner(x, inner, rows.clone())?;
            self.fc2.forward(&activation(&inner, rows.start, dropouts)?)
        };
        joined(parts(x)?.map(part).collect::<Result<Vec<_>>>()?)
    }

    /// Some rows of the first product, kept or computed.
    fn inner(&self, x: &Tensor, kept: Option<&Tensor>, rows: Range<usize>) -> Result<Tensor> {
        match kept {
            Some(inner) => Ok(inner.narrow(0, rows.start, rows.len())?),
            None => self.fc1.forward(&x.narrow(0, rows.start, rows.len())?),
        }
    }

    /// The gradient of the input x, given that of the output. Part by part, whatever was kept, so that sums have one order.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        kept: &FeedForwardKept,
        gradient: &Tensor,
        dropouts: Option<Dropouts>,
        sums: &mut dyn GradientSums,
    ) -> Result<Tensor> {
        let part = |rows: Range<usize>| self.backward_part(x, kept, gradient, rows, dropouts, sums);
        joined(parts(x)?.map(part).collect::<Result<Vec<_>>>()?)
    }

    /// The same of some rows.
    fn backward_part(
        &self,
        x: &Tensor,
        kept: &FeedForwardKept,
        gradient: &Tensor,
        rows: Range<usize>,
        dropouts: Option<Dropouts>,
        sums: &mut dyn GradientSums,
    ) -> Result<Tensor> {
        let part = |tensor: &Tensor| tensor.narrow(0, rows.start, rows.len());
        let inner = self.inner(x, kept.inner.as_ref(), rows.clone())?;
        let activation = |inner: &Tensor| activation(inner, rows.start, dropouts);
        let (output, early) = match &kept.output {
            Some(output) => (part(output)?, None),
            None => {
                let early = activation(&inner)?;
                (self.fc2.forward(&early)?, Some(early))
            }
        };
        let (x, first) = (part(x)?, index_of(&output, rows.start)?);
        let sum = ResidualSum { x: &output, residual: &x, dropout: at(dropouts, Site::FeedForwardOutput), first };
        let [x_gradient, gradient] = self.final_layer_norm.add_backward(sum, &self.fc2, &part(gradient)?, sums)?;
        let dropout = at(dropouts, Site::Activation);
        let inner_gradient = dropout_rows(&self.fc2.input_gradient(&gradient)?, rows.start, dropout)?;
        // The activation comes beside its gradient, unless the output had to be made of it.
        let (bias, again) = (self.fc1.bias_sum(sums)?, early.is_none());
        let (inner_gradient, late) = kernels::gelu_rows_backward(&inner, &inner_gradient, bias.as_ref(), again)?;
        let late = late.map(|late| dropout_rows(&late, rows.start, dropout)).transpose()?;
        let activation = early.or(late).map_or_else(|| activation(&inner), Ok)?;
        self.fc2.weight_backward(&activation, &gradient, sums)?;
        self.fc1.weight_backward(&x, &inner_gradient, sums)?;
        self.fc1.add_input_gradient(&x_gradient, &inner_gradient)?;
        Ok(x_gradient)
    }
}

/// Rows that were computed part by part.
fn joined(parts: Vec<Tensor>) -> Result<Tensor> {
    Ok(if let [whole] = parts.as_slice() { whole.clone() } else { Tensor::cat(&parts, 0)? })
}

/// Ranges of the rows of x.
fn parts(x: &Tensor) -> Result<impl Iterator<Item = Range<usize>>> {
    let (total, most) = (x.dim(0)?, if x.device().is_cpu() { ROWS } else { GPU_ROWS });
    Ok((0..total.max(1)).step_by(most).map(move |first| first..total.min(first + most)))
}

/// `dropout(gelu(inner))` of rows from `first` on.
fn activation(inner: &Tensor, first: usize, dropouts: Option<Dropouts>) -> Result<Tensor> {
    dropout_rows(&kernels::gelu(inner)?, first, at(dropouts, Site::Activation))
}

/// The dropout of rows from `first` on.
fn dropout_rows(x: &Tensor, first: usize, dropout: Option<Dropout>) -> Result<Tensor> {
    Ok(kernels::dropout_part(x, dropout, index_of(x, first)?)?)
}

/// The index that the first element of x has in the whole, of which x has the rows from `first` on.
fn index_of(x: &Tensor, first: usize) -> Result<u64> {
    Ok((first * x.dim(1)?) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::{DType, Device};
    use epitome_kernels::DropoutKey;

    use super::*;
    use crate::{Config, TensorSource};

    /// Numbers that depend on the name.
    struct Hashed;

    fn numbers(seed: usize, shape: &[usize]) -> Tensor {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|i| ((i * 7919 + seed * 31) as f32 * 0.37).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    impl TensorSource for Hashed {
        fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
            Ok(numbers(name.len(), shape))
        }
    }

    #[derive(Default)]
    struct Sums(BTreeMap<String, Tensor>);

    impl GradientSums for Sums {
        fn sum(&mut self, name: &str, parameter: &Tensor) -> Result<Option<Tensor>> {
            let zeros = parameter.zeros_like()?;
            Ok(Some(self.0.entry(name.to_owned()).or_insert(zeros).clone()))
        }
    }

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Rows are independent: the parts of a long input give what they give alone, and parameters' gradients are added up.
    #[test]
    fn parts_are_what_they_are_alone() {
        let (d, width, rows) = (4, 8, ROWS + 100);
        let source = Source { tensors: &Hashed, packed: None, activations: DType::F32 };
        let layer = FeedForward::load(source, "layer", d, width).unwrap();
        let (x, gradient) = (numbers(1, &[rows, d]), numbers(2, &[rows, d]));
        let run = |range: Range<usize>, keep, dropouts, sums: &mut Sums| {
            let part = |tensor: &Tensor| tensor.narrow(0, range.start, range.len()).unwrap().contiguous().unwrap();
            let (output, kept) = layer.forward(&part(&x), dropouts, keep).unwrap();
            let gradient = layer.backward(&part(&x), &kept, &part(&gradient), dropouts, sums).unwrap();
            (flat(&output), flat(&gradient))
        };
        let (mut together, mut apart) = (Sums::default(), Sums::default());
        let whole = run(0..rows, Keep::Input, None, &mut together);
        let first = run(0..ROWS, Keep::Input, None, &mut apart);
        let last = run(ROWS..rows, Keep::Input, None, &mut apart);
        assert_eq!(whole, ([first.0, last.0].concat(), [first.1, last.1].concat()));
        let values = |sums: Sums| sums.0.into_iter().map(|(name, sum)| (name, flat(&sum))).collect::<Vec<_>>();
        assert_eq!(values(together), values(apart));

        // With dropout, whose masks follow the place in the whole.
        let config = Config { dropout: 0.3, activation_dropout: 0.2, ..Config::default() };
        let dropouts = Some(Dropouts::new(&config, DropoutKey::new(3)));
        let runs = [Keep::Input, Keep::Outputs, Keep::Everything].map(|keep| {
            let mut sums = Sums::default();
            (run(0..rows, keep, dropouts, &mut sums), values(sums))
        });
        assert!(runs[0] == runs[1] && runs[1] == runs[2], "what is kept changes the result");
        assert!(runs[0].0 != whole, "dropout changes nothing");
    }
}
