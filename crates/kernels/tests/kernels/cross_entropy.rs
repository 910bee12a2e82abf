//! The fused output head against logits, log-softmax and products written out in f64.

use crate::numbers::{Numbers, close, differences, dot, doubles, tensor};
use epitome_kernels::{Loss, LossTargets, cross_entropy, cross_entropy_backward, token_log_probabilities};

pub(crate) struct Case {
    hidden: Vec<f64>,
    table: Vec<f64>,
    pub(crate) bias: Option<Vec<f64>>,
    targets: Vec<i64>,
    choices: Vec<Vec<u32>>,
    weights: Vec<f32>,
    width: usize,
    pub(crate) vocabulary: usize,
}

impl Case {
    pub(crate) fn new(rows: usize, width: usize, vocabulary: usize, with_bias: bool) -> Self {
        let mut numbers = Numbers::seeded((rows * vocabulary) as u64);
        let hidden = numbers.vector(rows * width);
        let table = numbers.vector(vocabulary * width);
        let bias = with_bias.then(|| numbers.vector(vocabulary));
        let targets = (0..rows).map(|row| if row % 5 == 3 { -100 } else { numbers.below(vocabulary) as i64 }).collect();
        Self { hidden, table, bias, targets, choices: Vec::new(), weights: Vec::new(), width, vocabulary }
    }

    /// Every other target is chosen from some tokens only, and each counts differently.
    pub(crate) fn choosing(mut self) -> Self {
        let mut numbers = Numbers::seeded(self.targets.len() as u64);
        for (row, &target) in self.targets.iter().enumerate() {
            let mut choices = Vec::new();
            if row % 2 == 0 && target != -100 {
                choices = (0..self.vocabulary as u32).filter(|_| numbers.below(3) == 0).collect();
                choices.push(target as u32);
                choices.sort_unstable();
                choices.dedup();
            }
            self.choices.push(choices);
            self.weights.push(0.5 * (row % 4) as f32);
        }
        self
    }

    pub(crate) fn targets(&self) -> LossTargets<'_> {
        LossTargets { labels: &self.targets, choices: &self.choices, weights: &self.weights }
    }

    /// -log p of every vocabulary entry of a row; infinite for what its target is not chosen from.
    fn row(&self, hidden: &[f64], table: &[f64], row: usize) -> Vec<f64> {
        let hidden = &hidden[row * self.width..][..self.width];
        let logits: Vec<f64> = (0..self.vocabulary)
            .map(|v| {
                dot(hidden, &table[v * self.width..][..self.width]) + self.bias.as_ref().map_or(0.0, |bias| bias[v])
            })
            .collect();
        let choices = self.choices.get(row).filter(|choices| !choices.is_empty());
        let is_open = |v: usize| choices.is_none_or(|choices| choices.contains(&(v as u32)));
        let open = logits.iter().enumerate().filter(|(v, _)| is_open(*v));
        let total = open.map(|(_, logit)| logit.exp()).sum::<f64>().ln();
        logits.iter().enumerate().map(|(v, logit)| if is_open(v) { total - logit } else { f64::INFINITY }).collect()
    }

    fn loss(&self, hidden: &[f64], table: &[f64], smoothing: f64) -> Loss {
        let mut sum = Loss::default();
        for (row, target) in self.targets.iter().enumerate().filter(|(_, target)| **target != -100) {
            let nll = self.row(hidden, table, row);
            let open: Vec<f64> = nll.iter().copied().filter(|nll| nll.is_finite()).collect();
            let mean = open.iter().sum::<f64>() / open.len() as f64;
            let weight = self.weights.get(row).map_or(1.0, |&weight| f64::from(weight));
            sum.nll += nll[*target as usize];
            sum.loss += weight * ((1.0 - smoothing) * nll[*target as usize] + smoothing * mean);
            sum.tokens += 1;
        }
        sum
    }

    pub(crate) fn tensors(&self) -> [candle_core::Tensor; 2] {
        [tensor(&self.hidden, &[self.targets.len(), self.width]), tensor(&self.table, &[self.vocabulary, self.width])]
    }

    #[track_caller]
    fn check_loss(&self, smoothing: f64) {
        let [hidden, table] = self.tensors();
        let bias = self.bias.as_ref().map(|bias| tensor(bias, &[self.vocabulary]));
        let wanted = self.loss(&self.hidden, &self.table, smoothing);
        let found = cross_entropy(&hidden, &table, bias.as_ref(), self.targets(), smoothing).unwrap();
        assert_eq!(found.tokens, wanted.tokens);
        assert!((found.nll - wanted.nll).abs() < 1e-5 * wanted.nll.max(1.0), "{found:?}, not {wanted:?}");
        assert!((found.loss - wanted.loss).abs() < 1e-5 * wanted.loss.max(1.0), "{found:?}, not {wanted:?}");
        if !self.choices.is_empty() {
            return;
        }
        let log_probabilities = token_log_probabilities(&hidden, &table, bias.as_ref(), &self.targets).unwrap();
        for (row, target) in self.targets.iter().enumerate() {
            let wanted =
                if *target == -100 { 0.0 } else { -self.row(&self.hidden, &self.table, row)[*target as usize] };
            assert!((f64::from(log_probabilities[row]) - wanted).abs() < 1e-4, "row {row}");
        }
    }
}

#[test]
fn losses_with_and_without_bias_and_smoothing() {
    for (rows, width, vocabulary) in [(1, 1, 1), (7, 5, 3), (20, 16, 101)] {
        for with_bias in [false, true] {
            for smoothing in [0.0, 0.1] {
                Case::new(rows, width, vocabulary, with_bias).check_loss(smoothing);
                Case::new(rows, width, vocabulary, with_bias).choosing().check_loss(smoothing);
            }
        }
    }
}

#[test]
fn more_rows_than_a_chunk() {
    Case::new(2100, 2, 5, true).check_loss(0.1);
    Case::new(5000, 2, 5, true).choosing().check_loss(0.1);
}

#[test]
fn gradients_agree_with_differences() {
    for (case, smoothing, scale) in [
        (Case::new(6, 4, 9, true), 0.1, 0.25),
        (Case::new(9, 3, 5, false), 0.0, 1.0),
        (Case::new(11, 4, 9, true).choosing(), 0.1, 0.25),
        (Case::new(8, 3, 7, false).choosing(), 0.0, 1.0),
    ] {
        let [hidden, table] = case.tensors();
        let bias = case.bias.as_ref().map(|bias| tensor(bias, &[case.vocabulary]));
        let before = vec![0.5; case.table.len()];
        let table_gradient = tensor(&before, table.dims());
        let (loss, gradient) = cross_entropy_backward(
            &hidden,
            &table,
            bias.as_ref(),
            case.targets(),
            smoothing,
            scale,
            Some(&table_gradient),
        )
        .unwrap();
        let loss = loss.read().unwrap();
        let forward = cross_entropy(&hidden, &table, bias.as_ref(), case.targets(), smoothing).unwrap();
        assert_eq!(loss, forward);
        let alone =
            cross_entropy_backward(&hidden, &table, bias.as_ref(), case.targets(), smoothing, scale, None).unwrap();
        assert_eq!(alone.0.read().unwrap(), loss);
        close("dhidden of a table that is not trained", &alone.1, &doubles(&gradient), 0.0);
        let wanted = differences(&case.hidden, |hidden| scale * case.loss(hidden, &case.table, smoothing).loss);
        close("dhidden", &gradient, &wanted, 1e-6);
        let mut wanted = differences(&case.table, |table| scale * case.loss(&case.hidden, table, smoothing).loss);
        wanted.iter_mut().for_each(|value| *value += 0.5);
        close("dtable", &table_gradient, &wanted, 1e-6);
    }
}

#[test]
fn gradients_add_up_over_chunks() {
    for case in [Case::new(2500, 2, 4, false), Case::new(5000, 2, 4, false).choosing()] {
        let [hidden, table] = case.tensors();
        let table_gradient = tensor(&vec![0.0; case.table.len()], table.dims());
        cross_entropy_backward(&hidden, &table, None, case.targets(), 0.0, 1e-3, Some(&table_gradient)).unwrap();
        let wanted = differences(&case.table, |table| 1e-3 * case.loss(&case.hidden, table, 0.0).loss);
        close("dtable", &table_gradient, &wanted, 1e-5);
    }
}

#[test]
fn nothing_to_predict_is_a_loss_of_zero() {
    let mut case = Case::new(4, 3, 5, true);
    case.targets.fill(-100);
    let [hidden, table] = case.tensors();
    let table_gradient = tensor(&[0.0; 15], &[5, 3]);
    let (loss, gradient) =
        cross_entropy_backward(&hidden, &table, None, &case.targets, 0.1, 1.0, Some(&table_gradient)).unwrap();
    assert_eq!(loss.read().unwrap(), Loss::default());
    close("dhidden", &gradient, &[0.0; 12], 0.0);
    close("dtable", &table_gradient, &[0.0; 15], 0.0);
}

#[test]
fn forbidden_entries_with_a_bias_of_minus_infinity_get_no_probability() {
    let mut case = Case::new(5, 3, 6, true);
    case.targets.fill(2);
    let [hidden, table] = case.tensors();
    let mut bias = vec![0.0; 6];
    bias[4] = f64::NEG_INFINITY;
    let found = cross_entropy(&hidden, &table, Some(&tensor(&bias, &[6])), &case.targets, 0.0).unwrap();
    case.bias = Some(bias);
    let wanted = case.loss(&case.hidden, &case.table, 0.0);
    assert!((found.loss - wanted.nll).abs() < 1e-5, "{found:?}, not {wanted:?}");
}

#[test]
fn choices_that_cannot_be_meant_are_refused() {
    let case = Case::new(3, 2, 5, false);
    let [hidden, table] = case.tensors();
    let message = |choices: &[Vec<u32>], weights: &[f32]| {
        let targets = LossTargets { labels: &[1, -100, 4], choices, weights };
        cross_entropy(&hidden, &table, None, targets, 0.0).unwrap_err().to_string()
    };
    assert!(message(&[vec![0, 2], vec![], vec![]], &[]).contains("target 1 at position 0 is not among its choices"));
    assert!(message(&[vec![1, 0], vec![], vec![]], &[]).contains("position 0 are not ascending"));
    assert!(
        message(&[vec![1], vec![], vec![4, 5]], &[])
            .contains("position 2 are not ascending tokens of a vocabulary of 5")
    );
    assert!(message(&[vec![1]], &[]).contains("choices of 1 positions"));
    assert!(message(&[], &[1.0; 4]).contains("weights of 4 positions"));
    assert!(message(&[], &[1.0, -1.0, 1.0]).contains("the weight -1 "));
}
