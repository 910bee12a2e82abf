//! Projections to heads, and rows by their numbers.

use super::{close, device, on_device, place, rounded};
use crate::heads::{Case, SCALE, SIZES};
use crate::numbers::Numbers;
use candle_core::DType;
use epitome_kernels::{
    AffineSums, HeadProjection, RowIndex, add_rows, fold_heads, gather_rows, head_projection_backward, project_heads,
    write_rows,
};

#[test]
fn heads_of_few_rows_and_their_gradients() {
    for (sizes, dtype) in SIZES.into_iter().flat_map(|sizes| [(sizes, DType::F32), (sizes, DType::BF16)]) {
        let (mut case, [rows, heads, size, width]) = (Case::new(sizes), sizes);
        case.x = rounded(&case.x, dtype);
        let [y, x, dw, db] = case.reference();
        on_device(|| {
            let weight = place(&case.weight, &[heads * size, width], DType::F32);
            let bias = place(&case.bias, &[heads * size], DType::F32);
            let projection = HeadProjection { weight: &weight, bias: &bias, heads, scale: SCALE as f32 };
            let x_in = place(&case.x, &[rows, heads * size], dtype);
            let y_in = place(&case.y, &[rows, heads, width + 1], DType::F32);
            close("y", &fold_heads(&x_in, projection).unwrap(), &y, 1e-5);
            let tolerance = if dtype == DType::F32 { 1e-5 } else { 4e-3 };
            close("x", &project_heads(&y_in, projection, dtype).unwrap(), &x, tolerance);
            let ones = |count: usize, shape: &[usize]| Some(place(&vec![1.0; count], shape, DType::F32));
            let sums = AffineSums {
                weight: ones(heads * size * width, &[heads * size, width]),
                bias: ones(heads * size, &[heads * size]),
            };
            head_projection_backward(&x_in, &y_in, SCALE as f32, &sums).unwrap();
            // What is there is added to.
            let more = |sum: &[f64]| sum.iter().map(|sum| sum + 1.0).collect::<Vec<_>>();
            close("dw", sums.weight.as_ref().unwrap(), &more(&dw), 1e-5);
            close("db", sums.bias.as_ref().unwrap(), &more(&db), 1e-5);
            let alone = AffineSums { weight: sums.weight.clone(), bias: None };
            head_projection_backward(&x_in, &y_in, SCALE as f32, &alone).unwrap();
            let twice: Vec<f64> = dw.iter().map(|dw| 2.0 * dw + 1.0).collect();
            close("dw alone", sums.weight.as_ref().unwrap(), &twice, 1e-5);
        });
    }
}

#[test]
fn rows_by_their_numbers() {
    for (width, dtype) in [(1, DType::F32), (5, DType::BF16), (200, DType::BF16), (200, DType::F32)] {
        let mut numbers = Numbers::seeded(width as u64);
        let [base, rows] = [7, 3].map(|count| rounded(&numbers.vector(count * width), dtype));
        let index = [6, 0, 3];
        let changed = |change: fn(f64, f64) -> f64| {
            let mut wanted = base.clone();
            for (g, row) in index.iter().enumerate() {
                (0..width).for_each(|c| wanted[row * width + c] = change(base[row * width + c], rows[g * width + c]));
            }
            rounded(&wanted, dtype)
        };
        on_device(|| {
            let at = RowIndex::new(index.to_vec());
            let (matrix, other) = (place(&base, &[7, width], dtype), place(&rows, &[3, width], dtype));
            let gathered: Vec<f64> = index.iter().flat_map(|row| base[row * width..][..width].to_vec()).collect();
            close("gathered", &gather_rows(&matrix, &at).unwrap(), &gathered, 0.0);
            add_rows(&matrix, &at, &other).unwrap();
            close("added", &matrix, &changed(|own, other| own + other), 1e-6);
            write_rows(&matrix, &at, &other).unwrap();
            close("written", &matrix, &changed(|_, other| other), 0.0);
            assert_eq!(gather_rows(&matrix, &RowIndex::new(vec![])).unwrap().dims(), [0, width]);
            assert!(matrix.device().same_device(&device()));
        });
    }
}
