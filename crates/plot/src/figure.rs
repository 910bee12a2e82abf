//! Panels under a title.

use crate::escaped;
use crate::panel::{HEIGHT, Panel};
use crate::svg::STYLE;

const COLUMNS: usize = 2;
const WIDTH: usize = 480;
const TITLE_HEIGHT: usize = 44;

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Stands above the panels.
    pub title: String,
    /// From left to right and from top to bottom.
    pub panels: Vec<Panel>,
}

impl Figure {
    /// The picture as the text of an SVG file.
    pub fn svg(&self) -> String {
        let columns = self.panels.len().clamp(1, COLUMNS);
        let (width, height) = (columns * WIDTH, TITLE_HEIGHT + self.panels.len().div_ceil(columns) * HEIGHT);
        let title = escaped(&self.title);
        let mut out = format!(
            "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
             <rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n\
             <text class=\"title\" x=\"16\" y=\"28\">{title}</text>\n"
        );
        for (index, panel) in self.panels.iter().enumerate() {
            let (x, y) = (index % columns * WIDTH, TITLE_HEIGHT + index / columns * HEIGHT);
            out.push_str(&format!("<g transform=\"translate({x} {y})\">\n"));
            panel.draw(WIDTH, &mut out);
            out.push_str("</g>\n");
        }
        out.push_str("</svg>\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::tests::assert_well_formed;
    use crate::{Axis, Interval, Mark, Scale, Shape, histogram};

    fn panel(marks: Vec<Mark>, scale: Scale) -> Panel {
        Panel { title: "a <panel>".into(), x: Axis::new("x & x", scale), y: Axis::new("y", Scale::Linear), marks }
    }

    fn line(points: Vec<(f64, f64)>) -> Mark {
        Mark { name: "\"name\"".into(), color: 0, shape: Shape::Line(points) }
    }

    #[test]
    fn text_is_escaped() {
        let figure =
            Figure { title: "<script>".into(), panels: vec![panel(vec![line(vec![(1.0, 2.0)])], Scale::Whole)] };
        let svg = figure.svg();
        assert_well_formed(&svg);
        for text in ["&lt;script&gt;", "a &lt;panel&gt;", "x &amp; x", "&quot;name&quot;"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn one_point_none_and_values_without_a_place_are_drawn() {
        for scale in [Scale::Linear, Scale::Whole, Scale::Log] {
            for points in [
                vec![],
                vec![(1.0, 2.0)],
                vec![(0.0, 2.0), (-1.0, 1.0)],
                vec![(1.0, f64::NAN), (2.0, 1.0), (3.0, f64::INFINITY)],
                vec![(5.0, 0.0), (5.0, 0.0)],
            ] {
                let panels = vec![panel(vec![line(points.clone())], scale), panel(vec![], scale)];
                assert_well_formed(&Figure { title: String::new(), panels }.svg());
            }
        }
        assert_well_formed(&Figure { title: "nothing".into(), panels: Vec::new() }.svg());
    }

    #[test]
    fn many_points_make_a_small_picture_with_their_extremes() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|x| (f64::from(x), f64::from(x % 100))).collect();
        points[54_321].1 = 1000.0;
        let svg = Figure { title: "many".into(), panels: vec![panel(vec![line(points)], Scale::Whole)] }.svg();
        assert!(svg.len() < 40_000, "{}", svg.len());
        let path = svg.split("class=\"line c0\" d=\"M").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let heights = path.split(['L', ' ']).skip(1).step_by(2).map(|y| y.parse::<f64>().unwrap());
        assert_eq!(heights.fold(f64::INFINITY, f64::min), 48.0, "the one high value is at the top");
    }

    #[test]
    fn bars_and_rules_are_drawn() {
        let bars = histogram(&[1, 10, 10, 100], Scale::Log);
        let marks = vec![
            Mark { name: "sources".into(), color: 1, shape: Shape::Bars(bars) },
            Mark { name: "best".into(), color: 4, shape: Shape::Rule(10.0) },
        ];
        let svg = Figure { title: "bars".into(), panels: vec![panel(marks, Scale::Log)] }.svg();
        assert_well_formed(&svg);
        assert_eq!(svg.matches("class=\"rule c4\"").count(), 2, "the rule and its entry in the legend");
    }

    #[test]
    fn steps_and_intervals_are_drawn() {
        let interval = |x, value: f64| Interval { x, low: value - 1.0, value, high: value + 2.0 };
        let intervals = vec![interval(1.0, 5.0), interval(f64::NAN, 1.0), interval(3.0, f64::NAN), interval(4.0, 6.0)];
        let marks = vec![
            Mark { name: "shares".into(), color: 4, shape: Shape::Steps(vec![(0.0, 2.0, 3.0), (2.0, 4.0, 1.0)]) },
            Mark { name: "scores".into(), color: 1, shape: Shape::Intervals(intervals) },
        ];
        let svg = panel(marks, Scale::Linear).svg(360);
        assert_well_formed(&svg);
        assert!(!svg.contains("<style") && svg.contains("aria-label=\"a &lt;panel&gt;\""));
        assert_eq!(svg.matches("class=\"whisker c1\"").count(), 2, "what has no place is left out");
        let steps = svg.split("class=\"step c4 f4\" d=\"M").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        // From 0 to 4 over 276 pixels; the highest value, 8, at the top.
        assert_eq!(steps, "66.0 240.0L66.0 168.0L204.0 168.0L204.0 216.0L342.0 216.0L342.0 240.0");
    }

    #[test]
    fn names_that_do_not_fit_begin_another_row() {
        let marks = |count| vec![Mark { name: "a name of some length".into(), ..line(vec![(1.0, 2.0)]) }; count];
        let rows = |count| {
            let svg = panel(marks(count), Scale::Linear).svg(360);
            let mut heights: Vec<&str> = svg.split("class=\"line c0\" d=\"M66.0 ").skip(1).collect();
            heights.dedup();
            heights.len()
        };
        assert_eq!((rows(1), rows(2), rows(3)), (1, 2, 3));
    }
}
