//! The names of the marks of a panel, in rows under its title.

use crate::svg::{text_width, write};
use crate::{Mark, escaped};

const FIRST_ROW: f64 = 32.0;
const ROW: f64 = 16.0;
const SAMPLE: f64 = 18.0;
/// Between a sample and its name, and behind the name.
const GAPS: (f64, f64) = (5.0, 14.0);

/// Where the sample of each mark that has a name stands: its left end and the middle of its height.
pub(crate) struct Legend<'a> {
    entries: Vec<(&'a Mark, f64, f64)>,
}

impl<'a> Legend<'a> {
    /// Rows from `left` to `right`; a name that does not fit begins another one.
    pub(crate) fn new(marks: &'a [Mark], left: f64, right: f64) -> Self {
        let (mut x, mut y) = (left, FIRST_ROW);
        let mut entries = Vec::new();
        for mark in marks.iter().filter(|mark| !mark.name.is_empty()) {
            let width = SAMPLE + GAPS.0 + text_width(mark.name.chars().count());
            if x > left && x + width > right {
                (x, y) = (left, y + ROW);
            }
            entries.push((mark, x, y));
            x += width + GAPS.1;
        }
        Self { entries }
    }

    /// The height that is taken by rows beyond the first.
    pub(crate) fn extra_height(&self) -> f64 {
        self.entries.last().map_or(0.0, |&(_, _, y)| y - FIRST_ROW)
    }

    pub(crate) fn draw(&self, out: &mut String) {
        for &(mark, x, y) in &self.entries {
            mark.sample((x, y), SAMPLE, out);
            let (x, y) = (x + SAMPLE + GAPS.0, y + 4.0);
            write(out, format_args!("<text x=\"{x:.1}\" y=\"{y}\">{}</text>", escaped(&mark.name)));
        }
    }
}
