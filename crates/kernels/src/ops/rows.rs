//! [`RowIndex`], [`write_rows`], [`add_rows`], [`gather_rows`], [`embed`], [`accumulate_rows`].

use super::{compute, cpu_values, cpu_values_mut, refuse_shared, refuse_tracked, tensor, update, values, with_values};
use crate::cpu::linear::add;
use crate::cpu::rows as kernel;
#[cfg(gpu)]
use crate::cuda;
#[cfg(gpu)]
use candle_core::Device;
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor, bail};
#[cfg(gpu)]
use std::sync::OnceLock;

/// Rows of a tensor, in an order of their own.
#[derive(Clone, Debug)]
pub struct RowIndex {
    rows: Vec<usize>,
    /// The same on the first GPU that asked for them.
    #[cfg(gpu)]
    words: OnceLock<Tensor>,
}

impl RowIndex {
    /// These rows.
    pub fn new(rows: Vec<usize>) -> Self {
        Self {
            rows,
            #[cfg(gpu)]
            words: OnceLock::new(),
        }
    }

    /// In their order.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As words on a GPU.
    #[cfg(gpu)]
    pub(crate) fn words(&self, device: &Device) -> Result<Tensor> {
        if let Some(words) = self.words.get().filter(|words| words.device().same_device(device)) {
            return Ok(words.clone());
        }
        let rows: Vec<u32> = self.rows.iter().map(|row| *row as u32).collect();
        let words = Tensor::from_vec(rows, self.rows.len(), device)?;
        // Another device's are kept, if there are.
        let _ = self.words.set(words.clone());
        Ok(words)
    }

    /// Checks that they are rows of `x` and returns the number of values of a row.
    fn check(&self, op: &str, x: &Tensor) -> Result<usize> {
        let [rows, row @ ..] = x.dims() else { bail!("{op} needs at least one dimension, not a scalar") };
        if let Some(outside) = self.rows.iter().find(|index| *index >= rows) {
            bail!("{op}: there is no row {outside} in shape {:?}", x.dims());
        }
        Ok(row.iter().product())
    }
}

/// Writes `rows` `[G, ..]` over the rows `index` of `base` `[T, ..]`, in place.
///
/// # Errors
/// When the shapes do not fit, or `index` leaves `base`.
pub fn write_rows(base: &Tensor, index: &RowIndex, rows: &Tensor) -> Result<()> {
    let width = check_rows("write_rows", base, index, rows)?;
    #[cfg(gpu)]
    if cuda::runs_on(base.device()) {
        return cuda::write_rows(base, index, rows);
    }
    change_rows("write_rows", base, index, rows, width, |row, values| row.copy_from_slice(values))
}

/// Adds `rows` `[G, ..]` to the rows `index` of `base` `[T, ..]`, each of which is there once, in place.
///
/// # Errors
/// As [`write_rows`].
pub fn add_rows(base: &Tensor, index: &RowIndex, rows: &Tensor) -> Result<()> {
    let width = check_rows("add_rows", base, index, rows)?;
    #[cfg(gpu)]
    if cuda::runs_on(base.device()) {
        return cuda::add_rows(base, index, rows);
    }
    change_rows("add_rows", base, index, rows, width, add)
}

fn check_rows(op: &str, base: &Tensor, index: &RowIndex, rows: &Tensor) -> Result<usize> {
    let width = index.check(op, base)?;
    if rows.dims().first() != Some(&index.len()) || rows.dims()[1..] != base.dims()[1..] {
        bail!("{op}: {} rows {:?} do not fit base {:?}", index.len(), rows.dims(), base.dims());
    }
    refuse_shared(op, base, &[rows])?;
    Ok(width)
}

fn change_rows(
    op: &str,
    base: &Tensor,
    index: &RowIndex,
    rows: &Tensor,
    width: usize,
    change: impl Fn(&mut [f32], &[f32]),
) -> Result<()> {
    with_values(op, [&rows.contiguous()?], |[rows]| {
        update(base, |base| {
            for (values, at) in rows.chunks_exact(width.max(1)).zip(index.rows()) {
                change(&mut base[at * width..][..width], values);
            }
        })
    })?
}

/// The rows `index` of `x` `[T, ..]`, as `[index.len(), ..]`; a row may be taken more than once. Records no graph: the backward of
/// rows that are taken once is [`add_rows`].
///
/// # Errors
/// When `index` leaves `x`, or x is in a graph.
pub fn gather_rows(x: &Tensor, index: &RowIndex) -> Result<Tensor> {
    let width = index.check("gather_rows", x)?;
    #[cfg(gpu)]
    if cuda::runs_on(x.device()) {
        return cuda::gather_rows(x, index);
    }
    let rows = compute("gather_rows", [x], |[x]| kernel::gather(x, index.rows(), width))?;
    let mut shape = x.dims().to_vec();
    shape[0] = index.len();
    tensor(rows, shape)
}

/// Sum over `(table, ids)` of the tables' rows `ids`: tables `[V, d]`, all `ids` T long, the result `[T, d]` in the type `dtype`, which
/// is f32 on the CPU. Records no graph: [`accumulate_rows`] is its backward.
///
/// # Errors
/// When widths or numbers of ids differ, there is no table, a table is in a graph, an id is not below its table's V, or there is no such
/// result of the tables' type.
pub fn embed(tables: &[(&Tensor, &[u32])], dtype: DType) -> Result<Tensor> {
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
            [words] => cuda::embed(words, None, dtype),
            [words, positions] => cuda::embed(words, Some(positions), dtype),
            _ => bail!("embed: {} tables; a GPU has two at most", tables.len()),
        };
    }
    if dtype != DType::F32 {
        bail!("embed: a result in {dtype:?} on the CPU");
    }
    let tensors = tables.iter().map(|(table, _)| table.contiguous()).collect::<Result<Vec<_>>>()?;
    let locked: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let mut slices = Vec::with_capacity(tables.len());
    for ((storage, layout), (_, ids)) in locked.iter().zip(tables) {
        slices.push((values("embed", storage, layout)?, *ids));
    }
    tensor(kernel::embed(&slices, width), (ids.len(), width))
}

/// `accumulator[ids[t]] += gradient[t]` in place: `accumulator` `[V, d]`, `gradient` `[T, d]`. Rows
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
