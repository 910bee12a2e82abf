//! Self-attention over a decoding cache whose rows are shared between hypotheses.

use candle_core::{Result, Storage, Tensor, bail};
use rayon::prelude::*;

/// Keys and values of generated tokens, one row of `H * D` numbers per hypothesis and step, in the order of steps.
#[derive(Clone, Debug, Default)]
pub struct KeyValueRows {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl KeyValueRows {
    /// Appends the rows of `keys` and `values`, both `[R, H, D]`.
    ///
    /// # Errors
    /// When the shapes differ or the tensors are not f32 on the host.
    pub fn append(&mut self, keys: &Tensor, values: &Tensor) -> Result<()> {
        if keys.dims() != values.dims() || keys.rank() != 3 {
            bail!("KeyValueRows::append: keys {:?} and values {:?} must both be [R, H, D]", keys.dims(), values.dims());
        }
        extend(&mut self.keys, keys)?;
        extend(&mut self.values, values)
    }
}

fn extend(rows: &mut Vec<f32>, tensor: &Tensor) -> Result<()> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { bail!("KeyValueRows: only tensors on the host") };
    let start = layout.start_offset();
    rows.extend_from_slice(&storage.as_slice::<f32>()?[start..start + tensor.elem_count()]);
    Ok(())
}

/// Attention of each query row to its own past: `query` is `[R, H, D]`, `ancestors[r]` lists the cache rows that row r sees,
/// in order, its own included. Returns `[R, H, D]`. `scale` multiplies the query. No gradient.
///
/// # Errors
/// When shapes do not fit or a row number lies outside the cache.
pub fn cached_attention(query: &Tensor, cache: &KeyValueRows, ancestors: &[Vec<u32>], scale: f32) -> Result<Tensor> {
    let (rows, heads, size) = query.dims3()?;
    let width = heads * size;
    let stored = cache.keys.len() / width.max(1);
    if rows != ancestors.len() {
        bail!("cached_attention: {rows} query rows, but {} lists of ancestors", ancestors.len());
    }
    if let Some(row) = ancestors.iter().flatten().find(|&&row| row as usize >= stored) {
        bail!("cached_attention: row {row} lies outside a cache of {stored} rows");
    }
    let queries = query.flatten_all()?.to_vec1::<f32>()?;
    let mut context = vec![0f32; rows * width];
    context.par_chunks_mut(size).enumerate().for_each(|(index, output)| {
        let (row, head) = (index / heads, index % heads);
        let query = &queries[index * size..(index + 1) * size];
        attend(query, cache, &ancestors[row], (head * size, width), scale, output);
    });
    Tensor::from_vec(context, (rows, heads, size), query.device())
}

/// One head of one row; `offset` is the head's place in a cache row of `width` numbers.
fn attend(
    query: &[f32],
    cache: &KeyValueRows,
    ancestors: &[u32],
    (offset, width): (usize, usize),
    scale: f32,
    output: &mut [f32],
) {
    let head = |rows: &'_ [f32], row: u32| -> std::ops::Range<usize> {
        let start = row as usize * width + offset;
        debug_assert!(start + query.len() <= rows.len());
        start..start + query.len()
    };
    let mut probabilities: Vec<f32> = ancestors
        .iter()
        .map(|&row| scale * query.iter().zip(&cache.keys[head(&cache.keys, row)]).map(|(q, k)| q * k).sum::<f32>())
        .collect();
    let maximum = probabilities.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    probabilities.iter_mut().for_each(|score| *score = (*score - maximum).exp());
    let total: f32 = probabilities.iter().sum();
    for (&row, probability) in ancestors.iter().zip(&probabilities) {
        let values = &cache.values[head(&cache.values, row)];
        output.iter_mut().zip(values).for_each(|(output, value)| *output += probability / total * value);
    }
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
}
