//! Named values as bars below each other.

use crate::svg::{COLORS, inline, shortened, text_width, write};
use crate::{Axis, escaped};

const HEIGHT: f64 = 20.0;
const TOP: f64 = 24.0;
const MARGIN: f64 = 8.0;
const TICKS: usize = 5;

/// Bars that begin at one line, each with its name beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Stands above.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From top to bottom.
    pub rows: Vec<Row>,
}

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What it stands for; cut where it would take more than a third of the width.
    pub name: String,
    /// As [`Mark::color`](crate::Mark::color).
    pub color: usize,
    /// Where it ends.
    pub value: f64,
    /// The ends of an interval around the value, which is drawn upon the bar.
    pub interval: Option<(f64, f64)>,
}

impl Rows {
    /// The chart `width` pixels wide, for the text of a page that has [`STYLE`](crate::STYLE).
    pub fn svg(&self, width: usize) -> String {
        let bottom = TOP + HEIGHT * self.rows.len() as f64;
        let mut out = format!("<text class=\"panel\" x=\"{MARGIN}\" y=\"14\">{}</text>\n", escaped(&self.title));
        let longest = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        let left = (text_width(longest) + 2.0 * MARGIN).min(width as f64 / 3.0);
        let right = width as f64 - 2.0 * MARGIN;
        let values = self.rows.iter().flat_map(Row::values).filter(|&value| self.x.holds(value));
        if let Some(range) = self.x.over(values) {
            let range = range.to_ticks(TICKS);
            let x = |value: f64| left + range.place(value) * (right - left);
            for (value, label) in range.ticks(TICKS) {
                let (x, y) = (x(value), bottom + 14.0);
                write(&mut out, format_args!("<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>"));
                write(&mut out, format_args!("<text class=\"middle\" x=\"{x:.1}\" y=\"{y}\">{label}</text>"));
            }
            for (index, row) in self.rows.iter().enumerate() {
                let middle = TOP + HEIGHT * (index as f64 + 0.5);
                row.name(left, middle, &mut out);
                if row.values().all(|value| self.x.holds(value)) {
                    row.draw(left, middle, &x, &mut out);
                }
            }
            write(&mut out, format_args!("<path class=\"frame\" d=\"M{left:.1} {TOP}V{bottom}\"/>"));
        }
        let (x, y) = ((left + right) / 2.0, bottom + 30.0);
        write(
            &mut out,
            format_args!("<text class=\"middle\" x=\"{x:.1}\" y=\"{y}\">{}</text>", escaped(&self.x.label)),
        );
        inline(&self.title, (width, bottom as usize + 38), &out)
    }
}

impl Row {
    fn values(&self) -> impl Iterator<Item = f64> {
        let (low, high) = self.interval.unwrap_or((self.value, self.value));
        [low, self.value, high].into_iter()
    }

    fn name(&self, left: f64, middle: f64, out: &mut String) {
        let most = ((left - 2.0 * MARGIN) / text_width(1) + 1e-6) as usize;
        let (x, y, name) = (left - MARGIN, middle + 4.0, escaped(&shortened(&self.name, most)));
        write(out, format_args!("<text class=\"end\" x=\"{x:.1}\" y=\"{y}\">{name}</text>"));
    }

    fn draw(&self, left: f64, middle: f64, x: &dyn Fn(f64) -> f64, out: &mut String) {
        let (color, width) = (self.color % COLORS, (x(self.value) - left).max(0.0));
        let (y, height) = (middle - 0.35 * HEIGHT, 0.7 * HEIGHT);
        let place = format!("x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"");
        write(out, format_args!("<rect class=\"bar c{color} f{color}\" {place}/>"));
        if let Some((low, high)) = self.interval {
            let (low, high, top) = (x(low), x(high), middle - 4.0);
            let line = format!("M{low:.1} {top}v8M{low:.1} {middle}H{high:.1}M{high:.1} {top}v8");
            write(out, format_args!("<path class=\"interval\" d=\"{line}\"/>"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scale;
    use crate::svg::tests::assert_well_formed;

    fn chart(rows: Vec<Row>) -> String {
        Rows { title: "<title>".into(), x: Axis::new("F1", Scale::Linear).from_zero(), rows }.svg(360)
    }

    fn row(name: &str, value: f64, interval: Option<(f64, f64)>) -> Row {
        Row { name: name.into(), color: 0, value, interval }
    }

    #[test]
    fn bars_end_at_their_values() {
        let svg = chart(vec![row("<a>", 20.0, Some((10.0, 40.0))), row("b", 0.0, None), row("c", f64::NAN, None)]);
        assert_well_formed(&svg);
        // From 0 to 40 between 33.4 and 344 pixels.
        assert!(svg.contains("x=\"33.4\" y=\"27.0\" width=\"155.3\""), "{svg}");
        assert!(svg.contains("d=\"M111.1 30v8M111.1 34H344.0M344.0 30v8\""), "{svg}");
        assert_eq!((svg.matches("<rect").count(), svg.matches("&lt;a&gt;").count()), (2, 1));
    }

    #[test]
    fn long_names_and_nothing() {
        let svg = chart(vec![row(&"long ".repeat(20), 1.0, None)]);
        assert!(svg.contains(">long long long l\u{2026}<"), "{svg}");
        assert_well_formed(&chart(Vec::new()));
    }
}
