//! [`AttentionMemory`].

use super::{tensor, with_values};
use crate::cpu::memory_attention::{HeadMemory, Queries, Stored, attend};
use crate::cpu::tile::{Bf16x2, Int8x2};
use crate::cpu::view::View;
use crate::{Precision, Segments};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// Keys and values of encoded documents as the few queries of decoding steps read them: in f32, bf16, or
/// bytes with a scale for each row of a head.
#[derive(Clone, Debug)]
pub struct AttentionMemory {
    stored: Heads,
    /// Rows of each document.
    documents: usize,
    heads: usize,
    head_size: usize,
}

/// The heads of the first document, then of the next.
#[derive(Clone, Debug)]
enum Heads {
    F32(Vec<HeadMemory<f32>>),
    Bf16(Vec<HeadMemory<Bf16x2>>),
    Int8(Vec<HeadMemory<Int8x2>>),
}

impl AttentionMemory {
    /// Copies `keys` and `values` `[S, H, D]` of the documents `segments`.
    ///
    /// # Errors
    /// When the shapes do not fit, or the tensors are not f32 on the CPU.
    pub fn new(keys: &Tensor, values: &Tensor, segments: &Segments, precision: Precision) -> Result<Self> {
        let (total, heads, head_size) = keys.dims3()?;
        if values.dims() != keys.dims() || total != segments.total() || head_size == 0 {
            let total = segments.total();
            bail!("AttentionMemory: keys {:?}, values {:?} and {total} rows do not fit", keys.dims(), values.dims());
        }
        let (keys, values) = (keys.contiguous()?, values.contiguous()?);
        let stored = with_values("AttentionMemory", [&keys, &values], |[keys, values]| {
            let sizes = (heads, head_size);
            match precision {
                Precision::F32 => Heads::F32(split(keys, values, segments, sizes)),
                Precision::Bf16 => Heads::Bf16(split(keys, values, segments, sizes)),
                Precision::Int8 => Heads::Int8(split(keys, values, segments, sizes)),
            }
        })?;
        Ok(Self { stored, documents: segments.count(), heads, head_size })
    }

    /// `softmax(scale q k^T) v` of each row of `query` `[R, H, D]` over all keys of its document; `rows` says how many
    /// consecutive rows each document has, none for a finished one. Returns `[R, H, D]`; a row is the same to the bit
    /// whatever rows and documents are beside it. Records no graph.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn attend(&self, query: &Tensor, rows: &Segments, scale: f32) -> Result<Tensor> {
        if query.dims() != [rows.total(), self.heads, self.head_size] || rows.count() != self.documents {
            bail!(
                "AttentionMemory::attend: query {:?} for {} rows of {} documents; there are {} of {} heads of {}",
                query.dims(),
                rows.total(),
                rows.count(),
                self.documents,
                self.heads,
                self.head_size
            );
        }
        let context = with_values("AttentionMemory::attend", [&query.contiguous()?], |[query]| match &self.stored {
            Heads::F32(heads) => self.context(heads, query, rows, scale),
            Heads::Bf16(heads) => self.context(heads, query, rows, scale),
            Heads::Int8(heads) => self.context(heads, query, rows, scale),
        })?;
        tensor(context, query.shape())
    }

    fn context<W: Stored>(&self, memories: &[HeadMemory<W>], query: &[f32], rows: &Segments, scale: f32) -> Vec<f32> {
        let document = |(document, rows): (usize, std::ops::Range<usize>)| {
            let memories = memories[document * self.heads..][..self.heads].iter().enumerate();
            memories.map(move |(head, memory)| Queries { memory, rows: rows.clone(), head })
        };
        let active = rows.ranges().enumerate().filter(|(_, rows)| !rows.is_empty());
        let queries: Vec<Queries<'_, W>> = active.flat_map(document).collect();
        attend(query, self.heads, self.head_size, scale, &queries)
    }
}

/// Orders keys and values by document and head.
fn split<W: Stored>(
    keys: &[f32],
    values: &[f32],
    segments: &Segments,
    (heads, size): (usize, usize),
) -> Vec<HeadMemory<W>> {
    let places = segments.ranges().flat_map(|rows| (0..heads).map(move |head| (rows.clone(), head)));
    let places: Vec<_> = places.collect();
    let head = |(rows, head): (std::ops::Range<usize>, usize)| {
        let view = |tensor| {
            View::dense(tensor, segments.total(), heads * size).part(rows.clone(), head * size..(head + 1) * size)
        };
        W::memory(view(keys), view(values))
    };
    places.into_par_iter().map(head).collect()
}
