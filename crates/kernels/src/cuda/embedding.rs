//! Look-ups in tables and their gradients by the kernels of `cuda/rows/embedding.cu`.

use super::element::{FLOATS, of_type};
use super::place::{self, address, address_mut, dense, room, stream};
use super::step::Step;
use super::{check, ffi};
use candle_core::{DType, Result, Tensor, bail};
use std::ffi::{c_int, c_void};
use std::ptr::null;

/// Rows `ids` of a table `[V, d]`, plus those of a table of positions, if there is one, of the same type: in f32, if the tables are, or
/// in bf16.
///
/// # Errors
/// When shapes or types do not fit, an id is not below V, or a launch fails.
pub fn embed(words: (&Tensor, &[u32]), positions: Option<(&Tensor, &[u32])>, dtype: DType) -> Result<Tensor> {
    let op = "embed";
    let (width, count, device) = (words.0.dim(1)?, words.1.len(), words.0.device());
    let mut dense_tables = Vec::new();
    for (table, ids) in [words].into_iter().chain(positions) {
        let (rows, columns) = table.dims2()?;
        if columns != width || ids.len() != count || ids.iter().any(|id| *id as usize >= rows) {
            bail!("{op}: {} ids of a table {:?} for {count} rows", ids.len(), table.dims());
        }
        let dtypes = if dense_tables.is_empty() { &FLOATS[..] } else { &[words.0.dtype()] };
        dense_tables.push((dense(op, table, dtypes)?, place::words(ids, device)?));
    }
    let y = room((count, width), dtype, device)?;
    let lie = |(table, ids): &(Tensor, Tensor)| Ok::<_, candle_core::Error>((address(table)?, address(ids)?.cast()));
    let positions = dense_tables.get(1).map_or(Ok((null(), null())), lie)?;
    launch_embed(words.0.dtype(), lie(&dense_tables[0])?, positions, &y)?;
    Ok(y)
}

/// A table and the rows of it that are looked up.
type Looked = (*const c_void, *const u32);

/// Of tables of a type, ids of which are rows, as many as y has rows.
fn launch_embed(tables: DType, (table, ids): Looked, (places, place_ids): Looked, y: &Tensor) -> Result<()> {
    let op = "embed";
    let (count, width) = y.dims2()?;
    let launch: ffi::Embed = match (tables, y.dtype()) {
        (DType::F32, DType::F32) => ffi::epitome_embed_f32,
        (DType::F32, DType::BF16) => ffi::epitome_embed_f32_bf16,
        (DType::BF16, DType::BF16) => ffi::epitome_embed_bf16,
        (tables, sum) => bail!("{op}: no kernel for a sum in {sum:?} of rows in {tables:?}"),
    };
    let (to, stream) = (address_mut(y)?, stream(y.device())?);
    // SAFETY: all ids are rows of their tables.
    check(op, unsafe { launch(table, ids, places, place_ids, to, count as i64, width as c_int, stream) })
}

/// [`embed`] of the tokens and positions of a decoding step.
///
/// # Errors
/// When shapes or types do not fit, or a launch fails.
pub(crate) fn embed_step(words: &Tensor, positions: &Tensor, step: &Step, dtype: DType) -> Result<Tensor> {
    let op = "embed_step";
    let (words, positions) = (dense(op, words, &FLOATS)?, dense(op, positions, &[words.dtype()])?);
    if positions.dim(1)? != words.dim(1)? {
        bail!("{op}: tables {:?} and {:?} have different widths", words.dims(), positions.dims());
    }
    let y = room((step.rows, words.dim(1)?), dtype, words.device())?;
    launch_embed(words.dtype(), (address(&words)?, step.part(0)?), (address(&positions)?, step.part(1)?), &y)?;
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
    let [ids, starts, places] = [&ids, &starts, &places].map(|words| place::words(words, device));
    let (ids, starts, places) = (ids?, starts?, places?);
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
