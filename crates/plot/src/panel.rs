//! One pair of axes with what is drawn between them.

use std::fmt::Write;

use crate::axis::Range;
use crate::{Axis, Bar, escaped};

/// Outer measures of a panel in pixels.
pub(crate) const WIDTH: usize = 480;
pub(crate) const HEIGHT: usize = 288;

/// The inside: what lies between the axes.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 462.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 240.0;

/// Ticks of an axis at most.
const X_TICKS: usize = 6;
const Y_TICKS: usize = 5;

/// One chart of a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// Stands above.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// What is drawn, the first one at the back.
    pub marks: Vec<Mark>,
}

/// Something drawn in one colour.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Its entry in the legend; none if empty.
    pub name: String,
    /// Which colour: 0 blue, 1 orange, 2 green, 3 purple, 4 grey; then from the beginning.
    pub color: usize,
    /// What it is.
    pub shape: Shape,
}

/// What a mark looks like.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A line through points in ascending order of x.
    Line(Vec<(f64, f64)>),
    /// A line that stays in the background.
    ThinLine(Vec<(f64, f64)>),
    /// A line with a dot on every point.
    Dots(Vec<(f64, f64)>),
    /// The bars of a histogram.
    Bars(Vec<Bar>),
    /// A vertical rule at this x.
    Rule(f64),
}

const COLORS: usize = 5;

impl Panel {
    /// Appends the elements of the panel, with its upper left corner at the origin.
    pub(crate) fn draw(&self, out: &mut String) {
        write(out, format_args!("<text class=\"panel\" x=\"{LEFT}\" y=\"14\">{}</text>", escaped(&self.title)));
        let x = self.x.over(self.marks.iter().flat_map(|mark| self.places(mark)).map(|(x, _)| x));
        let heights = self.marks.iter().filter(|mark| !matches!(mark.shape, Shape::Rule(_)));
        let y = self.y.over(heights.flat_map(|mark| self.places(mark)).map(|(_, y)| y));
        let (Some(x), Some(y)) = (x, y) else {
            frame(out);
            let (x, y) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
            return write(out, format_args!("<text class=\"middle\" x=\"{x}\" y=\"{y}\">nothing measured</text>"));
        };
        let inside = Inside { x, y: y.to_ticks(Y_TICKS) };
        self.axes(&inside, out);
        for mark in &self.marks {
            self.mark(mark, &inside, out);
        }
        frame(out);
        self.legend(out);
    }

    /// The corners of a mark that have a place on both axes.
    fn places<'a>(&'a self, mark: &'a Mark) -> Box<dyn Iterator<Item = (f64, f64)> + 'a> {
        let on_axes = |&(x, y): &(f64, f64)| self.x.holds(x) && self.y.holds(y);
        match &mark.shape {
            Shape::Line(points) | Shape::ThinLine(points) | Shape::Dots(points) => {
                Box::new(points.iter().copied().filter(on_axes))
            }
            Shape::Bars(bars) => {
                let corners = |bar: &Bar| [(bar.low, 0.0), (bar.high, bar.count as f64)];
                Box::new(bars.iter().flat_map(corners).filter(on_axes))
            }
            Shape::Rule(x) => Box::new(Some((*x, f64::NAN)).into_iter().filter(|&(x, _)| self.x.holds(x))),
        }
    }

    fn axes(&self, inside: &Inside, out: &mut String) {
        for (value, label) in inside.x.ticks(X_TICKS) {
            let x = inside.x(value);
            write(out, format_args!("<path class=\"grid\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/>"));
            write(out, format_args!("<text class=\"middle\" x=\"{x:.1}\" y=\"{}\">{label}</text>", BOTTOM + 16.0));
        }
        for (value, label) in inside.y.ticks(Y_TICKS) {
            let y = inside.y(value);
            write(out, format_args!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>"));
            write(out, format_args!("<text class=\"end\" x=\"{}\" y=\"{:.1}\">{label}</text>", LEFT - 6.0, y + 4.0));
        }
        let (x, y) = ((LEFT + RIGHT) / 2.0, BOTTOM + 34.0);
        write(out, format_args!("<text class=\"middle\" x=\"{x}\" y=\"{y}\">{}</text>", escaped(&self.x.label)));
        let (x, y) = (14, (TOP + BOTTOM) / 2.0);
        let label = escaped(&self.y.label);
        write(out, format_args!("<text class=\"middle\" transform=\"translate({x} {y}) rotate(-90)\">{label}</text>"));
    }

    fn mark(&self, mark: &Mark, inside: &Inside, out: &mut String) {
        let color = mark.color % COLORS;
        let placed = || self.places(mark).map(|(x, y)| (inside.x(x), inside.y(y)));
        match &mark.shape {
            Shape::Line(_) => line("line", color, &thinned(placed()), out),
            Shape::ThinLine(_) => line("thin", color, &thinned(placed()), out),
            Shape::Dots(_) => {
                let points = thinned(placed());
                line("line", color, &points, out);
                points.iter().for_each(|&point| dot(color, point, out));
            }
            Shape::Bars(_) => {
                let corners: Vec<(f64, f64)> = placed().collect();
                for bar in corners.chunks_exact(2) {
                    let ((left, bottom), (right, top)) = (bar[0], bar[1]);
                    let (width, height) = (right - left, bottom - top);
                    if height > 0.0 {
                        let place =
                            format!("x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"");
                        write(out, format_args!("<rect class=\"bar c{color} f{color}\" {place}/>"));
                    }
                }
            }
            Shape::Rule(_) => {
                for (x, _) in placed() {
                    write(out, format_args!("<path class=\"rule c{color}\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/>"));
                }
            }
        }
    }

    /// Names of the marks in a row under the title.
    fn legend(&self, out: &mut String) {
        const SAMPLE: f64 = 18.0;
        let (mut x, y) = (LEFT, 32.0);
        for mark in self.marks.iter().filter(|mark| !mark.name.is_empty()) {
            let (color, end) = (mark.color % COLORS, x + SAMPLE);
            let sample = |class: &str| format!("<path class=\"{class} c{color}\" d=\"M{x:.1} {y}H{end:.1}\"/>");
            match &mark.shape {
                Shape::Line(_) => write(out, format_args!("{}", sample("line"))),
                Shape::ThinLine(_) => write(out, format_args!("{}", sample("thin"))),
                Shape::Rule(_) => write(out, format_args!("{}", sample("rule"))),
                Shape::Dots(_) => {
                    write(out, format_args!("{}", sample("line")));
                    dot(color, (x + SAMPLE / 2.0, y), out);
                }
                Shape::Bars(_) => {
                    let place = format!("x=\"{x:.1}\" y=\"{}\" width=\"{SAMPLE}\" height=\"8\"", y - 4.0);
                    write(out, format_args!("<rect class=\"bar c{color} f{color}\" {place}/>"));
                }
            }
            write(out, format_args!("<text x=\"{:.1}\" y=\"{}\">{}</text>", end + 5.0, y + 4.0, escaped(&mark.name)));
            // Letters are about this wide; the true width is known to whoever draws the text.
            x = end + 5.0 + 5.8 * mark.name.chars().count() as f64 + 14.0;
        }
    }
}

/// Where values lie in pixels.
struct Inside {
    x: Range,
    y: Range,
}

impl Inside {
    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - self.y.place(value) * (BOTTOM - TOP)
    }
}

/// Writes one element on a line of its own.
fn write(out: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(out, "{element}").expect("a string can always grow");
}

fn frame(out: &mut String) {
    let (width, height) = (RIGHT - LEFT, BOTTOM - TOP);
    write(out, format_args!("<rect class=\"frame\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{width}\" height=\"{height}\"/>"));
}

fn dot(color: usize, (x, y): (f64, f64), out: &mut String) {
    write(out, format_args!("<circle class=\"f{color}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.8\"/>"));
}

fn line(class: &str, color: usize, points: &[(f64, f64)], out: &mut String) {
    match points {
        [] => (),
        [point] => dot(color, *point, out),
        points => {
            let corners: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            write(out, format_args!("<path class=\"{class} c{color}\" d=\"M{}\"/>", corners.join("L")));
        }
    }
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
