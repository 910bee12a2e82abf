//! One pair of axes with what is drawn between them.

use crate::axis::Range;
use crate::legend::Legend;
use crate::svg::{inline, write};
use crate::{Axis, Bar, escaped};

/// The height of a panel in pixels.
pub(crate) const HEIGHT: usize = 288;

/// What lies outside of the axes: to the left, to the right, above (with one row of names), and where the inside ends.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 18.0;
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
    /// Which colour: 0 blue, 1 orange, 2 green, 3 purple, 4 grey, 5 red, 6 teal, 7 olive; then from the beginning.
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
    /// The outline of a histogram: from, to and value of each step, in ascending order and without gaps. Unlike bars, several
    /// can be told apart in one panel.
    Steps(Vec<(f64, f64, f64)>),
    /// A line with a dot and an interval at every point.
    Intervals(Vec<Interval>),
    /// A vertical rule at this x.
    Rule(f64),
}

/// A value with the interval it is known to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Where it stands.
    pub x: f64,
    /// The lower end.
    pub low: f64,
    /// The value.
    pub value: f64,
    /// The upper end.
    pub high: f64,
}

impl Panel {
    /// The panel alone, `width` pixels wide, for the text of a page that has [`STYLE`](crate::STYLE).
    pub fn svg(&self, width: usize) -> String {
        let mut body = String::new();
        self.draw(width, &mut body);
        inline(&self.title, (width, HEIGHT), &body)
    }

    /// Appends the elements of the panel, with its upper left corner at the origin.
    pub(crate) fn draw(&self, width: usize, out: &mut String) {
        write(out, format_args!("<text class=\"panel\" x=\"{LEFT}\" y=\"14\">{}</text>", escaped(&self.title)));
        let right = width as f64 - RIGHT;
        let legend = Legend::new(&self.marks, LEFT, right);
        let top = TOP + legend.extra_height();
        let x = self.x.over(self.marks.iter().flat_map(|mark| mark.places(&self.x, &self.y)).map(|(x, _)| x));
        let heights = self.marks.iter().filter(|mark| !matches!(mark.shape, Shape::Rule(_)));
        let y = self.y.over(heights.flat_map(|mark| mark.places(&self.x, &self.y)).map(|(_, y)| y));
        let (Some(x), Some(y)) = (x, y) else {
            frame(right, top, out);
            let (x, y) = ((LEFT + right) / 2.0, (top + BOTTOM) / 2.0);
            return write(out, format_args!("<text class=\"middle\" x=\"{x}\" y=\"{y}\">nothing measured</text>"));
        };
        let inside = Inside { x, y: y.to_ticks(Y_TICKS), right, top };
        self.axes(&inside, out);
        for mark in &self.marks {
            let places = mark.places(&self.x, &self.y).map(|(x, y)| (inside.x(x), inside.y(y)));
            mark.draw(places, (top, BOTTOM), out);
        }
        frame(right, top, out);
        legend.draw(out);
    }

    fn axes(&self, inside: &Inside, out: &mut String) {
        let &Inside { right, top, .. } = inside;
        for (value, label) in inside.x.ticks(X_TICKS) {
            let x = inside.x(value);
            write(out, format_args!("<path class=\"grid\" d=\"M{x:.1} {top}V{BOTTOM}\"/>"));
            write(out, format_args!("<text class=\"middle\" x=\"{x:.1}\" y=\"{}\">{label}</text>", BOTTOM + 16.0));
        }
        for (value, label) in inside.y.ticks(Y_TICKS) {
            let y = inside.y(value);
            write(out, format_args!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>"));
            write(out, format_args!("<text class=\"end\" x=\"{}\" y=\"{:.1}\">{label}</text>", LEFT - 6.0, y + 4.0));
        }
        let (x, y) = ((LEFT + right) / 2.0, BOTTOM + 34.0);
        write(out, format_args!("<text class=\"middle\" x=\"{x}\" y=\"{y}\">{}</text>", escaped(&self.x.label)));
        let (x, y) = (14, (top + BOTTOM) / 2.0);
        let label = escaped(&self.y.label);
        write(out, format_args!("<text class=\"middle\" transform=\"translate({x} {y}) rotate(-90)\">{label}</text>"));
    }
}

/// Where values lie in pixels.
struct Inside {
    x: Range,
    y: Range,
    right: f64,
    top: f64,
}

impl Inside {
    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (self.right - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - self.y.place(value) * (BOTTOM - self.top)
    }
}

fn frame(right: f64, top: f64, out: &mut String) {
    let (width, height) = (right - LEFT, BOTTOM - top);
    write(out, format_args!("<rect class=\"frame\" x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"/>"));
}
