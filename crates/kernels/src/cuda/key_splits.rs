//! Attention of few queries to many keys, whose keys are split so that there are enough blocks of queries.

use super::attention::{attend, gradients};
use super::indexed::gather_rows;
use super::place::{self, address, address_mut, room, stream};
use super::plan::BLOCK;
use super::units::Units;
use super::{check, ffi};
use crate::ops::attention::Attended;
use crate::random::active;
use crate::{Attention, RowIndex, Segments, Visibility};
use candle_core::{DType, Result, Tensor};
use std::ffi::c_int;

/// Blocks of queries that keep a processor like the H100 busy: two on each of 132.
const ENOUGH: usize = 264;

/// Keys that a split has at least.
const LEAST_KEYS: usize = 1024;

/// A problem every document of which has become several, each with a copy of its queries and a part of its keys.
pub(super) struct KeySplits<'a> {
    queries: &'a Segments,
    /// Documents of one.
    count: usize,
    /// The queries' rows, once for every split of their document.
    copies: RowIndex,
    spec: Attention,
}

impl<'a> KeySplits<'a> {
    /// Of q `[Tq, H, D]`, if that is worth it. Dropout draws by the places of keys, which would change.
    pub(super) fn new(q: &Tensor, spec: &'a Attention, units: Units) -> Result<Option<Self>> {
        let (_, heads, size) = q.dims3()?;
        let queries = &spec.queries;
        let plain = spec.visibility == Visibility::Full && active(spec.dropout).is_none();
        let blocks = queries.ranges().map(|rows| rows.len().div_ceil(BLOCK)).sum::<usize>() * heads;
        let longest = spec.keys.ranges().map(|rows| rows.len()).max().unwrap_or(0);
        if !plain || units.that_fit(q.device(), q.dtype(), size)? == Units::Plain || blocks == 0 {
            return Ok(None);
        }
        let count = (ENOUGH / blocks).min(longest / LEAST_KEYS);
        if count < 2 {
            return Ok(None);
        }
        let lengths = queries.ranges().flat_map(|rows| std::iter::repeat_n(rows.len(), count));
        let segments = Segments::from_lengths(&lengths.collect::<Vec<_>>());
        let copies =
            RowIndex::new(queries.ranges().flat_map(|rows| std::iter::repeat_n(rows, count).flatten()).collect());
        let parts = |keys: usize| (0..count).map(move |part| keys * (part + 1) / count - keys * part / count);
        let keys = Segments::from_lengths(&spec.keys.ranges().flat_map(|rows| parts(rows.len())).collect::<Vec<_>>());
        Ok(Some(Self { queries, count, copies, spec: Attention { queries: segments, keys, ..spec.clone() } }))
    }

    /// [`attention_forward`](super::attention_forward).
    pub(super) fn attend(&self, [q, k, v]: [&Tensor; 3], units: Units) -> Result<Attended> {
        let parts = attend([&gather_rows(q, &self.copies)?, k, v], &self.spec, units)?;
        let ((rows, heads, size), device) = (q.dims3()?, q.device());
        let output = room(q.shape(), q.dtype(), device)?;
        let log_sum_exp = room((heads, rows), DType::F32, device)?;
        let offsets = self.offsets(q)?;
        // SAFETY: the tensors have the shapes that splits, rows, heads and size say.
        check("attention_forward", unsafe {
            ffi::epitome_attention_merge_splits_bf16(
                address(&offsets)?.cast(),
                self.count as c_int,
                rows as c_int,
                heads as c_int,
                size as c_int,
                address(&parts.output)?,
                address(&parts.log_sum_exp)?.cast(),
                address_mut(&output)?,
                address_mut(&log_sum_exp)?.cast(),
                stream(device)?,
            )
        })?;
        Ok(Attended { output, log_sum_exp })
    }

    /// [`attention_backward`](super::attention_backward).
    pub(super) fn gradients(
        &self,
        [q, k, v]: [&Tensor; 3],
        attended: &Attended,
        gradient: &Tensor,
        units: Units,
    ) -> Result<[Tensor; 3]> {
        let copied = |tensor: &Tensor| gather_rows(tensor, &self.copies);
        let copies =
            Attended { output: copied(&attended.output)?, log_sum_exp: self.copied_columns(&attended.log_sum_exp)? };
        let gradient = copied(gradient)?;
        let [parts, dk, dv] = gradients([&copied(q)?, k, v], &self.spec, &copies, &gradient, units)?;
        let ((rows, heads, size), device) = (q.dims3()?, q.device());
        let dq = room(q.shape(), q.dtype(), device)?;
        let offsets = self.offsets(q)?;
        // SAFETY: as in `attend`.
        check("attention_backward", unsafe {
            ffi::epitome_attention_add_splits_bf16(
                address(&offsets)?.cast(),
                self.count as c_int,
                rows as c_int,
                heads as c_int,
                size as c_int,
                address(&parts)?,
                address_mut(&dq)?,
                stream(device)?,
            )
        })?;
        Ok([dq, dk, dv])
    }

    /// Columns `[.., R]` as `copies` are rows.
    fn copied_columns(&self, tensor: &Tensor) -> Result<Tensor> {
        let mut parts = Vec::new();
        for rows in self.queries.ranges().filter(|rows| !rows.is_empty()) {
            let own = tensor.narrow(1, rows.start, rows.len())?;
            parts.extend(std::iter::repeat_n(own, self.count));
        }
        Tensor::cat(&parts, 1)?.contiguous()
    }

    /// Where each document's queries begin, then their number.
    fn offsets(&self, q: &Tensor) -> Result<Tensor> {
        let offsets = [0].into_iter().chain(self.queries.ranges().map(|rows| rows.end as u32)).collect::<Vec<u32>>();
        place::words(&offsets, q.device())
    }
}
