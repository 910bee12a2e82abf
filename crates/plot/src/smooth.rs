//! A running mean.

/// The fewest points that the running mean looks back over.
const LEAST_SPAN: usize = 10;

/// The exponential moving average of the second coordinates, over about a fiftieth of the points, with the start corrected
/// for what came before it (as Adam's moments are). Values that are not finite are left out.
pub fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let span = (points.len() / 50).max(LEAST_SPAN) as f64;
    let decay = 1.0 - 2.0 / (span + 1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let finite = points.iter().filter(|(_, value)| value.is_finite());
    let average = |&(x, value): &(f64, f64)| {
        sum = decay * sum + (1.0 - decay) * value;
        weight = decay * weight + (1.0 - decay);
        (x, sum / weight)
    };
    finite.map(average).collect()
}

#[cfg(test)]
mod tests {
    use super::smoothed;

    #[test]
    fn a_constant_stays_and_noise_shrinks() {
        let constant: Vec<(f64, f64)> = (0..100).map(|x| (f64::from(x), 3.0)).collect();
        assert!(smoothed(&constant).iter().all(|&(_, value)| (value - 3.0).abs() < 1e-12));
        let noisy: Vec<(f64, f64)> = (0..100).map(|x| (f64::from(x), f64::from(x % 2))).collect();
        assert!(smoothed(&noisy)[20..].iter().all(|&(_, value)| (value - 0.5).abs() < 0.1));
        assert_eq!(smoothed(&[(1.0, f64::NAN), (2.0, 5.0)]), [(2.0, 5.0)]);
        assert_eq!(smoothed(&[]), []);
    }
}
