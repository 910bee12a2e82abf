//! Rows by their numbers, by the kernels of `cuda/rows/indexed.cu`.

use super::element::{FLOATS, of_type};
use super::place::{address, address_mut, dense, room, stream};
use super::{check, ffi};
use crate::RowIndex;
use candle_core::{Result, Tensor};
use std::ffi::c_int;

/// `Change` of `cuda/rows/indexed.cu`.
#[derive(Clone, Copy)]
enum Change {
    Gather,
    Write,
    Add,
}

/// [`gather_rows`](crate::gather_rows), checked.
///
/// # Errors
/// When the type does not fit or the launch fails.
pub fn gather_rows(x: &Tensor, index: &RowIndex) -> Result<Tensor> {
    let x = dense("gather_rows", x, &FLOATS)?;
    let mut shape = x.dims().to_vec();
    shape[0] = index.len();
    let rows = room(shape, x.dtype(), x.device())?;
    change("gather_rows", Change::Gather, &x, index, &rows)?;
    Ok(rows)
}

/// [`write_rows`](crate::write_rows), checked; rows of another type are rounded.
///
/// # Errors
/// As [`gather_rows`].
pub fn write_rows(base: &Tensor, index: &RowIndex, rows: &Tensor) -> Result<()> {
    let rows = dense("write_rows", &rows.detach().to_dtype(base.dtype())?, &FLOATS)?;
    change("write_rows", Change::Write, base, index, &rows)
}

/// [`add_rows`](crate::add_rows), checked; rows of another type are rounded.
///
/// # Errors
/// As [`gather_rows`].
pub fn add_rows(base: &Tensor, index: &RowIndex, rows: &Tensor) -> Result<()> {
    let rows = dense("add_rows", &rows.detach().to_dtype(base.dtype())?, &FLOATS)?;
    change("add_rows", Change::Add, base, index, &rows)
}

fn change(op: &str, change: Change, matrix: &Tensor, index: &RowIndex, rows: &Tensor) -> Result<()> {
    if rows.elem_count() == 0 {
        return Ok(());
    }
    let [f32, bf16]: [ffi::ChangeRows; 2] = [ffi::epitome_change_rows_f32, ffi::epitome_change_rows_bf16];
    let launch = of_type(op, matrix.dtype(), f32, bf16)?;
    let device = matrix.device();
    let (words, count, width) = (index.words(device)?, index.len() as c_int, (rows.elem_count() / index.len()) as i64);
    let (own, other) = (address_mut(matrix)?, address_mut(rows)?);
    // SAFETY: the rows are those of the index, each of as many numbers, all of which the matrix has.
    check(op, unsafe { launch(change as c_int, own, address(&words)?.cast(), other, count, width, stream(device)?) })
}
