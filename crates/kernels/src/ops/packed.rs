//! [`PackedLinear`].

use super::layer_norm::{Norm, ResidualSum, add_layer_norm};
use super::{as_rows, compute, refuse_tracked, tensor};
use crate::Precision;
use crate::cpu::packed::{Activation, DEEPEST, PackedWeight, Rows};
use crate::cpu::view::View;
#[cfg(gpu)]
use crate::cuda;
#[cfg(gpu)]
use candle_core::DType;
use candle_core::{Result, Tensor, bail};
use std::cell::Cell;

/// The weight and bias of [`linear`](crate::linear) in the order in which products read them: for inference, where a weight
/// is used many times and, for the few rows of a decoding step, ordering it anew would cost more than the product.
/// In f32 results are those of `linear`, to the bit. Records no graph.
#[derive(Clone, Debug)]
pub struct PackedLinear(Weight);

/// On the CPU, or as a GPU has it.
#[derive(Clone, Debug)]
enum Weight {
    Cpu(PackedWeight),
    #[cfg(gpu)]
    Gpu(cuda::Linear),
}

/// Rows of hidden states that pass a feed-forward layer at a time, so that what is between its products stays in cache.
const FEED_FORWARD_ROWS: usize = 768;

/// Rows that are rounded or quantized for a product at a time, so that what is kept of them between products stays small.
const LINEAR_ROWS: usize = 1 << 16;

thread_local! {
    /// The rows of the last product, so that their memory is used again.
    static ROWS: Cell<Rows> = Cell::default();
}

impl PackedLinear {
    /// Packs a copy of `weight` `[out, in]`, with `bias` `[out]`.
    ///
    /// # Errors
    /// When the shapes do not fit, the tensors are in a graph or not f32 on the CPU, or sums of products in [`Precision::Int8`] could pass
    /// 32 bits (from 66,312 inputs on).
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, precision: Precision) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        if let Some(bias) = bias.filter(|bias| bias.dims() != [outputs]) {
            bail!("linear: bias {:?} does not fit weight {:?}", bias.dims(), weight.dims());
        }
        if precision == Precision::Int8 && inputs > DEEPEST {
            bail!("linear: weight {:?} has more than the {DEEPEST} inputs that int8 can sum", weight.dims());
        }
        if let Some(bias) = bias {
            refuse_tracked("PackedLinear::new", bias)?;
        }
        #[cfg(gpu)]
        if cuda::runs_on(weight.device()) {
            refuse_tracked("PackedLinear::new", weight)?;
            return Ok(Self(Weight::Gpu(cuda::Linear::new(weight, bias, precision)?)));
        }
        let bias = bias.map(Tensor::to_vec1).transpose()?;
        let pack = match precision {
            Precision::F32 => PackedWeight::f32,
            Precision::Bf16 => PackedWeight::bf16,
            Precision::Int8 => PackedWeight::int8,
        };
        let packed = compute("PackedLinear::new", [weight], |[weight]| pack(weight, outputs, inputs, bias))?;
        Ok(Self(Weight::Cpu(packed)))
    }

    /// One layer with the outputs of all `parts`, one after the other, and the parts again, which share its memory: where one product
    /// is faster than several, which is on a GPU.
    ///
    /// # Errors
    /// When the parts have different inputs or precisions.
    pub fn joined(parts: &[&Self]) -> Result<Option<(Self, Vec<Self>)>> {
        #[cfg(gpu)]
        {
            let linears: Vec<&cuda::Linear> = parts
                .iter()
                .filter_map(|part| match &part.0 {
                    Weight::Gpu(linear) => Some(linear),
                    Weight::Cpu(_) => None,
                })
                .collect();
            if linears.len() == parts.len() {
                let (joined, parts) = cuda::Linear::joined(&linears)?;
                let parts = parts.into_iter().map(|part| Self(Weight::Gpu(part))).collect();
                return Ok(Some((Self(Weight::Gpu(joined)), parts)));
            }
        }
        #[cfg(not(gpu))]
        let _ = parts;
        Ok(None)
    }

    /// What the weight is kept in.
    pub fn precision(&self) -> Precision {
        match &self.0 {
            Weight::Cpu(packed) => packed.precision(),
            #[cfg(gpu)]
            Weight::Gpu(linear) => linear.precision(),
        }
    }

    /// The weight `[out, in]` as numbers again: rounded or dequantized, where it is not kept in f32.
    ///
    /// # Errors
    /// When the tensor cannot be made.
    pub fn weight(&self) -> Result<Tensor> {
        match &self.0 {
            Weight::Cpu(packed) => tensor(packed.unpack(), (packed.outputs(), packed.inputs())),
            #[cfg(gpu)]
            Weight::Gpu(linear) => linear.weight().to_dtype(DType::F32),
        }
    }

    /// The bias `[out]`, if there is one.
    ///
    /// # Errors
    /// When the tensor cannot be made.
    pub fn bias(&self) -> Result<Option<Tensor>> {
        match &self.0 {
            Weight::Cpu(packed) => packed.bias().map(|bias| tensor(bias.to_vec(), bias.len())).transpose(),
            #[cfg(gpu)]
            Weight::Gpu(linear) => Ok(linear.bias().cloned()),
        }
    }

    /// `x weight^T + bias`: `x` `[.., in]`; the result is `[.., out]`.
    ///
    /// # Errors
    /// When the shapes do not fit or `x` is in a graph.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.0 {
            Weight::Cpu(packed) => forward(packed, x),
            #[cfg(gpu)]
            Weight::Gpu(linear) => {
                refuse_tracked("PackedLinear::forward", x)?;
                linear.forward(x)
            }
        }
    }

    /// [`PackedLinear::forward`] into `target`, whose memory is used again: it becomes `[.., out]`, row-major, in f32.
    ///
    /// # Errors
    /// When the shapes do not fit or `x` is in a graph.
    pub fn forward_into(&self, x: &Tensor, target: &mut Vec<f32>) -> Result<()> {
        match &self.0 {
            Weight::Cpu(packed) => forward_into(packed, x, target),
            #[cfg(gpu)]
            Weight::Gpu(linear) => {
                refuse_tracked("PackedLinear::forward_into", x)?;
                let (rows, _) = as_rows("linear", x)?;
                let outputs = linear.weight().dim(0)?;
                let product = linear.forward_f32_aligned(&x.reshape((rows, ()))?)?;
                *target = product.narrow(1, 0, outputs)?.flatten_all()?.to_vec1()?;
                Ok(())
            }
        }
    }

    /// Whether [`PackedLinear::find_best`] is a short way: on a GPU, from which the result would have to be copied.
    pub fn finds_best(&self) -> bool {
        match &self.0 {
            Weight::Cpu(_) => false,
            #[cfg(gpu)]
            Weight::Gpu(_) => true,
        }
    }

    /// Of each row of [`PackedLinear::forward`]'s result, as logits, the `count` most probable entries with their log-probabilities
    /// (nats), the best first and of equal ones the first. x `[R, in]`. An entry that is no number is among them if there is one.
    /// They lie where the GPU finds them, which nobody waits for before [`read_best`].
    ///
    /// # Errors
    /// When the shapes do not fit, `count` is more than there are outputs, `x` is in a graph, or the weight is not on a GPU.
    pub fn find_best(&self, x: &Tensor, count: usize) -> Result<Tensor> {
        match &self.0 {
            Weight::Cpu(_) => {
                bail!("PackedLinear::find_best: the weight is not on a GPU ({count} of rows {:?})", x.dims())
            }
            #[cfg(gpu)]
            Weight::Gpu(linear) => {
                refuse_tracked("PackedLinear::find_best", x)?;
                cuda::find_top_k(&linear.forward_f32_aligned(x)?, linear.weight().dim(0)?, None, count)
            }
        }
    }

    /// `second.forward(gelu(self.forward(x)))` without keeping what is between them: `x` `[T, in]`.
    ///
    /// # Errors
    /// When the shapes do not fit, the two are not on one device, or `x` is in a graph.
    pub fn feed_forward(&self, second: &Self, x: &Tensor) -> Result<Tensor> {
        match (&self.0, &second.0) {
            (Weight::Cpu(first), Weight::Cpu(second)) => feed_forward(first, second, x),
            #[cfg(gpu)]
            (Weight::Gpu(first), Weight::Gpu(second)) => first.feed_forward(second, x),
            #[cfg(gpu)]
            _ => bail!("feed_forward: one weight is on a GPU, the other is not"),
        }
    }

    /// [`add_layer_norm`] of a sum `[T, in]`, and [`PackedLinear::forward`] of that: for the few rows of decoding on a GPU in one.
    ///
    /// # Errors
    /// When the shapes do not fit or a tensor is in a graph.
    pub fn forward_after_norm(&self, sum: ResidualSum<'_>, norm: Norm<'_>) -> Result<[Tensor; 2]> {
        #[cfg(gpu)]
        if let Weight::Gpu(linear) = &self.0 {
            sum.check("forward_after_norm", norm.weight, norm.bias)?;
            if let Some(results) = linear.after_norm(sum, norm, false)? {
                return Ok(results);
            }
        }
        let normalised = add_layer_norm(sum, norm.weight, norm.bias, norm.eps)?;
        let product = self.forward(&normalised)?;
        Ok([normalised, product])
    }

    /// [`add_layer_norm`] of a sum `[T, in]`, and [`PackedLinear::feed_forward`] of that.
    ///
    /// # Errors
    /// As [`PackedLinear::forward_after_norm`] and [`PackedLinear::feed_forward`].
    pub fn feed_forward_after_norm(&self, second: &Self, sum: ResidualSum<'_>, norm: Norm<'_>) -> Result<[Tensor; 2]> {
        #[cfg(gpu)]
        if let Weight::Gpu(linear) = &self.0 {
            sum.check("feed_forward_after_norm", norm.weight, norm.bias)?;
            if let Some([normalised, inner]) = linear.after_norm(sum, norm, true)? {
                return Ok([normalised, second.forward(&inner)?]);
            }
        }
        let normalised = add_layer_norm(sum, norm.weight, norm.bias, norm.eps)?;
        let output = self.feed_forward(second, &normalised)?;
        Ok([normalised, output])
    }
}

/// What [`PackedLinear::find_best`] has found, `[2, R, count]` words: log-probabilities, then entries.
///
/// # Errors
/// When the shape is another, or the GPU fails.
pub fn read_best(found: &Tensor) -> Result<Vec<Vec<(u32, f32)>>> {
    let (parts, rows, count) = found.dims3()?;
    if parts != 2 {
        bail!("read_best: a tensor of shape {:?} is not what find_best returns", found.dims());
    }
    let words = found.flatten_all()?.to_vec1::<u32>()?;
    let (values, indices) = words.split_at(rows * count);
    let entries = indices.iter().zip(values).map(|(index, value)| (*index, f32::from_bits(*value)));
    let entries: Vec<(u32, f32)> = entries.collect();
    Ok(entries.chunks(count.max(1)).map(<[_]>::to_vec).collect())
}

/// The rows of x and their length.
fn check(packed: &PackedWeight, x: &Tensor) -> Result<(usize, usize)> {
    let (rows, inputs) = as_rows("linear", x)?;
    if inputs != packed.inputs() {
        bail!("linear: x {:?} does not fit weight [{}, {}]", x.dims(), packed.outputs(), packed.inputs());
    }
    Ok((rows, inputs))
}

/// [`PackedLinear::forward`] on the CPU.
fn forward(packed: &PackedWeight, x: &Tensor) -> Result<Tensor> {
    let (rows, inputs) = check(packed, x)?;
    let mut reused = ROWS.take();
    let product = compute("PackedLinear::forward", [x], |[x]| {
        let x = View::dense(x, rows, inputs);
        if rows <= LINEAR_ROWS {
            return packed.multiply(x, Activation::None, &mut reused);
        }
        let outputs = packed.outputs();
        let mut product = vec![0.0; rows * outputs];
        for first in (0..rows).step_by(LINEAR_ROWS) {
            let part = first..rows.min(first + LINEAR_ROWS);
            let target = &mut product[part.start * outputs..part.end * outputs];
            packed.multiply_into(target, x.part(part, 0..inputs), Activation::None, &mut reused);
        }
        product
    })?;
    ROWS.set(reused);
    let mut dims = x.dims().to_vec();
    dims.splice(dims.len() - 1.., [packed.outputs()]);
    tensor(product, dims)
}

/// [`PackedLinear::forward_into`] on the CPU.
fn forward_into(packed: &PackedWeight, x: &Tensor, target: &mut Vec<f32>) -> Result<()> {
    let (rows, inputs) = check(packed, x)?;
    target.resize(rows * packed.outputs(), 0.0);
    let mut reused = ROWS.take();
    compute("PackedLinear::forward_into", [x], |[x]| {
        packed.multiply_into(target, View::dense(x, rows, inputs), Activation::None, &mut reused);
    })?;
    ROWS.set(reused);
    Ok(())
}

/// [`PackedLinear::feed_forward`] on the CPU.
fn feed_forward(first: &PackedWeight, second: &PackedWeight, x: &Tensor) -> Result<Tensor> {
    let (rows, inputs) = x.dims2()?;
    let (width, outputs) = (first.outputs(), second.outputs());
    if inputs != first.inputs() || width != second.inputs() {
        let dims = [first, second].map(|packed| [packed.outputs(), packed.inputs()]);
        bail!("feed_forward: x {:?} and weights {dims:?} do not fit", x.dims());
    }
    let mut reused = ROWS.take();
    let mut inner = vec![0.0; rows.min(FEED_FORWARD_ROWS) * width];
    let mut product = vec![0.0; rows * outputs];
    compute("feed_forward", [x], |[x]| {
        let x = View::dense(x, rows, inputs);
        for start in (0..rows).step_by(FEED_FORWARD_ROWS) {
            let part = start..rows.min(start + FEED_FORWARD_ROWS);
            let inner = &mut inner[..part.len() * width];
            first.multiply_into(inner, x.part(part.clone(), 0..inputs), Activation::Gelu, &mut reused);
            let target = &mut product[part.start * outputs..part.end * outputs];
            second.multiply_into(target, View::dense(inner, part.len(), width), Activation::None, &mut reused);
        }
    })?;
    ROWS.set(reused);
    tensor(product, (rows, outputs))
}
