//! The names of the marks of a panel, in rows under its title.

use crate::svg::{shortened, text_width, write};
use crate::{Mark, escaped};

const FIRST_ROW: f64 = 32.0;
const ROW: f64 = 16.0;
const SAMPLE: f64 = 18.0;
/// Between a sample and its name, and behind the name.
const GAPS: (f64, f64) = (5.0, 14.0);

/// Rows of names; where there are more, the last one says how many names are missing.
const MOST_ROWS: f64 = 5.0;
/// Characters of a name.
const LONGEST_NAME: usize = 40;

/// Where the sample of each mark that has a name stands: its left end and the middle of its height.
pub(crate) struct Legend<'a> {
    entries: Vec<(&'a Mark, f64, f64)>,
    /// The left end of the last row, its height, and how many names it stands for.
    others: Option<(f64, f64, usize)>,
}

impl<'a> Legend<'a> {
    /// Rows from `left` to `right`; a name that does not fit begins another one.
    pub(crate) fn new(marks: &'a [Mark], left: f64, right: f64) -> Self {
        let (mut x, mut y) = (left, FIRST_ROW);
        let mut entries = Vec::new();
        let named = || marks.iter().filter(|mark| !mark.name.is_empty());
        for (index, mark) in named().enumerate() {
            let width = SAMPLE + GAPS.0 + text_width(mark.name.chars().count().min(LONGEST_NAME));
            if x > left && x + width > right {
                (x, y) = (left, y + ROW);
            }
            if y >= FIRST_ROW + (MOST_ROWS - 1.0) * ROW && x == left && index + 1 < named().count() {
                return Self { entries, others: Some((left, y, named().count() - index)) };
            }
            entries.push((mark, x, y));
            x += width + GAPS.1;
        }
        Self { entries, others: None }
    }

    /// The height that is taken by rows beyond the first.
    pub(crate) fn extra_height(&self) -> f64 {
        let last = self.others.map(|(_, y, _)| y).or(self.entries.last().map(|&(_, _, y)| y));
        last.map_or(0.0, |y| y - FIRST_ROW)
    }

    pub(crate) fn draw(&self, out: &mut String) {
        for &(mark, x, y) in &self.entries {
            mark.sample((x, y), SAMPLE, out);
            let (x, y) = (x + SAMPLE + GAPS.0, y + 4.0);
            write(
                out,
                format_args!("<text x=\"{x:.1}\" y=\"{y}\">{}</text>", escaped(&shortened(&mark.name, LONGEST_NAME))),
            );
        }
        if let Some((x, y, count)) = self.others {
            write(out, format_args!("<text x=\"{x:.1}\" y=\"{}\">and {count} more</text>", y + 4.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Legend;
    use crate::{Mark, Shape};

    #[test]
    fn many_long_names_leave_room_for_the_plot() {
        let mark = |index: usize| Mark {
            name: format!("system {index} {}", "long ".repeat(20)),
            color: index,
            shape: Shape::Line(Vec::new()),
        };
        let marks: Vec<Mark> = (0..16).map(mark).collect();
        let legend = Legend::new(&marks, 50.0, 360.0);
        assert_eq!((legend.entries.len(), legend.extra_height()), (4, 64.0));
        let mut text = String::new();
        legend.draw(&mut text);
        assert!(text.contains("and 12 more") && text.contains("long \u{2026}</text>"), "{text}");
        let legend = Legend::new(&marks[..5], 50.0, 360.0);
        assert_eq!((legend.entries.len(), legend.others), (5, None));
    }
}
