//! Panels under a title.

use crate::escaped;
use crate::panel::{HEIGHT, Panel, WIDTH};

const COLUMNS: usize = 2;
const TITLE_HEIGHT: usize = 44;

/// Text, lines and fills are told apart by class, so that their colours can follow the reader's system. The colours of marks
/// (`c0`, `c1`, ...) stand out from both backgrounds.
const STYLE: &str = "\
svg { color-scheme: light dark; }
text { font-family: system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif; font-size: 11px; fill: #333; }
.paper { fill: #fff; }
.title { font-size: 16px; font-weight: 600; }
.panel { font-size: 13px; font-weight: 600; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
.grid { stroke: #e4e4e4; stroke-width: 1; }
.frame { stroke: #8a8a8a; stroke-width: 1; fill: none; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.thin { fill: none; stroke-width: 1; stroke-linejoin: round; opacity: .4; }
.rule { fill: none; stroke-width: 1.2; stroke-dasharray: 4 3; }
.bar { fill-opacity: .5; stroke-width: .6; }
.c0 { stroke: #2f7ed8; } .c1 { stroke: #e0701c; } .c2 { stroke: #2a9d5c; } .c3 { stroke: #a463d0; } .c4 { stroke: #888; }
.f0 { fill: #2f7ed8; } .f1 { fill: #e0701c; } .f2 { fill: #2a9d5c; } .f3 { fill: #a463d0; } .f4 { fill: #888; }
@media (prefers-color-scheme: dark) {
text { fill: #ddd; }
.paper { fill: #1b1b1d; }
.grid { stroke: #38383b; }
.thin { opacity: .6; }
}
";

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
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
             <rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n\
             <text class=\"title\" x=\"16\" y=\"28\">{title}</text>\n"
        );
        for (index, panel) in self.panels.iter().enumerate() {
            let (x, y) = (index % columns * WIDTH, TITLE_HEIGHT + index / columns * HEIGHT);
            out.push_str(&format!("<g transform=\"translate({x} {y})\">\n"));
            panel.draw(&mut out);
            out.push_str("</g>\n");
        }
        out.push_str("</svg>\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Mark, Scale, Shape, histogram};

    fn panel(marks: Vec<Mark>, scale: Scale) -> Panel {
        Panel { title: "a <panel>".into(), x: Axis::new("x & x", scale), y: Axis::new("y", Scale::Linear), marks }
    }

    fn line(points: Vec<(f64, f64)>) -> Mark {
        Mark { name: "\"name\"".into(), color: 0, shape: Shape::Line(points) }
    }

    /// Whether every element is closed and no number is missing.
    #[track_caller]
    fn assert_well_formed(svg: &str) {
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag ends");
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None if tag.ends_with('/') => (),
                None => open.push(tag.split_whitespace().next().unwrap()),
            }
        }
        assert!(open.is_empty(), "{open:?}");
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
}
