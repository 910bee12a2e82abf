//! How marks are drawn.

use crate::svg::{COLORS, write};
use crate::{Axis, Bar, Interval, Mark, Shape};

impl Mark {
    /// The corners that have a place on both axes.
    pub(crate) fn places<'a>(&'a self, x: &'a Axis, y: &'a Axis) -> Box<dyn Iterator<Item = (f64, f64)> + 'a> {
        let on_axes = |&(at_x, at_y): &(f64, f64)| x.holds(at_x) && y.holds(at_y);
        match &self.shape {
            Shape::Line(points) | Shape::ThinLine(points) | Shape::Dots(points) => {
                Box::new(points.iter().copied().filter(on_axes))
            }
            Shape::Bars(bars) => {
                let corners = |bar: &Bar| [(bar.low, 0.0), (bar.high, bar.count as f64)];
                Box::new(bars.iter().flat_map(corners).filter(on_axes))
            }
            Shape::Steps(steps) => {
                let begin = steps.first().map(|&(low, _, _)| (low, 0.0));
                let end = steps.last().map(|&(_, high, _)| (high, 0.0));
                let corners = steps.iter().flat_map(|&(low, high, value)| [(low, value), (high, value)]);
                Box::new(begin.into_iter().chain(corners).chain(end).filter(on_axes))
            }
            Shape::Intervals(intervals) => {
                let corners = |at: &Interval| [(at.x, at.low), (at.x, at.value), (at.x, at.high)];
                let corners = intervals.iter().map(corners).filter(move |corners| corners.iter().all(on_axes));
                Box::new(corners.flatten())
            }
            Shape::Rule(at_x) => Box::new(Some((*at_x, f64::NAN)).into_iter().filter(|&(at_x, _)| x.holds(at_x))),
        }
    }

    /// Draws the mark with its corners, which are [`Mark::places`] in pixels, in a panel that reaches from `top` to `bottom`.
    pub(crate) fn draw(&self, corners: impl Iterator<Item = (f64, f64)>, (top, bottom): (f64, f64), out: &mut String) {
        let color = self.color % COLORS;
        match &self.shape {
            Shape::Line(_) => line("line", color, &thinned(corners), out),
            Shape::ThinLine(_) => line("thin", color, &thinned(corners), out),
            Shape::Dots(_) => {
                let points = thinned(corners);
                line("line", color, &points, out);
                points.iter().for_each(|&point| dot(color, point, out));
            }
            Shape::Bars(_) => {
                let corners: Vec<(f64, f64)> = corners.collect();
                corners.chunks_exact(2).for_each(|bar| rectangle(color, bar[0], bar[1], out));
            }
            Shape::Steps(_) => {
                let corners: Vec<(f64, f64)> = corners.collect();
                if !corners.is_empty() {
                    write(out, format_args!("<path class=\"step c{color} f{color}\" d=\"M{}\"/>", joined(&corners)));
                }
            }
            Shape::Intervals(_) => {
                let corners: Vec<(f64, f64)> = corners.collect();
                let points: Vec<(f64, f64)> = corners.iter().skip(1).step_by(3).copied().collect();
                if points.len() > 1 {
                    line("line", color, &points, out);
                }
                for interval in corners.chunks_exact(3) {
                    whisker(color, interval[0], interval[2].1, out);
                    dot(color, interval[1], out);
                }
            }
            Shape::Rule(_) => {
                for (x, _) in corners {
                    write(out, format_args!("<path class=\"rule c{color}\" d=\"M{x:.1} {top}V{bottom}\"/>"));
                }
            }
        }
    }

    /// Draws what a legend shows of the mark: `width` pixels from `(x, y)` to the right.
    pub(crate) fn sample(&self, (x, y): (f64, f64), width: f64, out: &mut String) {
        let color = self.color % COLORS;
        let class = match &self.shape {
            Shape::Bars(_) => return rectangle(color, (x, y + 4.0), (x + width, y - 4.0), out),
            Shape::Line(_) | Shape::Dots(_) | Shape::Intervals(_) | Shape::Steps(_) => "line",
            Shape::ThinLine(_) => "thin",
            Shape::Rule(_) => "rule",
        };
        write(out, format_args!("<path class=\"{class} c{color}\" d=\"M{x:.1} {y}H{:.1}\"/>", x + width));
        if matches!(self.shape, Shape::Dots(_) | Shape::Intervals(_)) {
            dot(color, (x + width / 2.0, y), out);
        }
    }
}

fn rectangle(color: usize, (left, bottom): (f64, f64), (right, top): (f64, f64), out: &mut String) {
    let (width, height) = (right - left, bottom - top);
    if height > 0.0 {
        let place = format!("x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"");
        write(out, format_args!("<rect class=\"bar c{color} f{color}\" {place}/>"));
    }
}

fn whisker(color: usize, (x, low): (f64, f64), high: f64, out: &mut String) {
    let left = x - 3.0;
    let path = format!("M{left:.1} {low:.1}h6M{x:.1} {low:.1}V{high:.1}M{left:.1} {high:.1}h6");
    write(out, format_args!("<path class=\"whisker c{color}\" d=\"{path}\"/>"));
}

fn dot(color: usize, (x, y): (f64, f64), out: &mut String) {
    write(out, format_args!("<circle class=\"f{color}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.8\"/>"));
}

fn line(class: &str, color: usize, points: &[(f64, f64)], out: &mut String) {
    match points {
        [] => (),
        [point] => dot(color, *point, out),
        points => write(out, format_args!("<path class=\"{class} c{color}\" d=\"M{}\"/>", joined(points))),
    }
}

fn joined(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect::<Vec<_>>().join("L")
}

/// No more points than can be seen: of those that share a column of pixels the first, the lowest, the highest and the last.
fn thinned(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = points.collect();
    let mut kept = Vec::new();
    for column in points.chunk_by(|one, other| one.0.floor() == other.0.floor()) {
        let by_height = |one: &&usize, other: &&usize| column[**one].1.total_cmp(&column[**other].1);
        let indices: Vec<usize> = (0..column.len()).collect();
        let extremes = [indices.iter().min_by(by_height), indices.iter().max_by(by_height)];
        let mut of_column = vec![0, column.len() - 1];
        of_column.extend(extremes.into_iter().flatten());
        of_column.sort_unstable();
        of_column.dedup();
        kept.extend(of_column.into_iter().map(|index| column[index]));
    }
    kept
}
