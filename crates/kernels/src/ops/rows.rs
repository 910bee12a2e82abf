//! [`write_rows`], [`add_rows`], [`gather_rows`], [`embed`], [`accumulate_rows`].

use super::{cpu_values, cpu_values_mut, output, refuse_shared, refuse_tracked, tensor, update, values, with_values};
use crate::cpu::rows as kernel;
#[cfg(gpu)]
use crate::cuda;
use candle_core::{CpuStorage, CustomOp1, InplaceOp2, Layout, Result, Shape, Tensor, bail};

/// Writes `rows` `[G, ..]` over the rows `index` of `base` `[T, ..]`, in place and outside the graph.
///
/// # Errors
/// When the shapes do not fit, or `index` leaves `base`.
pub fn write_rows(base: &Tensor, index: &[usize], rows: &Tensor) -> Result<()> {
    let width = check_index("write_rows", base, index)?;
    if rows.dims().first() != Some(&index.len()) || rows.dims()[1..] != base.dims()[1..] {
        bail!("write_rows: {} rows {:?} do not fit base {:?}", index.len(), rows.dims(), base.dims());
    }
    let rows = rows.contiguous()?;
    refuse_shared("write_rows", base, &[&rows])?;
    #[cfg(gpu)]
    if cuda::runs_on(base.device()) {
        return gpu_write(base, index, &rows);
    }
    with_values("write_rows", [&rows], |[rows]| {
        update(base, |base| {
            for (row, at) in rows.chunks_exact(width.max(1)).zip(index) {
                base[at * width..][..width].copy_from_slice(row);
            }
        })
    })?
}

/// Adds `rows` `[G, ..]` to the rows `index` of `base` `[T, ..]`, each of which is there once, in place and outside the graph.
///
/// # Errors
/// As [`write_rows`].
pub fn add_rows(base: &Tensor, index: &[usize], rows: &Tensor) -> Result<()> {
    let sums = gather_rows(&base.detach(), index)?.add(&rows.detach().to_dtype(base.dtype())?)?;
    write_rows(base, index, &sums)
}

/// A copy for each run of rows that follow one another in both.
#[cfg(gpu)]
fn gpu_write(base: &Tensor, index: &[usize], rows: &Tensor) -> Result<()> {
    let rows = rows.detach().to_dtype(base.dtype())?;
    let mut first = 0;
    for run in index.chunk_by(|row, next| row + 1 == *next) {
        base.slice_set(&rows.narrow(0, first, run.len())?.contiguous()?, 0, run[0])?;
        first += run.len();
    }
    Ok(())
}

/// The rows `index` of `x` `[T, ..]`, as `[index.len(), ..]`. Differentiable; a row may be taken more than once.
///
/// # Errors
/// When `index` leaves `x`.
pub fn gather_rows(x: &Tensor, index: &[usize]) -> Result<Tensor> {
    let width = check_index("gather_rows", x, index)?;
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        let index: Vec<u32> = index.iter().map(|row| *row as u32).collect();
        return x.contiguous()?.index_select(&Tensor::from_slice(&index, index.len(), x.device())?, 0);
    }
    x.contiguous()?.apply_op1(GatherRows { index: index.to_vec(), width })
}

/// Checks that `index` stays within `x` and returns the number of values of a row.
fn check_index(op: &str, x: &Tensor, index: &[usize]) -> Result<usize> {
    let [rows, row @ ..] = x.dims() else { bail!("{op} needs at least one dimension, not a scalar") };
    if let Some(outside) = index.iter().find(|index| *index >= rows) {
        bail!("{op}: there is no row {outside} in shape {:?}", x.dims());
    }
    Ok(row.iter().product())
}

struct GatherRows {
    index: Vec<usize>,
    width: usize,
}

impl CustomOp1 for GatherRows {
    fn name(&self) -> &'static str {
        "gather_rows"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let rows = kernel::gather(cpu_values(self.name(), x, layout)?, &self.index, self.width);
        let mut dims = layout.dims().to_vec();
        dims[0] = self.index.len();
        Ok(output(rows, dims))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = vec![0.0; x.elem_count()];
        with_values(self.name(), [&dy.contiguous()?], |[dy]| {
            kernel::accumulate(&mut dx, dy, self.width, |t| Some(self.index[t]));
        })?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}

/// Sum over `(table, ids)` of the tables' rows `ids`: tables `[V, d]`, all `ids` T long, the result `[T, d]`. Records no
/// graph: [`accumulate_rows`] is its backward.
///
/// # Errors
/// When widths or numbers of ids differ, there is no table, a table is in a graph, or an id is not below its table's V.
pub fn embed(tables: &[(&Tensor, &[u32])]) -> Result<Tensor> {
    let Some((first, ids)) = tables.first() else { bail!("embed needs at least one table") };
    let (_, width) = first.dims2()?;
    for (table, other) in tables {
        refuse_tracked("embed", table)?;
        let (rows, other_width) = table.dims2()?;
        if other_width != width || other.len() != ids.len() {
            bail!(
                "embed: table {:?} with {} ids beside {:?} with {}",
                table.dims(),
                other.len(),
                first.dims(),
                ids.len()
            );
        }
        if let Some(id) = other.iter().find(|id| **id as usize >= rows) {
            bail!("embed: id {id} is not in a table of {rows} rows");
        }
    }
    #[cfg(gpu)]
    if cuda::runs_on(first.device()) {
        return match *tables {
            [words] => cuda::embed(words, None),
            [words, positions] => cuda::embed(words, Some(positions)),
            _ => bail!("embed: {} tables; a GPU has two at most", tables.len()),
        };
    }
    let tensors = tables.iter().map(|(table, _)| table.contiguous()).collect::<Result<Vec<_>>>()?;
    let locked: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let mut slices = Vec::with_capacity(tables.len());
    for ((storage, layout), (_, ids)) in locked.iter().zip(tables) {
        slices.push((values("embed", storage, layout)?, *ids));
    }
    tensor(kernel::embed(&slices, width), (ids.len(), width))
}

/// `accumulator[ids[t]] += gradient[t]` in place and outside the graph: `accumulator` `[V, d]`, `gradient` `[T, d]`. Rows
/// of the id `skip` (padding) receive nothing.
///
/// # Errors
/// When the shapes do not fit, or an id is not below V.
pub fn accumulate_rows(accumulator: &Tensor, ids: &[u32], gradient: &Tensor, skip: Option<u32>) -> Result<()> {
    let ((rows, width), (count, gradient_width)) = (accumulator.dims2()?, gradient.dims2()?);
    if width != gradient_width || count != ids.len() {
        bail!("accumulate_rows: {} ids, gradient {:?} into {:?}", ids.len(), gradient.dims(), accumulator.dims());
    }
    if let Some(id) = ids.iter().find(|id| **id as usize >= rows) {
        bail!("accumulate_rows: id {id} is not in a table of {rows} rows");
    }
    #[cfg(gpu)]
    if cuda::runs_on(accumulator.device()) {
        return cuda::accumulate_rows(accumulator, ids, gradient, skip);
    }
    accumulator.inplace_op2(&gradient.contiguous()?, &AccumulateRows { ids, width, skip })
}

struct AccumulateRows<'a> {
    ids: &'a [u32],
    width: usize,
    skip: Option<u32>,
}

impl InplaceOp2 for AccumulateRows<'_> {
    fn name(&self) -> &'static str {
        "accumulate_rows"
    }

    fn cpu_fwd(&self, sum: &mut CpuStorage, sum_layout: &Layout, rows: &CpuStorage, layout: &Layout) -> Result<()> {
        let sum = cpu_values_mut(self.name(), sum, sum_layout)?;
        let rows = cpu_values(self.name(), rows, layout)?;
        kernel::accumulate(sum, rows, self.width, |t| {
            let id = self.ids[t];
            (Some(id) != self.skip).then_some(id as usize)
        });
        Ok(())
    }
}
