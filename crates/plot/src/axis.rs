//! Where values lie on an axis, and which of them have ticks.

/// How distances on an axis follow from values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equal distances.
    Linear,
    /// As linear, with ticks at whole numbers only.
    Whole,
    /// Equal ratios are equal distances; values are above 0.
    Log,
}

/// One side of a panel.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What the values are, with their unit.
    pub label: String,
    /// How they are placed.
    pub scale: Scale,
    /// Whether the axis reaches down to 0 however far away the values are.
    pub from_zero: bool,
}

impl Axis {
    /// An axis as long as its values need it.
    pub fn new(label: impl Into<String>, scale: Scale) -> Self {
        Self { label: label.into(), scale, from_zero: false }
    }

    /// The same axis beginning at 0.
    #[must_use]
    pub fn from_zero(self) -> Self {
        Self { from_zero: true, ..self }
    }

    /// Whether a value has a place.
    pub(crate) fn holds(&self, value: f64) -> bool {
        value.is_finite() && (self.scale != Scale::Log || value > 0.0)
    }

    /// The axis over `values`, all of which it holds; none if there are none.
    pub(crate) fn over(&self, values: impl Iterator<Item = f64>) -> Option<Range> {
        let (mut low, mut high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        if self.scale == Scale::Log {
            // A single value stands in the middle of a decade.
            let widen = if high / low < 1.0 + 1e-9 { 10f64.sqrt() } else { 1.0 };
            return Some(Range { scale: self.scale, low: low / widen, high: high * widen });
        }
        if self.from_zero {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        if high - low <= 1e-9 * low.abs().max(high.abs()) {
            let widen = if low == 0.0 { 1.0 } else { 0.5 * low.abs() };
            (low, high) = (low - widen, high + widen);
        }
        Some(Range { scale: self.scale, low, high })
    }
}

/// An axis with its ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Range {
    /// The place of a value: 0 at the low end, 1 at the high one.
    pub(crate) fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
            _ => (value - self.low) / (self.high - self.low),
        }
    }

    /// Widened outwards to the next ticks, so that the highest value has a number above it.
    pub(crate) fn to_ticks(self, most: usize) -> Self {
        if self.scale == Scale::Log {
            return self;
        }
        let step = self.step(most);
        // Ends that are ticks but for rounding stay.
        let low = (self.low / step + 1e-6).floor() * step;
        let high = (self.high / step - 1e-6).ceil() * step;
        Self { low, high, ..self }
    }

    /// Round numbers inside the range, about `most` at most, with their labels.
    pub(crate) fn ticks(&self, most: usize) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Log => self.log_ticks(most),
            _ => self.linear_ticks(most),
        }
    }

    /// The distance of ticks: 1, 2 or 5 times a power of ten.
    fn step(&self, most: usize) -> f64 {
        let least = (self.high - self.low) / most as f64;
        let power = 10f64.powf(least.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= least * 0.999);
        let step = step.unwrap_or(10.0 * power);
        if self.scale == Scale::Whole { step.max(1.0) } else { step }
    }

    fn linear_ticks(&self, most: usize) -> Vec<(f64, String)> {
        let step = self.step(most);
        let (first, last) = ((self.low / step - 1e-6).ceil() as i64, (self.high / step + 1e-6).floor() as i64);
        let largest = self.low.abs().max(self.high.abs());
        (first..=last).map(|index| index as f64 * step).map(|value| (value, label(value, step, largest))).collect()
    }

    /// Powers of ten; with few of them also their double and fivefold.
    fn log_ticks(&self, most: usize) -> Vec<(f64, String)> {
        let inside = |value: &f64| (self.low * (1.0 - 1e-9)..=self.high * (1.0 + 1e-9)).contains(value);
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let factors: [&[f64]; 2] = [&[1.0, 2.0, 5.0], &[1.0]];
        let among = |factors: &[f64], every: i32| -> Vec<f64> {
            let decades = (first..=last).filter(|power| power.rem_euclid(every) == 0);
            let all = decades.flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
            all.filter(inside).collect()
        };
        let mut ticks = among(factors[0], 1);
        let mut every = 1;
        while ticks.len() > most {
            ticks = among(factors[1], every);
            every += 1;
        }
        if ticks.len() < 2 {
            // Less than a factor of two or so: as on a linear axis.
            return Self { scale: Scale::Linear, ..*self }.linear_ticks(most);
        }
        ticks.into_iter().map(|value| (value, label(value, value, value))).collect()
    }
}

/// A number with as many digits as ticks `step` apart need, of which the largest is `largest`.
fn label(value: f64, step: f64, largest: f64) -> String {
    if value.abs() < step * 1e-6 {
        return "0".into();
    }
    let digits = |smallest: f64| (-(smallest.log10() + 1e-9).floor()).max(0.0) as usize;
    if !(1e-3..1e7).contains(&largest) {
        let power = value.abs().log10() + 1e-9;
        return format!("{value:.*e}", digits(step / 10f64.powf(power.floor()))).replace(".0e", "e");
    }
    let text = format!("{:.*}", digits(step), value.abs());
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    format!("{}{}{fraction}", if value < 0.0 { "-" } else { "" }, in_thousands(whole))
}

fn in_thousands(digits: &str) -> String {
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::{Axis, Scale};

    fn labels(scale: Scale, low: f64, high: f64) -> Vec<String> {
        let range = Axis::new("", scale).over([low, high].into_iter()).unwrap();
        range.ticks(6).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(Scale::Linear, 2.1, 9.7), ["4", "6", "8"]);
        assert_eq!(labels(Scale::Linear, -0.12, 0.31), ["-0.1", "0", "0.1", "0.2", "0.3"]);
        assert_eq!(labels(Scale::Linear, 0.0, 5e-5), ["0", "1e-5", "2e-5", "3e-5", "4e-5", "5e-5"]);
        assert_eq!(labels(Scale::Linear, 0.0, 2.5e-5), ["0", "5e-6", "1e-5", "1.5e-5", "2e-5", "2.5e-5"]);
        assert_eq!(labels(Scale::Whole, 0.0, 100_000.0), ["0", "20,000", "40,000", "60,000", "80,000", "100,000"]);
        assert_eq!(labels(Scale::Whole, 1.0, 3.0), ["1", "2", "3"]);
        assert_eq!(labels(Scale::Log, 1e-7, 1.0), ["1e-6", "1e-4", "0.01", "1"]);
        assert_eq!(labels(Scale::Log, 30.0, 900.0), ["50", "100", "200", "500"]);
        assert_eq!(labels(Scale::Log, 110.0, 160.0), ["110", "120", "130", "140", "150", "160"]);
    }

    #[test]
    fn equal_values_get_a_range_around_them() {
        for (scale, value) in [(Scale::Linear, 0.0), (Scale::Whole, 1.0), (Scale::Log, 64.0), (Scale::Linear, -3.5)] {
            let range = Axis::new("", scale).over([value, value].into_iter()).unwrap();
            assert!((range.place(value) - 0.5).abs() < 1e-9, "{value}");
            assert!(!range.ticks(6).is_empty(), "{value}");
        }
        assert_eq!(Axis::new("", Scale::Linear).over(std::iter::empty()), None);
    }

    #[test]
    fn widening_ends_at_ticks() {
        let range = Axis::new("", Scale::Linear).from_zero().over([3.3, 8.9].into_iter()).unwrap().to_ticks(6);
        assert_eq!((range.low, range.high), (0.0, 10.0));
        assert_eq!(range.to_ticks(6), range);
    }
}
