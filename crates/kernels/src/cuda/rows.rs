//! Layer norm, GELU and sums over rows by the kernels of `cuda/rows/`.

use super::check;
use super::element::{FLOATS, of_type};
use super::ffi;
use super::place::{address, address_mut, dense, room, stream};
use crate::Dropout;
use candle_core::{DType, Result, Tensor, bail};
use std::ffi::c_int;
use std::ptr::{null, null_mut};

/// Rows that a block of threads takes: fewer of few rows, so that all processors have some; and no more blocks than a grid is high.
fn chunk_rows(rows: usize) -> usize {
    const MOST_BLOCKS: usize = 65_535;
    (rows / 256).clamp(8, 64).max(rows.div_ceil(MOST_BLOCKS)).next_multiple_of(8)
}

/// Matrices whose rows one launch sums: `MOST_SUMS` of `cuda/rows/partials.cuh`.
const MOST_SUMS: usize = 3;

/// What layer normalisation reads: x and perhaps a residual `[.., d]`, f32 or bf16; weight `[d]` in f32.
pub struct NormInputs<'a> {
    /// What is dropped out, if anything, before it is added to the residual.
    pub x: &'a Tensor,
    /// What x is added to.
    pub residual: Option<&'a Tensor>,
    /// Weight.
    pub weight: &'a Tensor,
    /// Dropout of x, element i of it with index `first + i`.
    pub dropout: Option<Dropout>,
    /// See there.
    pub first: u64,
    /// Added to the variance.
    pub eps: f32,
}

/// The same, dense.
struct NormCall {
    x: Tensor,
    residual: Option<Tensor>,
    weight: Tensor,
    rows: i64,
    width: c_int,
}

impl NormInputs<'_> {
    fn call(&self, op: &str) -> Result<NormCall> {
        let (rows, width) = rows_of(op, self.x)?;
        if self.weight.dims() != [width] || self.residual.is_some_and(|residual| residual.dims() != self.x.dims()) {
            let residual = self.residual.map(Tensor::dims);
            bail!("{op}: x {:?}, residual {residual:?}, weight {:?}", self.x.dims(), self.weight.dims());
        }
        let like = [self.x.dtype()];
        Ok(NormCall {
            x: dense(op, self.x, &FLOATS)?,
            residual: self.residual.map(|residual| dense(op, residual, &like)).transpose()?,
            weight: dense(op, self.weight, &[DType::F32])?,
            rows: rows as i64,
            width: width as c_int,
        })
    }
}

/// Layer normalisation of `dropout(x) + residual`; the bias is `[d]` in f32.
///
/// # Errors
/// When shapes or types do not fit, or a launch fails.
pub fn layer_norm(inputs: &NormInputs<'_>, bias: &Tensor) -> Result<Tensor> {
    let op = "layer_norm";
    let NormCall { x, residual, weight, rows, width } = inputs.call(op)?;
    if bias.dims() != weight.dims() {
        bail!("{op}: bias {:?}, weight {:?}", bias.dims(), weight.dims());
    }
    let bias = dense(op, bias, &[DType::F32])?;
    let y = room(x.shape(), x.dtype(), x.device())?;
    let [f32, bf16]: [ffi::LayerNorm; 2] = [ffi::epitome_layer_norm_f32, ffi::epitome_layer_norm_bf16];
    let launch = of_type(op, x.dtype(), f32, bf16)?;
    // SAFETY: the tensors have the shapes that `rows` and `width` say.
    check(op, unsafe {
        launch(
            address(&x)?,
            residual.as_ref().map_or(Ok(null()), address)?,
            address(&weight)?.cast(),
            address(&bias)?.cast(),
            inputs.dropout.into(),
            inputs.first,
            rows,
            width,
            inputs.eps,
            address_mut(&y)?,
            stream(x.device())?,
        )
    })?;
    Ok(y)
}

/// The gradient dy, dense, if it and the sums fit.
fn gradient_of_norm<'a>(
    op: &'static str,
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
    mut sums: impl Iterator<Item = &'a Tensor>,
) -> Result<Tensor> {
    if dy.dims() != x.dims() || sums.any(|sum| sum.dims() != weight.dims() || sum.dtype() != DType::F32) {
        bail!("{op}: dy {:?} for x {:?}", dy.dims(), x.dims());
    }
    dense(op, dy, &[x.dtype()])
}

/// The widest rows whose backward sums up dx too: such a block's 96 KiB of shared memory are there on every GPU, more are not.
const WIDEST_WITH_X_SUM: usize = 1024;

/// The backward of [`layer_norm`]: the gradients of the residual and of x, which are one tensor without dropout. Adds those of
/// weight and bias to `sums`, both `[d]` in f32, and the sum of dx's rows to `x_sum`, if there is one.
///
/// # Errors
/// As [`layer_norm`].
pub fn layer_norm_backward(
    inputs: &NormInputs<'_>,
    dy: &Tensor,
    sums: [&Tensor; 2],
    x_sum: Option<&Tensor>,
) -> Result<[Tensor; 2]> {
    if let Some(x_sum) = x_sum.filter(|_| inputs.weight.elem_count() > WIDEST_WITH_X_SUM) {
        let gradients = layer_norm_backward(inputs, dy, sums, None)?;
        column_sums(&[(&gradients[1], x_sum)])?;
        return Ok(gradients);
    }
    let op = "layer_norm_backward";
    let NormCall { x, residual, weight, rows, width } = inputs.call(op)?;
    let dy = gradient_of_norm(op, &x, &weight, dy, sums.into_iter().chain(x_sum))?;
    let like_x = || room(x.shape(), x.dtype(), x.device());
    let dsum = like_x()?;
    let dx = inputs.dropout.map(|_| like_x()).transpose()?;
    let chunk = chunk_rows(rows as usize);
    let count = 2 + usize::from(x_sum.is_some());
    let partials = room((count, (rows as usize).div_ceil(chunk), width as usize), DType::F32, x.device())?;
    let [f32, bf16]: [ffi::LayerNormBackward; 2] =
        [ffi::epitome_layer_norm_backward_f32, ffi::epitome_layer_norm_backward_bf16];
    let launch = of_type(op, x.dtype(), f32, bf16)?;
    // SAFETY: as in `layer_norm`; without dropout no gradient of x is written.
    check(op, unsafe {
        launch(
            address(&x)?,
            residual.as_ref().map_or(Ok(null()), address)?,
            address(&weight)?.cast(),
            inputs.dropout.into(),
            inputs.first,
            rows,
            width,
            inputs.eps,
            address(&dy)?,
            address_mut(&dsum)?,
            dx.as_ref().map_or(Ok(null_mut()), address_mut)?,
            address_mut(sums[0])?.cast(),
            address_mut(sums[1])?.cast(),
            x_sum.map_or(Ok(null_mut()), address_mut)?.cast(),
            address_mut(&partials)?.cast(),
            chunk as c_int,
            stream(x.device())?,
        )
    })?;
    let dx = dx.unwrap_or_else(|| dsum.clone());
    Ok([dsum, dx])
}

/// GELU of x `[.., d]` plus the bias `[d]` in f32, if there is one.
///
/// # Errors
/// When shapes or types do not fit, or a launch fails.
pub fn bias_gelu(x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let op = "bias_gelu";
    let (rows, width) = rows_of(op, x)?;
    let bias = bias_of(op, bias, width)?;
    let x = dense(op, x, &FLOATS)?;
    let y = room(x.shape(), x.dtype(), x.device())?;
    let [f32, bf16]: [ffi::BiasGelu; 2] = [ffi::epitome_bias_gelu_f32, ffi::epitome_bias_gelu_bf16];
    let launch = of_type(op, x.dtype(), f32, bf16)?;
    let bias_address = bias.as_ref().map_or(Ok(null()), address)?.cast();
    let (stream, to) = (stream(x.device())?, address_mut(&y)?);
    let chunk = chunk_rows(rows) as c_int;
    // SAFETY: the tensors have the shapes that rows and width say.
    check(op, unsafe { launch(address(&x)?, bias_address, to, rows as i64, width as c_int, chunk, stream) })?;
    Ok(y)
}

/// The backward of [`bias_gelu`]: the gradient of x; adds that of the bias to `bias_sum`, if there is one, and writes what the forward
/// does to `y`, if there is one, which is like x.
///
/// # Errors
/// As [`bias_gelu`].
pub fn bias_gelu_backward(
    x: &Tensor,
    bias: Option<&Tensor>,
    dy: &Tensor,
    bias_sum: Option<&Tensor>,
    y: Option<&Tensor>,
) -> Result<Tensor> {
    let op = "bias_gelu_backward";
    let (rows, width) = rows_of(op, x)?;
    let bias = bias_of(op, bias, width)?;
    let unlike = |y: &&Tensor| y.dims() != x.dims() || y.dtype() != x.dtype();
    if let Some(other) = [dy].into_iter().chain(y).find(unlike) {
        bail!("{op}: dy or y {:?} in {:?} for x {:?} in {:?}", other.dims(), other.dtype(), x.dims(), x.dtype());
    }
    bias_of(op, bias_sum, width)?;
    let (x, dy) = (dense(op, x, &FLOATS)?, dense(op, dy, &[x.dtype()])?);
    let dx = room(x.shape(), x.dtype(), x.device())?;
    let chunk = chunk_rows(rows);
    let partials = room((rows.div_ceil(chunk), width), DType::F32, x.device())?;
    let [f32, bf16]: [ffi::BiasGeluBackward; 2] =
        [ffi::epitome_bias_gelu_backward_f32, ffi::epitome_bias_gelu_backward_bf16];
    let launch = of_type(op, x.dtype(), f32, bf16)?;
    // SAFETY: as in `bias_gelu`.
    check(op, unsafe {
        launch(
            address(&x)?,
            bias.as_ref().map_or(Ok(null()), address)?.cast(),
            address(&dy)?,
            address_mut(&dx)?,
            y.map_or(Ok(null_mut()), address_mut)?,
            bias_sum.map_or(Ok(null_mut()), address_mut)?.cast(),
            address_mut(&partials)?.cast(),
            rows as i64,
            width as c_int,
            chunk as c_int,
            stream(x.device())?,
        )
    })?;
    Ok(dx)
}

/// Adds the sums over the rows of each x `[.., d]` to its sum `[d]` in f32; those of neighbours of one shape in one launch.
///
/// # Errors
/// When shapes or types do not fit, or a launch fails.
pub fn column_sums(all: &[(&Tensor, &Tensor)]) -> Result<()> {
    let is_like = |(one, _): &(&Tensor, &Tensor), (next, _): &(&Tensor, &Tensor)| {
        one.dims() == next.dims() && one.dtype() == next.dtype()
    };
    all.chunk_by(is_like).flat_map(|like| like.chunks(MOST_SUMS)).try_for_each(column_sums_alike)
}

fn column_sums_alike(all: &[(&Tensor, &Tensor)]) -> Result<()> {
    let op = "column_sums";
    let Some((x, _)) = all.first() else { return Ok(()) };
    let ((rows, width), device) = (rows_of(op, x)?, x.device());
    if let Some((_, sum)) = all.iter().find(|(_, sum)| sum.dims() != [width] || sum.dtype() != DType::F32) {
        bail!("{op}: x {:?} into {:?} in {:?}", x.dims(), sum.dims(), sum.dtype());
    }
    // What is made dense here must outlive the launch.
    let matrices = all.iter().map(|(x, _)| dense(op, x, &FLOATS)).collect::<Result<Vec<_>>>()?;
    let described = matrices
        .iter()
        .zip(all)
        .map(|(x, (_, sum))| Ok(ffi::ColumnSum { x: address(x)?, sum: address_mut(sum)?.cast() }))
        .collect::<Result<Vec<_>>>()?;
    let (chunk, count) = (chunk_rows(rows), described.len());
    let partials = room((count, rows.div_ceil(chunk), width), DType::F32, device)?;
    let [f32, bf16]: [ffi::ColumnSums; 2] = [ffi::epitome_column_sums_f32, ffi::epitome_column_sums_bf16];
    let launch = of_type(op, x.dtype(), f32, bf16)?;
    let (list, to) = (described.as_ptr(), address_mut(&partials)?.cast());
    let (rows, width, chunk) = (rows as i64, width as c_int, chunk as c_int);
    // SAFETY: the tensors have the shapes that rows and width say; the list is read before the call returns.
    check(op, unsafe { launch(list, count as c_int, to, rows, width, chunk, stream(device)?) })
}

fn bias_of(op: &str, bias: Option<&Tensor>, width: usize) -> Result<Option<Tensor>> {
    match bias {
        Some(bias) if bias.dims() != [width] => bail!("{op}: bias {:?} for rows of {width}", bias.dims()),
        bias => bias.map(|bias| dense(op, bias, &[DType::F32])).transpose(),
    }
}

fn rows_of(op: &str, x: &Tensor) -> Result<(usize, usize)> {
    match x.dims() {
        [rows @ .., width] if *width > 0 => Ok((rows.iter().product(), *width)),
        dims => bail!("{op}: {dims:?} has no rows"),
    }
}
