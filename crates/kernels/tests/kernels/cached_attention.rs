//! `cached_attention` against sums in f64.

use crate::numbers::{Numbers, close, dot, tensor};
use epitome_kernels::{KeyValueRows, cached_attention};

/// Head sizes below, at and beside multiples of the 16 lanes of its sums.
#[test]
fn rows_attend_to_their_ancestors() {
    for (heads, size) in [(1, 1), (3, 7), (2, 15), (2, 16), (3, 17), (1, 40), (2, 64), (2, 100)] {
        let (stored, scale) = (29, 0.6f32);
        let mut numbers = Numbers::seeded((heads * 1000 + size) as u64);
        let width = heads * size;
        let ancestors: Vec<Vec<u32>> = [1, 2, 16, 28, 0]
            .into_iter()
            .map(|seen| (0..seen).map(|_| numbers.below(stored) as u32).collect())
            .collect();
        let query = numbers.vector(ancestors.len() * width);
        let (keys, values) = (numbers.vector(stored * width), numbers.vector(stored * width));
        let mut cache = KeyValueRows::default();
        for rows in [0..20, 20..stored] {
            let part =
                |values: &[f64]| tensor(&values[rows.start * width..rows.end * width], &[rows.len(), heads, size]);
            cache.append(&part(&keys), &part(&values)).unwrap();
        }
        let mut wanted = vec![0.0; query.len()];
        for (row, head) in (0..ancestors.len()).flat_map(|row| (0..heads).map(move |head| (row, head))) {
            let head_of = |row: usize| row * width + head * size..row * width + (head + 1) * size;
            let q = &query[head_of(row)];
            let seen = || ancestors[row].iter().map(|at| head_of(*at as usize));
            let weights: Vec<f64> = seen().map(|at| (f64::from(scale) * dot(q, &keys[at])).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (at, weight) in seen().zip(&weights) {
                for (wanted, value) in wanted[head_of(row)].iter_mut().zip(&values[at]) {
                    *wanted += weight / total * value;
                }
            }
        }
        let query = tensor(&query, &[ancestors.len(), heads, size]);
        let found = cached_attention(&query, &cache, &ancestors, scale).unwrap();
        close(&format!("{heads} heads of {size}"), &found, &wanted, 1e-5);
    }
}

#[test]
fn a_row_is_bit_identical_alone_and_beside_others() {
    let (heads, size, rows) = (3, 21, 9);
    let mut numbers = Numbers::seeded(8);
    let [query, keys, values] = [(); 3].map(|()| tensor(&numbers.vector(rows * heads * size), &[rows, heads, size]));
    let mut cache = KeyValueRows::default();
    cache.append(&keys, &values).unwrap();
    let ancestors: Vec<Vec<u32>> = (0..rows as u32).map(|row| (0..=row).rev().collect()).collect();
    let flat = |t: candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let together = flat(cached_attention(&query, &cache, &ancestors, 0.3).unwrap());
    for row in 0..rows {
        let one = query.narrow(0, row, 1).unwrap();
        let alone = flat(cached_attention(&one, &cache, &ancestors[row..=row], 0.3).unwrap());
        assert_eq!(alone, together[row * heads * size..][..heads * size]);
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let mut cache = KeyValueRows::default();
    let x = tensor(&[0.0; 12], &[2, 2, 3]);
    let message = cache.append(&x, &tensor(&[0.0; 12], &[2, 3, 2])).unwrap_err().to_string();
    assert!(message.contains("[2, 2, 3]") && message.contains("[2, 3, 2]"), "{message}");
    cache.append(&x, &x).unwrap();
    let message = cached_attention(&x, &cache, &[vec![0]], 1.0).unwrap_err().to_string();
    assert!(message.contains("2 query rows") && message.contains("1 lists"), "{message}");
    let message = cached_attention(&x, &cache, &[vec![0], vec![2]], 1.0).unwrap_err().to_string();
    assert!(message.contains("row 2") && message.contains("2 rows"), "{message}");
}
