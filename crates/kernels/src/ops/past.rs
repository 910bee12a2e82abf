//! Self-attention over a decoding cache whose rows are shared between hypotheses.

use super::{compute, tensor};
use crate::cpu::past::{Past, attend};
#[cfg(gpu)]
use crate::cuda;
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// Keys and values of generated tokens, one row of `H * D` numbers per hypothesis and step, in the order of steps.
#[derive(Debug, Default)]
pub struct KeyValueRows {
    keys: Vec<f32>,
    values: Vec<f32>,
    /// Numbers of a row.
    width: usize,
    /// Instead of what is above.
    #[cfg(gpu)]
    pub(super) gpu: cuda::Past,
}

impl KeyValueRows {
    /// Appends the rows of `keys` and `values`, both `[R, H, D]`.
    ///
    /// # Errors
    /// When the shapes differ or the tensors are in a graph or not f32 on the CPU.
    pub fn append(&mut self, keys: &Tensor, values: &Tensor) -> Result<()> {
        if keys.dims() != values.dims() || keys.rank() != 3 {
            bail!("KeyValueRows::append: keys {:?} and values {:?} must both be [R, H, D]", keys.dims(), values.dims());
        }
        let width = keys.dims()[1] * keys.dims()[2];
        if !self.keys.is_empty() && width != self.width {
            bail!("KeyValueRows::append: rows of {width} numbers to rows of {}", self.width);
        }
        compute("KeyValueRows::append", [keys, values], |[keys, values]| {
            self.width = width;
            self.keys.extend_from_slice(keys);
            self.values.extend_from_slice(values);
        })
    }
}

/// Attention of each query row to its own past: `query` is `[R, H, D]`, `ancestors[r]` lists the cache rows that row r sees,
/// in order, its own included. Returns `[R, H, D]`. `scale` multiplies the query. Records no graph.
///
/// # Errors
/// When shapes do not fit, `query` is in a graph, or a row number lies outside the cache.
pub fn cached_attention(query: &Tensor, cache: &KeyValueRows, ancestors: &[Vec<u32>], scale: f32) -> Result<Tensor> {
    let (rows, heads, size) = query.dims3()?;
    let width = heads * size;
    if !cache.keys.is_empty() && width != cache.width {
        bail!("cached_attention: query {:?} to rows of {} numbers", query.dims(), cache.width);
    }
    let stored = cache.keys.len() / width.max(1);
    if rows != ancestors.len() {
        bail!("cached_attention: {rows} query rows, but {} lists of ancestors", ancestors.len());
    }
    if let Some(row) = ancestors.iter().flatten().find(|&&row| row as usize >= stored) {
        bail!("cached_attention: row {row} lies outside a cache of {stored} rows");
    }
    let context = compute("cached_attention", [query], |[queries]| {
        let mut context = vec![0f32; rows * width];
        let rows = context.par_chunks_mut(size.max(1)).zip(queries.par_chunks(size.max(1))).enumerate();
        rows.with_min_len(heads.div_ceil(2)).for_each(|(index, (output, query))| {
            let (row, head) = (index / heads, index % heads);
            let past = Past { keys: &cache.keys, values: &cache.values, width, ancestors: &ancestors[row] };
            attend(query, &past, head * size, scale, output);
        });
        context
    })?;
    tensor(context, (rows, heads, size))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor};

    use super::{KeyValueRows, cached_attention};

    fn tensor(values: &[f32]) -> Result<Tensor> {
        Tensor::from_vec(values.to_vec(), (values.len() / 2, 1, 2), &Device::Cpu)
    }

    #[test]
    fn each_row_sees_only_its_ancestors() -> Result<()> {
        let mut cache = KeyValueRows::default();
        cache.append(&tensor(&[1.0, 0.0, 0.0, 1.0])?, &tensor(&[1.0, 2.0, 3.0, 4.0])?)?;
        cache.append(&tensor(&[0.0, 0.0])?, &tensor(&[5.0, 6.0])?)?;
        let query = tensor(&[0.0, 0.0, 1.0, 0.0])?;
        let output =
            cached_attention(&query, &cache, &[vec![1, 2], vec![0, 2]], 2.0)?.flatten_all()?.to_vec1::<f32>()?;
        // Row 0 scores 0 and 0; row 1 scores 2 and 0.
        let p = 1.0 / (1.0 + (-2f32).exp());
        let expected = [4.0, 5.0, p + 5.0 * (1.0 - p), 2.0 * p + 6.0 * (1.0 - p)];
        for (found, expected) in output.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{output:?}");
        }
        Ok(())
    }

    #[test]
    fn a_row_outside_the_cache_is_an_error() -> Result<()> {
        let cache = KeyValueRows::default();
        assert!(cached_attention(&tensor(&[0.0, 0.0])?, &cache, &[vec![0]], 1.0).is_err());
        Ok(())
    }

    #[test]
    fn rows_of_another_width_are_refused_and_change_nothing() -> Result<()> {
        let mut cache = KeyValueRows::default();
        cache.append(&tensor(&[1.0, 0.0])?, &tensor(&[1.0, 2.0])?)?;
        let wide = Tensor::zeros((1, 2, 2), candle_core::DType::F32, &Device::Cpu)?;
        assert!(cache.append(&wide, &wide).is_err());
        assert!(cached_attention(&wide, &cache, &[vec![0]], 1.0).is_err());
        let context = cached_attention(&tensor(&[0.5, 0.0])?, &cache, &[vec![0]], 1.0)?;
        assert_eq!(context.flatten_all()?.to_vec1::<f32>()?, [1.0, 2.0]);
        Ok(())
    }
}
