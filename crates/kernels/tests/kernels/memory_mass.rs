//! Where the attention to an `AttentionMemory` lies, against sums in f64 over the numbers it keeps.

use crate::memory::{Case, PRECISIONS, flat};
use crate::numbers::Numbers;
use epitome_kernels::{Precision, Segments};
use std::ops::Range;

/// Spans of every document at odd places: some touch, some are empty, and keys before, between and behind lie in none,
/// as global tokens do.
fn random_spans(segments: &Segments, longest: usize) -> Vec<Vec<Range<usize>>> {
    let mut numbers = Numbers::seeded((segments.total() + longest) as u64);
    let document = |keys: Range<usize>| {
        let mut spans = Vec::new();
        let mut start = numbers.below(3);
        while start < keys.len() {
            let end = keys.len().min(start + numbers.below(longest + 1));
            spans.push(start..end);
            start = end + numbers.below(3);
        }
        spans
    };
    segments.ranges().map(document).collect()
}

/// How much of itself a mass may be off: as much as scores are, of numbers up to 1.5.
/// - bf16: a number in the middle between two is rounded to either, by 2^-9 of itself; one number of a key matters.
/// - bytes: a number of a query is rounded by up to half of 1 / 32,767 of 1.5, and there are as many as the head has.
fn tolerance(precision: Precision, case: &Case) -> f64 {
    let number = f64::from(case.scale) * 1.5 * 1.5;
    match precision {
        Precision::F32 => 2e-5,
        Precision::Bf16 => 2.0 * number / 512.0,
        Precision::Int8 => 2.0 * number / 65_534.0 * case.size as f64,
    }
}

#[track_caller]
fn check(case: &Case, spans: &[Vec<Range<usize>>]) {
    for precision in PRECISIONS {
        let query = case.tensor(&case.query);
        let memory = case.memory(precision);
        let (context, masses) = memory.attend_with_mass(&query, &case.rows, case.scale, spans).unwrap();
        assert!(flat(&context) == case.attend(precision), "{precision:?}: the context is another");
        assert_eq!(masses.len(), case.rows.total());
        for (b, spans) in spans.iter().enumerate() {
            for row in case.rows.range(b) {
                let wanted = case.mass(precision, b, row, spans);
                assert_eq!(masses[row].len(), wanted.len());
                for ((found, wanted), span) in masses[row].iter().zip(&wanted).zip(spans) {
                    let error = (f64::from(*found) - wanted).abs();
                    assert!(
                        error <= 2e-6 + tolerance(precision, case) * wanted,
                        "{precision:?}, row {row}, {span:?}: {found}, not {wanted}"
                    );
                }
            }
        }
    }
}

#[test]
fn masses_are_those_of_the_definition() {
    // Around a block's 24 rows, a chunk's 1,024 keys and a panel's 16; a document without keys or without rows.
    let case = Case::random((3, 16), 0.5, &[1, 1023, 0, 1025, 2600, 17, 5], &[2, 25, 3, 24, 1, 0, 50]);
    for longest in [1, 40, 1500] {
        check(&case, &random_spans(&case.segments, longest));
    }
    check(&case, &vec![Vec::new(); 7]);
    let none = Case::random((2, 8), 0.5, &[], &[]);
    check(&none, &[]);
}

#[test]
fn head_sizes_and_peaked_scores() {
    for (size, scale) in [(1, 1.0), (7, 0.7), (64, 0.1), (100, 0.3), (16, 4.0)] {
        let case = Case::random((2, size), scale, &[70, 1100], &[4, 30]);
        check(&case, &random_spans(&case.segments, 30));
    }
}

/// Spans that leave no key out have everything; without the first key, what it has is missing.
#[test]
fn a_partition_has_all_of_the_mass() {
    let case = Case::random((2, 12), 0.6, &[3000], &[30]);
    for precision in PRECISIONS {
        let memory = case.memory(precision);
        let mass = |spans: Vec<Range<usize>>| {
            memory.attend_with_mass(&case.tensor(&case.query), &case.rows, case.scale, &[spans]).unwrap().1
        };
        let parts: Vec<Range<usize>> = (0..3000).step_by(37).map(|start| start..3000.min(start + 37)).collect();
        let [whole, ends] = [mass(parts), mass(vec![0..1, 1..3000])];
        for (whole, ends) in whole.iter().zip(&ends) {
            assert!((whole.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert!((ends[0] + ends[1] - 1.0).abs() < 1e-5 && ends[0] > 0.0);
        }
    }
}

#[test]
fn masses_are_bit_identical_alone_beside_others_and_on_any_number_of_threads() {
    let case = Case::random((2, 20), 0.4, &[1500, 3, 2100], &[30, 13, 2]);
    let spans = random_spans(&case.segments, 25);
    for precision in PRECISIONS {
        let memory = case.memory(precision);
        let attend = |query: &candle_core::Tensor, rows: &[usize]| {
            memory.attend_with_mass(query, &Segments::from_lengths(rows), case.scale, &spans).unwrap().1
        };
        let query = case.tensor(&case.query);
        let together = attend(&query, &[30, 13, 2]);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(|| attend(&query, &[30, 13, 2])) == together, "{precision:?}, {threads} threads");
        }
        for row in [0, 29, 30, 44] {
            let rows = [usize::from(row < 30), usize::from((30..43).contains(&row)), usize::from(row >= 43)];
            let alone = attend(&query.narrow(0, row, 1).unwrap(), &rows);
            assert!(alone[0] == together[row], "{precision:?}, row {row}");
        }
    }
}

#[test]
fn spans_that_do_not_fit_are_named() {
    let case = Case::random((1, 4), 1.0, &[10, 5], &[1, 1]);
    let memory = case.memory(Precision::F32);
    let refused = |spans: &[Vec<Range<usize>>], parts: &[&str]| {
        let found = memory.attend_with_mass(&case.tensor(&case.query), &case.rows, 1.0, spans);
        let message = found.unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    refused(&[std::iter::once(0..1).collect()], &["attend_with_mass", "1 documents", "2"]);
    refused(&[vec![0..4, 3..6], Vec::new()], &["0..4", "10 keys", "before 3"]);
    refused(&[Vec::new(), vec![0..2, 2..6]], &["2..6", "5 keys"]);
}
