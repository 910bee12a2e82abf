//! Operations on rows by the kernels of `cuda/rows/`.

use super::check;
use super::element::{FLOATS, of_type};
use super::ffi;
use super::place::{address, address_mut, dense, room, stream};
use crate::Dropout;
use candle_core::{DType, Result, Tensor, bail};
use std::ffi::c_int;
use std::ptr::{null, null_mut};

/// Rows of a chunk of partial sums: `CHUNK_ROWS` of `cuda/rows/partials.cuh`.
const CHUNK_ROWS: usize = 64;

/// What layer normalisation reads: x and perhaps a residual `[.., d]`, f32 or bf16; weight `[d]` in f32.
pub struct NormInputs<'a> {
    /// What is dropped out, if anything, before it is added to the residual.
    pub x: &'a Tensor,
    /// What x is added to.
    pub residual: Option<&'a Tensor>,
    /// Weight.
    pub weight: &'a Tensor,
    /// Dropout of x, element i of it with index i.
    pub dropout: Option<Dropout>,
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
            rows,
            width,
            inputs.eps,
            address_mut(&y)?,
            stream(x.device())?,
        )
    })?;
    Ok(y)
}

/// The backward of [`layer_norm`]: the gradients of the residual and of x, which are one tensor without dropout. Adds those of
/// weight and bias to `sums`, both `[d]` in f32.
///
/// # Errors
/// As [`layer_norm`].
pub fn layer_norm_backward(inputs: &NormInputs<'_>, dy: &Tensor, sums: [&Tensor; 2]) -> Result<[Tensor; 2]> {
    let op = "layer_norm_backward";
    let NormCall { x, residual, weight, rows, width } = inputs.call(op)?;
    if dy.dims() != x.dims() || sums.iter().any(|sum| sum.dims() != weight.dims() || sum.dtype() != DType::F32) {
        bail!("{op}: dy {:?} for x {:?}", dy.dims(), x.dims());
    }
    let dy = dense(op, dy, &[x.dtype()])?;
    let like_x = || room(x.shape(), x.dtype(), x.device());
    let dsum = like_x()?;
    let dx = inputs.dropout.map(|_| like_x()).transpose()?;
    let partials = room((2, (rows as usize).div_ceil(CHUNK_ROWS), width as usize), DType::F32, x.device())?;
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
            rows,
            width,
            inputs.eps,
            address(&dy)?,
            address_mut(&dsum)?,
            dx.as_ref().map_or(Ok(null_mut()), address_mut)?,
            address_mut(sums[0])?.cast(),
            address_mut(sums[1])?.cast(),
            address_mut(&partials)?.cast(),
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
    // SAFETY: the tensors have the shapes that rows and width say.
    check(op, unsafe { launch(address(&x)?, bias_address, to, rows as i64, width as c_int, stream) })?;
    Ok(y)
}

/// The backward of [`bias_gelu`]: the gradient of x; adds that of the bias to `bias_sum`, if there is one.
///
/// # Errors
/// As [`bias_gelu`].
pub fn bias_gelu_backward(x: &Tensor, bias: Option<&Tensor>, dy: &Tensor, bias_sum: Option<&Tensor>) -> Result<Tensor> {
    let op = "bias_gelu_backward";
    let (rows, width) = rows_of(op, x)?;
    let bias = bias_of(op, bias, width)?;
    if dy.dims() != x.dims() {
        bail!("{op}: dy {:?} for x {:?}", dy.dims(), x.dims());
    }
    bias_of(op, bias_sum, width)?;
    let (x, dy) = (dense(op, x, &FLOATS)?, dense(op, dy, &[x.dtype()])?);
    let dx = room(x.shape(), x.dtype(), x.device())?;
    let partials = room((rows.div_ceil(CHUNK_ROWS), width), DType::F32, x.device())?;
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
            bias_sum.map_or(Ok(null_mut()), address_mut)?.cast(),
            address_mut(&partials)?.cast(),
            rows as i64,
            width as c_int,
            stream(x.device())?,
        )
    })?;
    Ok(dx)
}

fn bias_of(op: &str, bias: Option<&Tensor>, width: usize) -> Result<Option<Tensor>> {
    match bias {
        Some(bias) if bias.dims() != [width] => bail!("{op}: bias {:?} for rows of {width}", bias.dims()),
        bias => bias.map(|bias| dense(op, bias, &[DType::F32])).transpose(),
    }
}

/// [`dropout_part`](crate::dropout_part): element i of x has index `first + i`.
///
/// # Errors
/// When the type does not fit, or a launch fails.
pub fn dropout_part(x: &Tensor, dropout: Option<Dropout>, first: u64) -> Result<Tensor> {
    let op = "dropout";
    let x = dense(op, x, &FLOATS)?;
    let y = room(x.shape(), x.dtype(), x.device())?;
    let [f32, bf16]: [ffi::ApplyDropout; 2] = [ffi::epitome_dropout_f32, ffi::epitome_dropout_bf16];
    let launch = of_type(op, x.dtype(), f32, bf16)?;
    let (count, to, stream) = (x.elem_count() as i64, address_mut(&y)?, stream(x.device())?);
    // SAFETY: both tensors have as many numbers.
    check(op, unsafe { launch(address(&x)?, to, dropout.into(), first, count, stream) })?;
    Ok(y)
}

/// `sum = keep * sum + factor * x`, in place, of one shape; without x the last part is nothing. Of f32 and f32, bf16 and bf16,
/// or f32 and bf16.
///
/// # Errors
/// When shapes or types do not fit, or a launch fails.
pub fn blend(sum: &Tensor, x: Option<&Tensor>, keep: f32, factor: f32) -> Result<()> {
    let op = "blend";
    if let Some(x) = x.filter(|x| x.dims() != sum.dims()) {
        bail!("{op}: {:?} into {:?}", x.dims(), sum.dims());
    }
    let x = x.map(|x| dense(op, x, &FLOATS)).transpose()?;
    let launch: ffi::Blend = match (sum.dtype(), x.as_ref().map_or(sum.dtype(), Tensor::dtype)) {
        (DType::F32, DType::F32) => ffi::epitome_blend_f32,
        (DType::BF16, DType::BF16) => ffi::epitome_blend_bf16,
        (DType::F32, DType::BF16) => ffi::epitome_blend_f32_bf16,
        (own, other) => bail!("{op}: {other:?} into {own:?}"),
    };
    let (from, count) = (x.as_ref().map_or(Ok(null()), address)?, sum.elem_count() as i64);
    // SAFETY: both tensors have as many numbers.
    check(op, unsafe { launch(address_mut(sum)?, from, keep, factor, count, stream(sum.device())?) })
}

/// f32 rounded to bf16.
///
/// # Errors
/// When the type does not fit, or a launch fails.
pub fn round_to_bf16(x: &Tensor) -> Result<Tensor> {
    let op = "round_to_bf16";
    let x = dense(op, x, &[DType::F32])?;
    let y = room(x.shape(), DType::BF16, x.device())?;
    let (count, to, stream) = (x.elem_count() as i64, address_mut(&y)?, stream(x.device())?);
    // SAFETY: both tensors have as many numbers.
    check(op, unsafe { ffi::epitome_round_to_bf16(address(&x)?.cast(), to, count, stream) })?;
    Ok(y)
}

/// bf16 as f32.
///
/// # Errors
/// When the type does not fit, or a launch fails.
pub fn widen_to_f32(x: &Tensor) -> Result<Tensor> {
    let op = "widen_to_f32";
    let x = dense(op, x, &[DType::BF16])?;
    let y = room(x.shape(), DType::F32, x.device())?;
    let (count, to, stream) = (x.elem_count() as i64, address_mut(&y)?.cast(), stream(x.device())?);
    // SAFETY: both tensors have as many numbers.
    check(op, unsafe { ffi::epitome_widen_to_f32(address(&x)?, to, count, stream) })?;
    Ok(y)
}

/// Rows `ids` of a table `[V, d]`, plus those of a table of positions, if there is one, of the same type.
///
/// # Errors
/// When shapes or types do not fit, an id is not below V, or a launch fails.
pub fn embed(words: (&Tensor, &[u32]), positions: Option<(&Tensor, &[u32])>) -> Result<Tensor> {
    let op = "embed";
    let (width, count, device) = (words.0.dim(1)?, words.1.len(), words.0.device());
    let mut dense_tables = Vec::new();
    for (table, ids) in [words].into_iter().chain(positions) {
        let (rows, columns) = table.dims2()?;
        if columns != width || ids.len() != count || ids.iter().any(|id| *id as usize >= rows) {
            bail!("{op}: {} ids of a table {:?} for {count} rows", ids.len(), table.dims());
        }
        let dtypes = if dense_tables.is_empty() { &FLOATS[..] } else { &[words.0.dtype()] };
        dense_tables.push((dense(op, table, dtypes)?, Tensor::from_slice(ids, count, device)?));
    }
    let y = room((count, width), words.0.dtype(), device)?;
    let [f32, bf16]: [ffi::Embed; 2] = [ffi::epitome_embed_f32, ffi::epitome_embed_bf16];
    let launch = of_type(op, words.0.dtype(), f32, bf16)?;
    let lie = |(table, ids): &(Tensor, Tensor)| Ok::<_, candle_core::Error>((address(table)?, address(ids)?.cast()));
    let (table, ids) = lie(&dense_tables[0])?;
    let (places, place_ids) = dense_tables.get(1).map_or(Ok((null(), null())), lie)?;
    let (to, stream) = (address_mut(&y)?, stream(device)?);
    // SAFETY: all ids are rows of their tables.
    check(op, unsafe { launch(table, ids, places, place_ids, to, count as i64, width as c_int, stream) })?;
    Ok(y)
}

/// The places of each id, by which a block of threads finds all rows that it adds up.
struct Places {
    ids: Vec<u32>,
    /// Where the places of each id begin, then their number.
    starts: Vec<u32>,
    places: Vec<u32>,
}

impl Places {
    /// Of the ids but `skip`.
    fn new(ids: &[u32], skip: Option<u32>) -> Self {
        let mut places: Vec<u32> = (0..ids.len() as u32).filter(|at| Some(ids[*at as usize]) != skip).collect();
        // Stable, so that an id's rows are added in their order.
        places.sort_by_key(|at| ids[*at as usize]);
        let (mut different, mut starts) = (Vec::new(), Vec::new());
        for (n, at) in places.iter().enumerate() {
            let id = ids[*at as usize];
            if different.last() != Some(&id) {
                different.push(id);
                starts.push(n as u32);
            }
        }
        starts.push(places.len() as u32);
        Self { ids: different, starts, places }
    }
}

/// `sums[ids[t]] += gradient[t]` for all t but those of padding: sums `[V, d]` in f32, gradient `[T, d]`.
///
/// # Errors
/// When shapes or types do not fit, an id is not below V, or a launch fails.
pub fn accumulate_rows(sums: &Tensor, ids: &[u32], gradient: &Tensor, skip: Option<u32>) -> Result<()> {
    let op = "accumulate_rows";
    let ((rows, width), device) = (sums.dims2()?, sums.device());
    let fits = gradient.dims() == [ids.len(), width] && sums.dtype() == DType::F32;
    if !fits || ids.iter().any(|id| *id as usize >= rows) {
        bail!("{op}: {} ids, gradient {:?} into {:?}", ids.len(), gradient.dims(), sums.dims());
    }
    let gradient = dense(op, gradient, &FLOATS)?;
    let Places { ids, starts, places } = Places::new(ids, skip);
    if ids.is_empty() {
        return Ok(());
    }
    let count = ids.len() as c_int;
    let words = |words: Vec<u32>| Tensor::from_slice(&words, words.len(), device);
    let (ids, starts, places) = (words(ids)?, words(starts)?, words(places)?);
    let [f32, bf16]: [ffi::AccumulateRows; 2] = [ffi::epitome_accumulate_rows_f32, ffi::epitome_accumulate_rows_bf16];
    let launch = of_type(op, gradient.dtype(), f32, bf16)?;
    // SAFETY: ids are rows of `sums`, places are rows of `gradient`.
    check(op, unsafe {
        launch(
            address_mut(sums)?.cast(),
            address(&gradient)?,
            address(&ids)?.cast(),
            address(&starts)?.cast(),
            address(&places)?.cast(),
            count,
            width as c_int,
            stream(device)?,
        )
    })
}

fn rows_of(op: &str, x: &Tensor) -> Result<(usize, usize)> {
    match x.dims() {
        [rows @ .., width] if *width > 0 => Ok((rows.iter().product(), *width)),
        dims => bail!("{op}: {dims:?} has no rows"),
    }
}
