//! The fused output head against logits, log-softmax and products written out in f64.

use crate::numbers::{Numbers, close, differences, dot, doubles, tensor};
use epitome_kernels::{Loss, cross_entropy, cross_entropy_backward, token_log_probabilities};

struct Case {
    hidden: Vec<f64>,
    table: Vec<f64>,
    bias: Option<Vec<f64>>,
    targets: Vec<i64>,
    width: usize,
    vocabulary: usize,
}

impl Case {
    fn new(rows: usize, width: usize, vocabulary: usize, with_bias: bool) -> Self {
        let mut numbers = Numbers::seeded((rows * vocabulary) as u64);
        let hidden = numbers.vector(rows * width);
        let table = numbers.vector(vocabulary * width);
        let bias = with_bias.then(|| numbers.vector(vocabulary));
        let targets = (0..rows).map(|row| if row % 5 == 3 { -100 } else { numbers.below(vocabulary) as i64 }).collect();
        Self { hidden, table, bias, targets, width, vocabulary }
    }

    /// -log p of every vocabulary entry of a row.
    fn row(&self, hidden: &[f64], table: &[f64], row: usize) -> Vec<f64> {
        let hidden = &hidden[row * self.width..][..self.width];
        let logits: Vec<f64> = (0..self.vocabulary)
            .map(|v| {
                dot(hidden, &table[v * self.width..][..self.width]) + self.bias.as_ref().map_or(0.0, |bias| bias[v])
            })
            .collect();
        let total = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        logits.iter().map(|logit| total - logit).collect()
    }

    fn loss(&self, hidden: &[f64], table: &[f64], smoothing: f64) -> Loss {
        let mut sum = Loss::default();
        for (row, target) in self.targets.iter().enumerate().filter(|(_, target)| **target != -100) {
            let nll = self.row(hidden, table, row);
            let mean = nll.iter().sum::<f64>() / self.vocabulary as f64;
            sum.nll += nll[*target as usize];
            sum.loss += (1.0 - smoothing) * nll[*target as usize] + smoothing * mean;
            sum.tokens += 1;
        }
        sum
    }

    fn tensors(&self) -> [candle_core::Tensor; 2] {
        [tensor(&self.hidden, &[self.targets.len(), self.width]), tensor(&self.table, &[self.vocabulary, self.width])]
    }

    #[track_caller]
    fn check_loss(&self, smoothing: f64) {
        let [hidden, table] = self.tensors();
        let bias = self.bias.as_ref().map(|bias| tensor(bias, &[self.vocabulary]));
        let wanted = self.loss(&self.hidden, &self.table, smoothing);
        let found = cross_entropy(&hidden, &table, bias.as_ref(), &self.targets, smoothing).unwrap();
        assert_eq!(found.tokens, wanted.tokens);
        assert!((found.nll - wanted.nll).abs() < 1e-5 * wanted.nll.max(1.0), "{found:?}, not {wanted:?}");
        assert!((found.loss - wanted.loss).abs() < 1e-5 * wanted.loss.max(1.0), "{found:?}, not {wanted:?}");
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
            }
        }
    }
}

#[test]
fn more_rows_than_a_chunk() {
    Case::new(2100, 2, 5, true).check_loss(0.1);
}

#[test]
fn gradients_agree_with_differences() {
    for (case, smoothing, scale) in [(Case::new(6, 4, 9, true), 0.1, 0.25), (Case::new(9, 3, 5, false), 0.0, 1.0)] {
        let [hidden, table] = case.tensors();
        let bias = case.bias.as_ref().map(|bias| tensor(bias, &[case.vocabulary]));
        let before = vec![0.5; case.table.len()];
        let table_gradient = tensor(&before, table.dims());
        let (loss, gradient) = cross_entropy_backward(
            &hidden,
            &table,
            bias.as_ref(),
            &case.targets,
            smoothing,
            scale,
            Some(&table_gradient),
        )
        .unwrap();
        let forward = cross_entropy(&hidden, &table, bias.as_ref(), &case.targets, smoothing).unwrap();
        assert_eq!(loss, forward);
        let alone =
            cross_entropy_backward(&hidden, &table, bias.as_ref(), &case.targets, smoothing, scale, None).unwrap();
        assert_eq!(alone.0, loss);
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
    let case = Case::new(2500, 2, 4, false);
    let [hidden, table] = case.tensors();
    let table_gradient = tensor(&vec![0.0; case.table.len()], table.dims());
    cross_entropy_backward(&hidden, &table, None, &case.targets, 0.0, 1e-3, Some(&table_gradient)).unwrap();
    let wanted = differences(&case.table, |table| 1e-3 * case.loss(&case.hidden, table, 0.0).loss);
    close("dtable", &table_gradient, &wanted, 1e-5);
}

#[test]
fn nothing_to_predict_is_a_loss_of_zero() {
    let mut case = Case::new(4, 3, 5, true);
    case.targets.fill(-100);
    let [hidden, table] = case.tensors();
    let table_gradient = tensor(&[0.0; 15], &[5, 3]);
    let (loss, gradient) =
        cross_entropy_backward(&hidden, &table, None, &case.targets, 0.1, 1.0, Some(&table_gradient)).unwrap();
    assert_eq!(loss, Loss::default());
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
