//! `write_rows`, `add_rows`, `gather_rows`, `embed`, `accumulate_rows`, and the updates of accumulators.

use crate::numbers::{Numbers, close, tensor};
use candle_core::DType;
use epitome_kernels::{
    RowIndex, accumulate_rows, add_assign, add_rows, embed, gather_rows, lerp_assign, scale_assign, sum_of_squares,
    write_rows,
};

#[test]
fn write_rows_replaces_rows_in_place() {
    let mut numbers = Numbers::seeded(1);
    let (base, rows) = (numbers.vector(60), numbers.vector(18));
    let index = [9, 0, 4];
    let mut wanted = base.clone();
    for (g, row) in index.iter().enumerate() {
        wanted[row * 6..][..6].copy_from_slice(&rows[g * 6..][..6]);
    }
    let base = tensor(&base, &[10, 2, 3]);
    let seen_by_others = base.clone();
    let at = |rows: &[usize]| RowIndex::new(rows.to_vec());
    write_rows(&base, &at(&index), &tensor(&rows, &[3, 2, 3])).unwrap();
    close("written", &seen_by_others, &wanted, 0.0);
    write_rows(&base, &at(&[]), &tensor(&[], &[0, 2, 3])).unwrap();
    close("unchanged", &base, &wanted, 0.0);
    let part = base.narrow(0, 8, 2).unwrap();
    write_rows(&part, &at(&[1]), &tensor(&rows[12..], &[1, 2, 3])).unwrap();
    close("a part", &gather_rows(&base, &at(&[9, 8])).unwrap(), &[&rows[12..], &wanted[48..54]].concat(), 0.0);
}

#[test]
fn rows_may_be_gathered_more_than_once() {
    let x = Numbers::seeded(3).vector(20);
    let index = [4, 1, 4, 0];
    let wanted: Vec<f64> = index.iter().flat_map(|row| x[row * 4..][..4].to_vec()).collect();
    close("y", &gather_rows(&tensor(&x, &[5, 4]), &RowIndex::new(index.to_vec())).unwrap(), &wanted, 0.0);
}

#[test]
fn add_rows_adds_in_place() {
    let base = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2]);
    add_rows(&base, &RowIndex::new(vec![2, 0]), &tensor(&[10.0, 20.0, 30.0, 40.0], &[2, 2])).unwrap();
    close("sums", &base, &[31.0, 42.0, 3.0, 4.0, 15.0, 26.0], 0.0);
}

#[test]
fn embed_sums_its_tables() {
    let mut numbers = Numbers::seeded(4);
    let (words, places) = (numbers.vector(50 * 6), numbers.vector(200 * 6));
    let ids: Vec<u32> = (0..200).map(|_| numbers.below(50) as u32).collect();
    let positions: Vec<u32> = (0..200).collect();
    let mut wanted = Vec::new();
    for t in 0..200 {
        wanted.extend((0..6).map(|d| words[ids[t] as usize * 6 + d] + places[t * 6 + d]));
    }
    let (words, places) = (tensor(&words, &[50, 6]), tensor(&places, &[200, 6]));
    let found = embed(&[(&words, &ids), (&places, &positions)], DType::F32).unwrap();
    assert_eq!(found.dims(), [200, 6]);
    close("sum", &found, &wanted, 1e-6);
    assert_eq!(embed(&[(&words, &[])], DType::F32).unwrap().dims(), [0, 6]);
}

#[test]
fn accumulate_rows_adds_in_place_and_skips_padding() {
    let mut numbers = Numbers::seeded(5);
    let (table, gradient) = (numbers.vector(7 * 5), numbers.vector(300 * 5));
    let ids: Vec<u32> = (0..300).map(|_| numbers.below(7) as u32).collect();
    for skip in [None, Some(1)] {
        let accumulator = tensor(&table, &[7, 5]);
        accumulate_rows(&accumulator, &ids, &tensor(&gradient, &[300, 5]), skip).unwrap();
        let mut wanted = table.clone();
        for (t, id) in ids.iter().enumerate().filter(|(_, id)| Some(**id) != skip) {
            (0..5).for_each(|d| wanted[*id as usize * 5 + d] += gradient[t * 5 + d]);
        }
        close("table", &accumulator, &wanted, 1e-5);
    }
}

#[test]
fn accumulators_are_changed_in_place() {
    let mut numbers = Numbers::seeded(6);
    let (a, b) = (numbers.vector(50_000), numbers.vector(50_000));
    let accumulator = tensor(&a, &[500, 100]);
    let alias = accumulator.clone();
    add_assign(&accumulator, &tensor(&b, &[500, 100])).unwrap();
    scale_assign(&accumulator, -0.5).unwrap();
    let wanted: Vec<f64> = a.iter().zip(&b).map(|(a, b)| -0.5 * (a + b)).collect();
    close("through an alias", &alias, &wanted, 1e-6);
    let squares: f64 = wanted.iter().map(|value| value * value).sum();
    let towards = tensor(&b, &[500, 100]);
    lerp_assign(&accumulator, &towards, 0.0).unwrap();
    close("a step of no weight", &alias, &wanted, 1e-6);
    assert!((sum_of_squares(&[&alias]).unwrap() / squares - 1.0).abs() < 1e-6);
    let before = wanted;
    lerp_assign(&accumulator, &towards, 0.25).unwrap();
    let wanted: Vec<f64> = before.iter().zip(&b).map(|(average, value)| 0.75 * average + 0.25 * value).collect();
    close("a step of an average", &alias, &wanted, 1e-6);
    let squares: f64 = wanted.iter().map(|value| value * value).sum();
    let part = alias.narrow(0, 100, 1).unwrap();
    scale_assign(&part, 0.0).unwrap();
    assert_eq!(sum_of_squares(&[&part]).unwrap(), 0.0);
    assert!(sum_of_squares(&[&alias]).unwrap() > 0.9 * squares);
}
