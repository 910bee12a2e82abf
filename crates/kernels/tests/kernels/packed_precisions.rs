//! `PackedLinear` in every precision.

use crate::numbers::{Numbers, tensor};
use candle_core::{Device, Tensor};
use epitome_kernels::{PackedLinear, Precision, gelu, linear};

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn random(numbers: &mut Numbers, shape: &[usize]) -> Tensor {
    tensor(&numbers.vector(shape.iter().product()), shape)
}

fn packed(numbers: &mut Numbers, [outputs, inputs]: [usize; 2], precision: Precision) -> PackedLinear {
    let (weight, bias) = (random(numbers, &[outputs, inputs]), random(numbers, &[outputs]));
    PackedLinear::new(&weight, Some(&bias), precision).unwrap()
}

/// The root of the mean square of the differences from exact numbers, relative to that of the result. Numbers are
/// uniform in -m..m, of root mean square m / sqrt(3). bf16 rounds each by up to 2^-8 of itself, in the mean by at
/// most 1 / sqrt(3) of that, and two operands are rounded: sqrt(2 / 3) / 2^8 = 0.0032. A byte is off by up to half a
/// step of m / 127, in the mean by 1 / sqrt(12) of one: sqrt(3 / 12) / 127 of a number, and sqrt(2) of that, 0.0056.
#[test]
fn precisions_are_as_close_as_their_rounding() {
    let mut numbers = Numbers::seeded(31);
    let (rows, inputs, outputs) = (30, 301, 75);
    let (x, weight) = (random(&mut numbers, &[rows, inputs]), random(&mut numbers, &[outputs, inputs]));
    let exact = flat(&linear(&x, &weight, None).unwrap());
    let square = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    for (precision, least, most) in
        [(Precision::F32, 0.0, 0.0), (Precision::Bf16, 8e-4, 3.2e-3), (Precision::Int8, 2e-3, 6e-3)]
    {
        let linear = PackedLinear::new(&weight, None, precision).unwrap();
        assert_eq!(linear.precision(), precision);
        let found = flat(&linear.forward(&x).unwrap());
        let errors: Vec<f32> = found.iter().zip(&exact).map(|(found, exact)| found - exact).collect();
        let error = (square(&errors) / square(&exact)).sqrt();
        assert!((least..=most).contains(&error), "{precision:?}: {error} of the result");
    }
}

#[test]
fn rows_are_bit_identical_alone_beside_others_and_on_any_number_of_threads() {
    let mut numbers = Numbers::seeded(41);
    let (rows, inputs, outputs) = (29, 403, 1060);
    let x = random(&mut numbers, &[rows, inputs]);
    for precision in PRECISIONS {
        let linear = packed(&mut numbers, [outputs, inputs], precision);
        let together = flat(&linear.forward(&x).unwrap());
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(
                flat(&pool.install(|| linear.forward(&x)).unwrap()) == together,
                "{precision:?}, {threads} threads"
            );
        }
        for row in 0..rows {
            let alone = flat(&linear.forward(&x.narrow(0, row, 1).unwrap()).unwrap());
            assert!(alone == together[row * outputs..][..outputs], "{precision:?}, row {row}");
        }
    }
}

/// Up to and beyond the 768 rows that pass both layers at a time.
#[test]
fn feed_forward_is_its_parts_to_the_bit() {
    let mut numbers = Numbers::seeded(51);
    let (inputs, width, outputs) = (21, 50, 18);
    for precision in PRECISIONS {
        let (first, second) =
            (packed(&mut numbers, [width, inputs], precision), packed(&mut numbers, [outputs, width], precision));
        for rows in [0, 1, 5, 767, 768, 769, 1540] {
            let x = random(&mut numbers, &[rows, inputs]);
            let found = first.feed_forward(&second, &x).unwrap();
            assert_eq!(found.dims(), [rows, outputs]);
            let wanted = second.forward(&gelu(&first.forward(&x).unwrap()).unwrap()).unwrap();
            assert!(flat(&found) == flat(&wanted), "{precision:?}, {rows} rows");
        }
    }
}

#[test]
fn a_row_with_nan_or_infinity_leaves_the_others_alone() {
    let mut numbers = Numbers::seeded(61);
    let (rows, inputs, outputs) = (15, 37, 40);
    for precision in PRECISIONS {
        let linear = packed(&mut numbers, [outputs, inputs], precision);
        let clean = flat(&random(&mut numbers, &[rows, inputs]));
        let forward = |x: Vec<f32>| {
            let x = Tensor::from_vec(x, (rows, inputs), &Device::Cpu).unwrap();
            flat(&linear.forward(&x).unwrap())
        };
        let wanted = forward(clean.clone());
        for (bad, column) in
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().flat_map(|bad| [(bad, 0), (bad, 36)])
        {
            let mut x = clean.clone();
            x[4 * inputs + column] = bad;
            let found = forward(x);
            for (row, (found, wanted)) in found.chunks(outputs).zip(wanted.chunks(outputs)).enumerate() {
                if row != 4 {
                    assert!(found == wanted, "{precision:?}: row {row} changed");
                } else if bad.is_nan() {
                    assert!(found.iter().all(|value| value.is_nan()), "{precision:?}: {found:?}");
                } else {
                    assert!(found.iter().all(|value| !value.is_finite()), "{precision:?}: {found:?}");
                }
            }
        }
    }
}

#[test]
fn zeros_and_nothing_give_the_bias() {
    let mut numbers = Numbers::seeded(71);
    for (precision, inputs) in PRECISIONS.into_iter().flat_map(|precision| [(precision, 0), (precision, 33)]) {
        let (weight, bias) = (random(&mut numbers, &[19, inputs]), random(&mut numbers, &[19]));
        let zeros = tensor(&vec![0.0; 3 * inputs], &[3, inputs]);
        let x = PackedLinear::new(&weight, Some(&bias), precision).unwrap().forward(&zeros).unwrap();
        assert_eq!(flat(&x), flat(&bias).repeat(3), "{precision:?}, {inputs} inputs");
        let zero_weight = tensor(&vec![0.0; 19 * inputs], &[19, inputs]);
        let x = random(&mut numbers, &[3, inputs]);
        let x = PackedLinear::new(&zero_weight, Some(&bias), precision).unwrap().forward(&x).unwrap();
        assert_eq!(flat(&x), flat(&bias).repeat(3), "{precision:?}, {inputs} inputs");
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let mut numbers = Numbers::seeded(81);
    for precision in PRECISIONS {
        let (first, second) = (packed(&mut numbers, [5, 3], precision), packed(&mut numbers, [4, 6], precision));
        let message = first.feed_forward(&second, &random(&mut numbers, &[2, 3])).unwrap_err().to_string();
        assert!(["feed_forward", "[2, 3]", "[5, 3]", "[4, 6]"].iter().all(|part| message.contains(part)), "{message}");
        let message = first.forward(&random(&mut numbers, &[2, 4])).unwrap_err().to_string();
        assert!(["linear", "[2, 4]", "[5, 3]"].iter().all(|part| message.contains(part)), "{message}");
    }
    let deep = tensor(&vec![0.0; 66_312], &[1, 66_312]);
    let message = PackedLinear::new(&deep, None, Precision::Int8).unwrap_err().to_string();
    assert!(message.contains("[1, 66312]") && message.contains("66311"), "{message}");
}
