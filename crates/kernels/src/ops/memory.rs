//! [`AttentionMemory`].

use super::{compute, tensor};
use crate::cpu::memory_attention::{HeadMemory, Queries, SpannedQueries, Stored, attend, attend_with_mass};
use crate::cpu::tile::{Bf16x2, Int8x2};
use crate::cpu::view::View;
#[cfg(gpu)]
use crate::cuda;
use crate::{Precision, Segments};
use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a document that are projected at a time: a multiple of a panel's width.
const ROWS: usize = 4096;

/// Keys and values of encoded documents as the few queries of decoding steps read them: in f32, bf16, or
/// bytes with a scale for each row of a head.
#[derive(Clone, Debug)]
pub struct AttentionMemory {
    stored: Heads,
    /// How many there are.
    documents: usize,
    heads: usize,
    head_size: usize,
    /// Instead of what is stored.
    #[cfg(gpu)]
    gpu: Option<cuda::Memory>,
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
    /// When the shapes do not fit, or the tensors are in a graph or not f32 on the CPU.
    pub fn new(keys: &Tensor, values: &Tensor, segments: &Segments, precision: Precision) -> Result<Self> {
        let (total, heads, head_size) = keys.dims3()?;
        if values.dims() != keys.dims() || total != segments.total() || head_size == 0 {
            let total = segments.total();
            bail!("AttentionMemory: keys {:?}, values {:?} and {total} rows do not fit", keys.dims(), values.dims());
        }
        let sizes = (heads, head_size);
        Self::project(segments, sizes, precision, keys.device(), |rows| {
            let part = |tensor: &Tensor| tensor.narrow(0, rows.start, rows.len());
            Ok::<_, candle_core::Error>([part(keys)?, part(values)?])
        })
    }

    /// Keeps keys and values of the documents `segments` on `device`, of which `project` gives those `[rows, H, D]` of some
    /// rows at a time, so that they are never in the CPU's memory whole in f32; on a GPU all rows at once.
    ///
    /// # Errors
    /// When shapes do not fit, the tensors are in a graph or not f32 on the CPU, or `project` fails.
    pub fn project<E: From<candle_core::Error>>(
        segments: &Segments,
        (heads, head_size): (usize, usize),
        precision: Precision,
        device: &Device,
        project: impl Fn(Range<usize>) -> std::result::Result<[Tensor; 2], E>,
    ) -> std::result::Result<Self, E> {
        if heads == 0 || head_size == 0 {
            Err(candle_core::Error::Msg(format!("AttentionMemory: {heads} heads of {head_size} numbers")))?;
        }
        #[cfg(gpu)]
        if cuda::runs_on(device) {
            let gpu = Some(cuda::Memory::new(project(0..segments.total())?, segments));
            return Ok(Self { stored: Heads::F32(Vec::new()), documents: segments.count(), heads, head_size, gpu });
        }
        #[cfg(not(gpu))]
        let _ = device;
        let lengths: Vec<usize> = segments.ranges().map(|rows| rows.len()).collect();
        let stored = match precision {
            Precision::F32 => Heads::F32(room(&lengths, heads, head_size)),
            Precision::Bf16 => Heads::Bf16(room(&lengths, heads, head_size)),
            Precision::Int8 => Heads::Int8(room(&lengths, heads, head_size)),
        };
        let mut memory = Self {
            stored,
            documents: segments.count(),
            heads,
            head_size,
            #[cfg(gpu)]
            gpu: None,
        };
        for (document, rows) in segments.ranges().enumerate() {
            for first in (0..rows.len()).step_by(ROWS) {
                let part = rows.start + first..rows.end.min(rows.start + first + ROWS);
                let [keys, values] = project(part.clone())?;
                memory.write(document, first..first + part.len(), &keys, &values)?;
            }
        }
        Ok(memory)
    }

    /// Writes keys and values `[part.len(), H, D]` of a document's rows `part`.
    fn write(&mut self, document: usize, part: Range<usize>, keys: &Tensor, values: &Tensor) -> Result<()> {
        let (rows, heads, size) = (part.len(), self.heads, self.head_size);
        if keys.dims() != [rows, heads, size] || values.dims() != keys.dims() {
            let wanted = [rows, heads, size];
            bail!("AttentionMemory: keys {:?} and values {:?} are not {wanted:?}", keys.dims(), values.dims());
        }
        let first = part.start;
        let own = document * heads..(document + 1) * heads;
        compute("AttentionMemory", [keys, values], |[keys, values]| {
            let [keys, values] = [keys, values].map(|values| View::dense(values, rows, heads * size));
            match &mut self.stored {
                Heads::F32(memories) => write(&mut memories[own], first, keys, values),
                Heads::Bf16(memories) => write(&mut memories[own], first, keys, values),
                Heads::Int8(memories) => write(&mut memories[own], first, keys, values),
            }
        })
    }

    /// `softmax(scale q k^T) v` of each row of `query` `[R, H, D]` over all keys of its document; `rows` says how many
    /// consecutive rows each document has, none for a finished one. Returns `[R, H, D]`; a row is the same to the bit
    /// whatever rows and documents are beside it. Records no graph.
    ///
    /// # Errors
    /// When shapes do not fit or `query` is in a graph.
    pub fn attend(&self, query: &Tensor, rows: &Segments, scale: f32) -> Result<Tensor> {
        self.check_query(query, rows)?;
        #[cfg(gpu)]
        if let Some(memory) = &self.gpu {
            return memory.attend(query, rows, scale);
        }
        let context = compute("AttentionMemory::attend", [query], |[query]| match &self.stored {
            Heads::F32(heads) => self.context(heads, query, rows, scale),
            Heads::Bf16(heads) => self.context(heads, query, rows, scale),
            Heads::Int8(heads) => self.context(heads, query, rows, scale),
        })?;
        tensor(context, query.shape())
    }

    /// [`attend`](Self::attend) with the queries of a step on a GPU.
    #[cfg(gpu)]
    pub(super) fn attend_step(&self, query: &Tensor, rows: &Segments, scale: f32, step: &cuda::Step) -> Result<Tensor> {
        self.check_query(query, rows)?;
        match &self.gpu {
            Some(memory) => memory.attend_step(query, rows, scale, step),
            None => bail!("AttentionMemory: a step on a GPU, but keys and values on the CPU"),
        }
    }

    /// As [`attend`](Self::attend) up to rounding, for many rows at a time, and where their attention lies: for each row
    /// the mean over the heads of the sum of `softmax(scale q k^T)` over each of its document's `spans` of keys, which are
    /// ascending and do not overlap. What lies on keys outside them is what is missing to 1.
    ///
    /// # Errors
    /// As [`attend`](Self::attend), or when the spans are not of this form.
    pub fn attend_with_mass(
        &self,
        query: &Tensor,
        rows: &Segments,
        scale: f32,
        spans: &[Vec<Range<usize>>],
    ) -> Result<(Tensor, Vec<Vec<f32>>)> {
        self.check_query(query, rows)?;
        self.check_spans(spans)?;
        #[cfg(gpu)]
        if let Some(memory) = &self.gpu {
            return memory.attend_with_mass(query, rows, scale, spans);
        }
        let (context, masses) = compute("AttentionMemory::attend_with_mass", [query], |[query]| match &self.stored {
            Heads::F32(heads) => self.context_and_mass(heads, query, rows, scale, spans),
            Heads::Bf16(heads) => self.context_and_mass(heads, query, rows, scale, spans),
            Heads::Int8(heads) => self.context_and_mass(heads, query, rows, scale, spans),
        })?;
        Ok((tensor(context, query.shape())?, masses))
    }

    fn check_query(&self, query: &Tensor, rows: &Segments) -> Result<()> {
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
        Ok(())
    }

    fn check_spans(&self, spans: &[Vec<Range<usize>>]) -> Result<()> {
        if spans.len() != self.documents {
            bail!(
                "AttentionMemory::attend_with_mass: spans of {} documents; there are {}",
                spans.len(),
                self.documents
            );
        }
        for (document, spans) in spans.iter().enumerate() {
            let keys = self.length(document);
            let ends = spans.iter().map(|span| span.start).skip(1).chain([keys]);
            if let Some((span, end)) =
                spans.iter().zip(ends).find(|(span, end)| span.start > span.end || span.end > *end)
            {
                bail!(
                    "AttentionMemory::attend_with_mass: span {span:?} of a document of {keys} keys is not before {end}"
                );
            }
        }
        Ok(())
    }

    /// Keys of a document.
    fn length(&self, document: usize) -> usize {
        #[cfg(gpu)]
        if let Some(memory) = &self.gpu {
            return memory.length(document);
        }
        let first = document * self.heads;
        match &self.stored {
            Heads::F32(heads) => heads[first].length(),
            Heads::Bf16(heads) => heads[first].length(),
            Heads::Int8(heads) => heads[first].length(),
        }
    }

    fn context_and_mass<W: Stored>(
        &self,
        memories: &[HeadMemory<W>],
        query: &[f32],
        rows: &Segments,
        scale: f32,
        spans: &[Vec<Range<usize>>],
    ) -> (Vec<f32>, Vec<Vec<f32>>) {
        let documents = memories.chunks_exact(self.heads).zip(rows.ranges()).zip(spans);
        let queries: Vec<SpannedQueries<'_, W>> =
            documents.map(|((heads, rows), spans)| SpannedQueries { heads, rows, spans }).collect();
        attend_with_mass(query, self.head_size, scale, &queries)
    }

    fn context<W: Stored>(&self, memories: &[HeadMemory<W>], query: &[f32], rows: &Segments, scale: f32) -> Vec<f32> {
        let document = |(document, rows): (usize, Range<usize>)| {
            let memories = memories[document * self.heads..][..self.heads].iter().enumerate();
            memories.map(move |(head, memory)| Queries { memory, rows: rows.clone(), head })
        };
        let active = rows.ranges().enumerate().filter(|(_, rows)| !rows.is_empty());
        let queries: Vec<Queries<'_, W>> = active.flat_map(document).collect();
        attend(query, self.heads, self.head_size, scale, &queries)
    }
}

/// Empty memories of all documents' heads.
fn room<W: Stored>(lengths: &[usize], heads: usize, size: usize) -> Vec<HeadMemory<W>> {
    lengths.iter().flat_map(|length| (0..heads).map(move |_| HeadMemory::new(*length, size))).collect()
}

/// Writes the heads of a document, in parallel; keys and values [rows, H D].
fn write<W: Stored>(memories: &mut [HeadMemory<W>], first: usize, keys: View<'_>, values: View<'_>) {
    let size = keys.columns / memories.len().max(1);
    memories.par_iter_mut().enumerate().for_each(|(head, memory)| {
        let (rows, columns) = (0..keys.rows, head * size..(head + 1) * size);
        memory.write(first, keys.part(rows.clone(), columns.clone()), values.part(rows, columns));
    });
}
