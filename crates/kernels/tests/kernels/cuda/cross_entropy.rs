//! Cross-entropy of logits, and of the output head by it.

use super::{close, device, numbers_of, on_device, place, rounded};
use crate::cross_entropy::Case;
use crate::numbers::Numbers;
use candle_core::{DType, Tensor};
use epitome_kernels::cuda::{LossGradient, RowTargets, cross_entropy};
use epitome_kernels::{TABLE_ROWS, cross_entropy as head_loss, cross_entropy_backward};

const ROWS: usize = 7;

/// Log-probabilities of a row over its choices; minus infinity elsewhere.
fn log_softmax(logits: &[f64], choices: &[u32]) -> Vec<f64> {
    let is_open = |v: usize| choices.is_empty() || choices.contains(&(v as u32));
    let open = logits.iter().enumerate().filter(|(v, _)| is_open(*v));
    let total = open.map(|(_, logit)| logit.exp()).sum::<f64>().ln();
    logits.iter().enumerate().map(|(v, logit)| if is_open(v) { logit - total } else { f64::NEG_INFINITY }).collect()
}

/// Targets, of which one is missing; where `chooses`, most rows have choices: one, few, many or all tokens.
fn targets(numbers: &mut Numbers, vocabulary: usize, chooses: bool) -> (Vec<i32>, Vec<Vec<u32>>) {
    let label = |row: usize, numbers: &mut Numbers| if row == 3 { -100 } else { numbers.below(vocabulary) as i32 };
    let labels: Vec<i32> = (0..ROWS).map(|row| label(row, numbers)).collect();
    let mut choices = vec![Vec::new(); ROWS];
    for (row, one_in) in [(0, 40), (1, vocabulary), (3, 2), (4, 1), (6, 3)].into_iter().filter(|_| chooses) {
        let own = u32::try_from(labels[row]).ok();
        let is_chosen = |token: &u32| row != 1 && numbers.below(one_in) == 0 || own == Some(*token);
        choices[row] = (0..vocabulary as u32).filter(is_chosen).collect();
    }
    (labels, choices)
}

struct Settings {
    vocabulary: usize,
    stride: usize,
    with_bias: bool,
    chooses: bool,
    smoothing: f64,
}

fn check_cross_entropy(dtype: DType, settings: &Settings, far: f64) {
    let &Settings { vocabulary, stride, with_bias, chooses, smoothing } = settings;
    let scale = 0.25;
    let mut numbers = Numbers::seeded((vocabulary + stride) as u64);
    let logits: Vec<f64> = numbers.vector(ROWS * stride).iter().map(|x| 4.0 * x).collect();
    let logits = rounded(&logits, dtype);
    let bias = numbers.vector(vocabulary);
    let (labels, choices) = targets(&mut numbers, vocabulary, chooses);
    let [mut nll, mut uniform, mut gradient] = [(); 3].map(|()| Vec::new());
    for ((row, target), choices) in logits.chunks(stride).zip(&labels).zip(&choices) {
        let biased = |v: usize| row[v] + if with_bias { bias[v] } else { 0.0 };
        let log_p = log_softmax(&(0..vocabulary).map(biased).collect::<Vec<f64>>(), choices);
        let open: Vec<f64> = log_p.iter().copied().filter(|log_p| log_p.is_finite()).collect();
        let counts = if *target < 0 { 0.0 } else { 1.0 };
        nll.push(if *target < 0 { 0.0 } else { -log_p[*target as usize] });
        uniform.push(if *target < 0 { 0.0 } else { -open.iter().sum::<f64>() / open.len() as f64 });
        let there = |v: usize| if v as i32 == *target { 1.0 - smoothing } else { 0.0 };
        let everywhere = |v: usize| if log_p[v].is_finite() { smoothing / open.len() as f64 } else { 0.0 };
        gradient.extend((0..vocabulary).map(|v| counts * scale * (log_p[v].exp() - there(v) - everywhere(v))));
    }
    let found = place(&logits, &[ROWS, stride], dtype);
    let bias = with_bias.then(|| place(&bias, &[vocabulary], DType::F32));
    let choices: Vec<&[u32]> = choices.iter().map(Vec::as_slice).collect();
    let targets = RowTargets { labels: &labels, choices: &choices, weights: &[] };
    let losses = cross_entropy(&found, vocabulary, bias.as_ref(), targets, None).unwrap();
    assert_eq!(numbers_of(&found), logits, "no gradient was asked for");
    close("nll", &losses.nll, &nll, 1e-5);
    close("uniform", &losses.uniform, &uniform, 1e-5);
    let how = LossGradient { scale: scale as f32, smoothing: smoothing as f32 };
    // Beside the logits in bf16 with weights, then in their place.
    let apart = place(&logits, &[ROWS, stride], DType::BF16);
    let weights: Vec<f32> = (0..ROWS).map(|row| row as f32 / 2.0).collect();
    let weighted = RowTargets { weights: &weights, ..targets };
    let again = cross_entropy(&found, vocabulary, bias.as_ref(), weighted, Some((how, &apart))).unwrap();
    assert_eq!(numbers_of(&again.nll), numbers_of(&losses.nll));
    let times_weight = |(i, gradient): (usize, &f64)| gradient * f64::from(weights[i / vocabulary]);
    check_gradient(&apart, vocabulary, &gradient.iter().enumerate().map(times_weight).collect::<Vec<_>>(), 0.005);
    cross_entropy(&found, vocabulary, bias.as_ref(), targets, Some((how, &found))).unwrap();
    check_gradient(&found, vocabulary, &gradient, far);
}

/// Exactly 0 where there is no choice, and behind the vocabulary.
fn check_gradient(found: &Tensor, vocabulary: usize, wanted: &[f64], far: f64) {
    let stride = found.dim(1).unwrap();
    let behind = found.narrow(1, vocabulary, stride - vocabulary).unwrap();
    assert!(stride == vocabulary || numbers_of(&behind).iter().all(|number| *number == 0.0));
    let found = found.narrow(1, 0, vocabulary).unwrap();
    close("gradient", &found, wanted, far);
    let is_outside = |(found, wanted): (f64, &f64)| *wanted != 0.0 || found == 0.0;
    assert!(numbers_of(&found).into_iter().zip(wanted).all(is_outside), "a gradient of what is no choice");
}

#[test]
fn cross_entropies_and_their_gradients() {
    for (vocabulary, stride) in [(2, 2), (5, 5), (101, 104), (1000, 1000), (5003, 5008)] {
        for (with_bias, chooses) in [(false, false), (false, true), (true, false), (true, true)] {
            let settings = |smoothing| Settings { vocabulary, stride, with_bias, chooses, smoothing };
            check_cross_entropy(DType::F32, &settings(0.1), 1e-5);
            check_cross_entropy(DType::F32, &settings(0.0), 1e-5);
            check_cross_entropy(DType::BF16, &settings(0.1), 0.005);
        }
    }
}

#[test]
fn forbidden_entries_get_no_probability() {
    let logits = place(&[0.0; 12], &[3, 4], DType::F32);
    let bias = place(&[0.0, f64::NEG_INFINITY, 0.0], &[3], DType::F32);
    let how = LossGradient { scale: 1.0, smoothing: 0.0 };
    let targets = RowTargets { labels: &[2, 0, 2], choices: &[&[], &[], &[0, 1, 2]], weights: &[] };
    let losses = cross_entropy(&logits, 3, Some(&bias), targets, Some((how, &logits))).unwrap();
    let nll = numbers_of(&losses.nll);
    assert!(nll.iter().all(|nll| (nll - 2f64.ln()).abs() < 1e-6), "{nll:?}");
    assert_eq!(numbers_of(&logits)[..3], [0.5, 0.0, -0.5]);
}

#[test]
fn targets_outside_the_vocabulary_are_refused() {
    let logits = place(&[0.0; 8], &[2, 4], DType::F32);
    let message = |labels: &[i32], choices: &[&[u32]]| {
        cross_entropy(&logits, 4, None, RowTargets { labels, choices, weights: &[] }, None).err().unwrap().to_string()
    };
    assert!(message(&[0, 4], &[&[], &[]]).contains("target 4"));
    assert!(message(&[0, 1], &[&[], &[1, 5]]).contains("choice 5"));
    assert!(message(&[0, 1], &[&[]]).contains("1 lists of choices for 2 rows"));
}

/// The loss of the head and its gradients are the CPU's, with choices and weights and without.
#[test]
fn losses_of_the_head() {
    for case in [
        Case::new(20, 16, 104, true),
        Case::new(20, 16, 101, true),
        Case::new(20, 16, 101, true).choosing(),
        Case::new(11, 4, 9, true).choosing(),
        Case::new(7, 5, 3, true).choosing(),
    ] {
        for (dtype, far) in [(DType::F32, 1e-5), (DType::BF16, 0.01)] {
            for smoothing in [0.0, 0.1] {
                check_head(&case, dtype, smoothing, 0, far);
                check_head(
                    &case,
                    dtype,
                    smoothing,
                    case.vocabulary.next_multiple_of(TABLE_ROWS) - case.vocabulary,
                    far,
                );
            }
        }
    }
}

/// `behind`: rows of zeros behind the table.
fn check_head(case: &Case, dtype: DType, smoothing: f64, behind: usize, far: f64) {
    let bias = place(&rounded(case.bias.as_ref().unwrap(), DType::F32), &[case.vocabulary], DType::F32);
    let on_cpu = bias.to_device(&candle_core::Device::Cpu).unwrap();
    // Of what bf16 keeps, so that only what is computed differs.
    let [hidden, table] = case.tensors().map(|t| t.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap());
    let sum = table.zeros_like().unwrap();
    let padded = table.pad_with_zeros(0, 0, behind).unwrap();
    let (wanted, gradient) =
        cross_entropy_backward(&hidden, &padded, Some(&on_cpu), case.targets(), smoothing, 0.25, Some(&sum)).unwrap();
    let placed = |t: &candle_core::Tensor| t.to_device(&device()).unwrap();
    let own_hidden = placed(&hidden).to_dtype(dtype).unwrap();
    let (own_table, own_sum) = (placed(&padded), placed(&table.zeros_like().unwrap()));
    let (found, own_gradient, forward) = on_device(|| {
        let (targets, bias) = (case.targets(), Some(&bias));
        let (found, gradient) =
            cross_entropy_backward(&own_hidden, &own_table, bias, targets, smoothing, 0.25, Some(&own_sum)).unwrap();
        (found.read().unwrap(), gradient, head_loss(&own_hidden, &own_table, bias, targets, smoothing).unwrap())
    });
    assert_eq!(found, forward);
    let wanted = wanted.read().unwrap();
    assert_eq!(found.tokens, wanted.tokens);
    for (found, wanted) in [(found.loss, wanted.loss), (found.nll, wanted.nll)] {
        assert!((found - wanted).abs() <= far * wanted, "{found}, not {wanted}");
    }
    close("dhidden", &own_gradient, &numbers_of(&gradient), far);
    close("dtable", &own_sum, &numbers_of(&sum), far);
}
