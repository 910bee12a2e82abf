//! Correction of p-values for several tests.

/// The p-values of one family, corrected by Holm's step-down procedure, in their order.
///
/// The i-th smallest of m (from 0) is multiplied by m - i, is at least as large as the one before, and at most 1. Rejecting
/// where the result is at most a keeps the probability of any false rejection in the family at most a, however the tests
/// depend on each other.
pub(super) fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut corrected = vec![1.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (rank, &index) in order.iter().enumerate() {
        let remaining = (p_values.len() - rank) as f64;
        largest = largest.max((remaining * p_values[index]).min(1.0));
        corrected[index] = largest;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::holm;

    #[test]
    fn agrees_with_a_calculation_by_hand() {
        // In order: 0.0625 * 4 = 0.25, 0.125 * 3 = 0.375, 0.15625 * 2 = 0.3125 raised to 0.375, 0.5 * 1.
        let corrected = holm(&[0.125, 0.5, 0.0625, 0.15625]);
        assert_eq!(corrected, [0.375, 0.5, 0.25, 0.375]);
    }

    #[test]
    fn stays_a_probability() {
        assert_eq!(holm(&[0.5, 0.75, 1.0]), [1.0, 1.0, 1.0]);
        assert_eq!(holm(&[0.25]), [0.25]);
        assert!(holm(&[]).is_empty());
    }
}
