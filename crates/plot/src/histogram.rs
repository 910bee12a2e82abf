//! How often values occur.

use crate::Scale;

/// More would be as narrow as a few whole numbers, of which some hold one more than their neighbours.
const MOST_BARS: f64 = 20.0;

/// Values of at least `low` and less than `high`, of which there are `count`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Where the bar begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
    /// How many values lie between.
    pub count: usize,
}

/// Counts whole numbers in up to 20 bars between the least and the greatest: of equal width, or of equal ratio where `scale`
/// is logarithmic, and then zeros are left out. Edges are whole numbers.
pub fn histogram(values: &[usize], scale: Scale) -> Vec<Bar> {
    let is_log = scale == Scale::Log;
    let values = || values.iter().copied().filter(|&value| value > 0 || !is_log);
    let (Some(least), Some(greatest)) = (values().min(), values().max()) else { return Vec::new() };
    let (from, to) = (least as f64, greatest as f64 + 1.0);
    let edge = |index: f64| {
        let share = index / MOST_BARS;
        if is_log { from * (to / from).powf(share) } else { from + (to - from) * share }
    };
    let mut edges: Vec<usize> = (0..=MOST_BARS as usize).map(|index| edge(index as f64).round() as usize).collect();
    edges.dedup();
    let bar = |pair: &[usize]| Bar { low: pair[0] as f64, high: pair[1] as f64, count: 0 };
    let mut bars: Vec<Bar> = edges.windows(2).map(bar).collect();
    for value in values() {
        bars[edges.partition_point(|&edge| edge <= value) - 1].count += 1;
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::{Bar, histogram};
    use crate::Scale;

    #[test]
    fn every_value_is_counted_once() {
        for scale in [Scale::Linear, Scale::Whole, Scale::Log] {
            for values in [vec![7], vec![1, 2], vec![1, 1, 16_384], (1..1000).collect(), vec![5; 9]] {
                let bars = histogram(&values, scale);
                assert_eq!(bars.iter().map(|bar| bar.count).sum::<usize>(), values.len(), "{values:?}");
                assert!(bars.len() <= 20 && bars.iter().all(|bar| bar.low < bar.high));
                assert!(bars.windows(2).all(|pair| pair[0].high == pair[1].low));
            }
        }
        assert_eq!(histogram(&[7, 7], Scale::Log), [Bar { low: 7.0, high: 8.0, count: 2 }]);
    }

    #[test]
    fn nothing_makes_no_bars() {
        assert_eq!(histogram(&[], Scale::Linear), []);
        assert_eq!(histogram(&[0, 0], Scale::Log), []);
        assert_eq!(histogram(&[0, 0], Scale::Whole)[0].count, 2);
    }
}
