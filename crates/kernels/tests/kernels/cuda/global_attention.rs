//! Attention of global rows to all tokens, through products of the library.

use super::{close, on_device, place, rounded};
use crate::global_attention::Case;
use crate::numbers::Numbers;
use candle_core::DType;
use epitome_kernels::{GlobalRows, global_attention, global_attention_backward};

fn check(case: &Case, dtype: DType, [near, far]: [f64; 2]) {
    let mut numbers = Numbers::seeded(case.documents.total() as u64);
    let (tokens, lanes) = (case.documents.total(), case.rows.total() * case.heads);
    let x = rounded(&numbers.vector(tokens * case.width), dtype);
    let [a, c, dy] =
        [lanes * case.width, lanes, lanes * (case.width + 1)].map(|count| rounded(&numbers.vector(count), DType::F32));
    let [output, dx, da, dc] = case.reference(&x, &a, &c, &dy);
    on_device(|| {
        let rows = |values: &[f64], width: usize| place(values, &[case.rows.total(), case.heads, width], DType::F32);
        let (x, folded) = (place(&x, &[tokens, case.width], dtype), rows(&case.folded(&a, &c), case.width + 1));
        let dy = rows(&dy, case.width + 1);
        let of = GlobalRows { rows: &case.rows, documents: &case.documents, dropout: case.dropout };
        let pooled = global_attention(&x, &folded, of).unwrap();
        close("output", &pooled.output, &output, near);
        let sum = place(&vec![1.0; tokens * case.width], &[tokens, case.width], dtype);
        let gradient = global_attention_backward(&x, &folded, of, &pooled, &dy, Some(&sum)).unwrap();
        let part = |first, count| gradient.narrow(2, first, count).unwrap().contiguous().unwrap();
        close("da", &part(0, case.width), &da, near);
        // In exact arithmetic it is zero.
        close(
            "dc",
            &part(case.width, 1).affine(1.0, 1.0).unwrap(),
            &dc.iter().map(|dc| dc + 1.0).collect::<Vec<_>>(),
            near,
        );
        close("dx", &sum, &dx.iter().map(|dx| dx + 1.0).collect::<Vec<_>>(), far);
    });
}

#[test]
fn global_rows_of_documents_of_many_lengths() {
    let cases = [
        Case::new(&[1], &[1], 1, 1),
        Case::new(&[7], &[41], 2, 16),
        Case::new(&[1], &[1300], 12, 70),
        Case::new(&[2, 0, 1], &[1025, 30, 7], 3, 8).dropping(),
        Case::new(&[0, 3, 0, 1, 2], &[5, 20, 0, 1, 600], 2, 7),
        Case::new(&[1, 1], &[0, 4], 2, 3),
    ];
    for case in cases {
        check(&case, DType::F32, [2e-5; 2]);
        check(&case, DType::BF16, [2e-4, 0.01]);
    }
}
