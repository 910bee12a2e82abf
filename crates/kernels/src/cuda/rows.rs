//! Operations on rows by the kernels of `cuda/rows/`.

use super::buffer::{Buffer, address_of, buffer_of};
use super::element::{Element, of_type};
use super::{check, ffi};
use crate::Dropout;
use candle_core::{Result, bail};
use half::bf16;
use std::ffi::c_int;
use std::ptr::null_mut;

/// Rows of a chunk of partial sums: `CHUNK_ROWS` of `cuda/rows/partials.cuh`.
const CHUNK_ROWS: usize = 64;

/// What layer normalisation reads: x and perhaps a residual `[rows, d]`, weight `[d]`.
pub struct NormInputs<'a, T> {
    /// What is dropped out, if anything, before it is added to the residual.
    pub x: &'a [T],
    /// What x is added to.
    pub residual: Option<&'a [T]>,
    /// Weight.
    pub weight: &'a [f32],
    /// Dropout of x, element i of it with index i.
    pub dropout: Option<Dropout>,
    /// Added to the variance.
    pub eps: f32,
}

impl<T: Element> NormInputs<'_, T> {
    fn rows(&self) -> Result<i64> {
        let width = self.weight.len();
        let residual = self.residual.map(<[T]>::len);
        if width == 0 || !self.x.len().is_multiple_of(width) || residual.is_some_and(|length| length != self.x.len()) {
            bail!("layer_norm: {} numbers, residual {residual:?}, weight {width}", self.x.len());
        }
        Ok((self.x.len() / width) as i64)
    }

    fn width(&self) -> c_int {
        self.weight.len() as c_int
    }
}

/// Layer normalisation of `dropout(x) + residual`.
///
/// # Errors
/// When shapes do not fit, or a launch fails.
pub fn layer_norm<T: Element>(inputs: &NormInputs<'_, T>, bias: &[f32]) -> Result<Vec<T>> {
    let rows = inputs.rows()?;
    if bias.len() != inputs.weight.len() {
        bail!("layer_norm: bias {}, weight {}", bias.len(), inputs.weight.len());
    }
    let y = Buffer::<T>::room(inputs.x.len())?;
    let (x, residual) = (Buffer::of(inputs.x)?, buffer_of(inputs.residual)?);
    let (weight, bias) = (Buffer::of(inputs.weight)?, Buffer::of(bias)?);
    let launch = of_type::<T, ffi::LayerNorm>(ffi::epitome_layer_norm_f32, ffi::epitome_layer_norm_bf16);
    // SAFETY: the slices have the shapes that `rows` and `width` say.
    check("layer_norm", unsafe {
        launch(
            x.any(),
            address_of(&residual).cast(),
            weight.pointer(),
            bias.pointer(),
            inputs.dropout.into(),
            rows,
            inputs.width(),
            inputs.eps,
            y.any(),
            null_mut(),
        )
    })?;
    y.to_vec()
}

/// The backward of [`layer_norm`]: the gradients of the residual and of x. Adds those of weight and bias to `sums`.
///
/// # Errors
/// As [`layer_norm`].
pub fn layer_norm_backward<T: Element>(
    inputs: &NormInputs<'_, T>,
    dy: &[T],
    sums: [&mut [f32]; 2],
) -> Result<[Vec<T>; 2]> {
    let rows = inputs.rows()?;
    if dy.len() != inputs.x.len() || sums.iter().any(|sum| sum.len() != inputs.weight.len()) {
        bail!("layer_norm_backward: dy {} for x {}", dy.len(), inputs.x.len());
    }
    let dsum = Buffer::<T>::room(inputs.x.len())?;
    let dx = inputs.dropout.map(|_| Buffer::<T>::room(inputs.x.len())).transpose()?;
    let partials = Buffer::<f32>::room(2 * (rows as usize).div_ceil(CHUNK_ROWS) * inputs.weight.len())?;
    let (x, residual, dy) = (Buffer::of(inputs.x)?, buffer_of(inputs.residual)?, Buffer::of(dy)?);
    let (weight, dweight, dbias) = (Buffer::of(inputs.weight)?, Buffer::of(sums[0])?, Buffer::of(sums[1])?);
    let launch = of_type::<T, ffi::LayerNormBackward>(
        ffi::epitome_layer_norm_backward_f32,
        ffi::epitome_layer_norm_backward_bf16,
    );
    // SAFETY: as in `layer_norm`; without dropout no gradient of x is written.
    check("layer_norm_backward", unsafe {
        launch(
            x.any(),
            address_of(&residual).cast(),
            weight.pointer(),
            inputs.dropout.into(),
            rows,
            inputs.width(),
            inputs.eps,
            dy.any(),
            dsum.any(),
            address_of(&dx).cast(),
            dweight.pointer(),
            dbias.pointer(),
            partials.pointer(),
            null_mut(),
        )
    })?;
    sums[0].copy_from_slice(&dweight.to_vec()?);
    sums[1].copy_from_slice(&dbias.to_vec()?);
    Ok([dsum.to_vec()?, dx.as_ref().unwrap_or(&dsum).to_vec()?])
}

/// GELU of x `[rows, d]` plus the bias `[d]`.
///
/// # Errors
/// When shapes do not fit, or a launch fails.
pub fn bias_gelu<T: Element>(x: &[T], bias: &[f32]) -> Result<Vec<T>> {
    let rows = rows_of("bias_gelu", x.len(), bias.len())?;
    let width = bias.len() as c_int;
    let (x, bias, y) = (Buffer::of(x)?, Buffer::of(bias)?, Buffer::<T>::room(x.len())?);
    let launch = of_type::<T, ffi::BiasGelu>(ffi::epitome_bias_gelu_f32, ffi::epitome_bias_gelu_bf16);
    // SAFETY: the buffers have the shapes that `rows` and `width` say.
    check("bias_gelu", unsafe { launch(x.any(), bias.pointer(), y.any(), rows as i64, width, null_mut()) })?;
    y.to_vec()
}

/// The backward of [`bias_gelu`]: the gradient of x. Adds that of the bias to `bias_sum`.
///
/// # Errors
/// As [`bias_gelu`].
pub fn bias_gelu_backward<T: Element>(x: &[T], bias: &[f32], dy: &[T], bias_sum: &mut [f32]) -> Result<Vec<T>> {
    let rows = rows_of("bias_gelu_backward", x.len(), bias.len())?;
    if dy.len() != x.len() || bias_sum.len() != bias.len() {
        bail!("bias_gelu_backward: dy {} for x {}", dy.len(), x.len());
    }
    let width = bias.len() as c_int;
    let partials = Buffer::<f32>::room(rows.div_ceil(CHUNK_ROWS) * bias.len())?;
    let (dx, sum) = (Buffer::<T>::room(x.len())?, Buffer::of(bias_sum)?);
    let (x, bias, dy) = (Buffer::of(x)?, Buffer::of(bias)?, Buffer::of(dy)?);
    let launch =
        of_type::<T, ffi::BiasGeluBackward>(ffi::epitome_bias_gelu_backward_f32, ffi::epitome_bias_gelu_backward_bf16);
    // SAFETY: as in `bias_gelu`.
    check("bias_gelu_backward", unsafe {
        launch(
            x.any(),
            bias.pointer(),
            dy.any(),
            dx.any(),
            sum.pointer(),
            partials.pointer(),
            rows as i64,
            width,
            null_mut(),
        )
    })?;
    bias_sum.copy_from_slice(&sum.to_vec()?);
    dx.to_vec()
}

/// `dropout_part`: element i of x has index `first + i`.
///
/// # Errors
/// When a launch fails.
pub fn dropout_part<T: Element>(x: &[T], dropout: Option<Dropout>, first: u64) -> Result<Vec<T>> {
    let count = x.len() as i64;
    let (x, y) = (Buffer::of(x)?, Buffer::<T>::room(x.len())?);
    let launch = of_type::<T, ffi::ApplyDropout>(ffi::epitome_dropout_f32, ffi::epitome_dropout_bf16);
    // SAFETY: both buffers have as many numbers.
    check("dropout", unsafe { launch(x.any(), y.any(), dropout.into(), first, count, null_mut()) })?;
    y.to_vec()
}

/// f32 rounded to bf16.
///
/// # Errors
/// When a launch fails.
pub fn round_to_bf16(x: &[f32]) -> Result<Vec<bf16>> {
    let (count, y) = (x.len() as i64, Buffer::<bf16>::room(x.len())?);
    // SAFETY: both buffers have as many numbers.
    check("round_to_bf16", unsafe {
        ffi::epitome_round_to_bf16(Buffer::of(x)?.pointer(), y.any(), count, null_mut())
    })?;
    y.to_vec()
}

/// bf16 as f32.
///
/// # Errors
/// When a launch fails.
pub fn widen_to_f32(x: &[bf16]) -> Result<Vec<f32>> {
    let (count, y) = (x.len() as i64, Buffer::<f32>::room(x.len())?);
    // SAFETY: both buffers have as many numbers.
    check("widen_to_f32", unsafe { ffi::epitome_widen_to_f32(Buffer::of(x)?.any(), y.pointer(), count, null_mut()) })?;
    y.to_vec()
}

/// Rows `ids` of a table `[V, d]`, plus those of a table of positions, if there is one.
///
/// # Errors
/// When shapes do not fit, an id is not below V, or a launch fails.
pub fn embed<T: Element>(width: usize, words: (&[T], &[u32]), positions: Option<(&[T], &[u32])>) -> Result<Vec<T>> {
    for (table, ids) in [words].into_iter().chain(positions) {
        let rows = rows_of("embed", table.len(), width)?;
        if ids.len() != words.1.len() || ids.iter().any(|id| *id as usize >= rows) {
            bail!("embed: {} ids of a table of {rows} rows for {} rows", ids.len(), words.1.len());
        }
    }
    let (rows, y) = (words.1.len() as i64, Buffer::<T>::room(words.1.len() * width)?);
    let (table, ids) = (Buffer::of(words.0)?, Buffer::of(words.1)?);
    let (places, place_ids) =
        (buffer_of(positions.map(|(table, _)| table))?, buffer_of(positions.map(|(_, ids)| ids))?);
    let launch = of_type::<T, ffi::Embed>(ffi::epitome_embed_f32, ffi::epitome_embed_bf16);
    // SAFETY: all ids are rows of their tables.
    check("embed", unsafe {
        launch(
            table.any(),
            ids.pointer(),
            address_of(&places).cast(),
            address_of(&place_ids),
            y.any(),
            rows,
            width as c_int,
            null_mut(),
        )
    })?;
    y.to_vec()
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

/// `sums[ids[t]] += gradient[t]` for all t but those of padding: sums `[V, d]`, gradient `[T, d]`.
///
/// # Errors
/// When shapes do not fit, an id is not below V, or a launch fails.
pub fn accumulate_rows<T: Element>(
    sums: &mut [f32],
    ids: &[u32],
    gradient: &[T],
    width: usize,
    skip: Option<u32>,
) -> Result<()> {
    let (rows, count) = (rows_of("accumulate_rows", sums.len(), width)?, ids.len());
    if gradient.len() != count * width || ids.iter().any(|id| *id as usize >= rows) {
        bail!("accumulate_rows: {count} ids and {} numbers into {rows} rows of {width}", gradient.len());
    }
    let Places { ids, starts, places } = Places::new(ids, skip);
    let count = ids.len() as c_int;
    let (ids, starts, places) = (Buffer::of(&ids)?, Buffer::of(&starts)?, Buffer::of(&places)?);
    let (running, gradient) = (Buffer::of(sums)?, Buffer::of(gradient)?);
    let launch = of_type::<T, ffi::AccumulateRows>(ffi::epitome_accumulate_rows_f32, ffi::epitome_accumulate_rows_bf16);
    // SAFETY: ids are rows of `sums`, places are rows of `gradient`.
    check("accumulate_rows", unsafe {
        launch(
            running.pointer(),
            gradient.any(),
            ids.pointer(),
            starts.pointer(),
            places.pointer(),
            count,
            width as c_int,
            null_mut(),
        )
    })?;
    sums.copy_from_slice(&running.to_vec()?);
    Ok(())
}

fn rows_of(op: &str, count: usize, width: usize) -> Result<usize> {
    if width == 0 || !count.is_multiple_of(width) {
        bail!("{op}: {count} numbers are not rows of {width}");
    }
    Ok(count / width)
}
