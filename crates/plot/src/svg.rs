//! What all charts share: the outermost element, colours and how elements are written.

use std::fmt::Write;

use crate::escaped;

/// How many colours there are.
pub(crate) const COLORS: usize = 8;

/// The text, or its beginning, with at most so many characters.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.chars().nth(most) {
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['\u{2026}']).collect(),
        None => text.to_owned(),
    }
}

/// The style of all charts. An SVG file has it inside; a page with charts in its text needs it once.
///
/// Text, lines and fills are told apart by class, so that their colours can follow the reader's system. The colours of marks
/// (`c0`, `c1`, ...) stand out from both backgrounds.
pub const STYLE: &str = "\
.plot { color-scheme: light dark; }
.plot text { font-family: system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif; font-size: 11px; fill: #333333; }
.plot .paper { fill: #ffffff; }
.plot .title { font-size: 16px; font-weight: 600; }
.plot .panel { font-size: 13px; font-weight: 600; }
.plot .end { text-anchor: end; }
.plot .middle { text-anchor: middle; }
.plot .grid { stroke: #e4e4e4; stroke-width: 1; }
.plot .frame { stroke: #8a8a8a; stroke-width: 1; fill: none; }
.plot .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.plot .thin { fill: none; stroke-width: 1; stroke-linejoin: round; opacity: .4; }
.plot .rule { fill: none; stroke-width: 1.2; stroke-dasharray: 4 3; }
.plot .bar { fill-opacity: .5; stroke-width: .6; }
.plot .step { fill-opacity: .12; stroke-width: 1.6; stroke-linejoin: round; }
.plot .whisker { fill: none; stroke-width: 1.2; }
.plot .interval { stroke: #333333; stroke-width: 1.4; fill: none; }
.plot .c0 { stroke: #2f7ed8; } .plot .f0 { fill: #2f7ed8; }
.plot .c1 { stroke: #e0701c; } .plot .f1 { fill: #e0701c; }
.plot .c2 { stroke: #2a9d5c; } .plot .f2 { fill: #2a9d5c; }
.plot .c3 { stroke: #a463d0; } .plot .f3 { fill: #a463d0; }
.plot .c4 { stroke: #888888; } .plot .f4 { fill: #888888; }
.plot .c5 { stroke: #d6456b; } .plot .f5 { fill: #d6456b; }
.plot .c6 { stroke: #1a8f9e; } .plot .f6 { fill: #1a8f9e; }
.plot .c7 { stroke: #8c8420; } .plot .f7 { fill: #8c8420; }
@media (prefers-color-scheme: dark) {
.plot text { fill: #dddddd; }
.plot .paper { fill: #1b1b1d; }
.plot .grid { stroke: #38383b; }
.plot .thin { opacity: .6; }
.plot .interval { stroke: #dddddd; }
}
";

/// A chart in the text of a page that has [`STYLE`]: `body` in an element of this size that `title` describes.
pub(crate) fn inline(title: &str, (width, height): (usize, usize), body: &str) -> String {
    let title = escaped(title);
    format!(
        "<svg class=\"plot\" role=\"img\" aria-label=\"{title}\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">\n{body}</svg>\n"
    )
}

/// Writes one element on a line of its own.
pub(crate) fn write(out: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(out, "{element}").expect("a string can always grow");
}

/// About how wide a text of `characters` characters is in pixels; the true width is known to whoever draws it.
pub(crate) fn text_width(characters: usize) -> f64 {
    5.8 * characters as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Whether every element is closed and no number is missing.
    #[track_caller]
    pub(crate) fn assert_well_formed(svg: &str) {
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

    /// The relative luminance of `#rrggbb` as WCAG 2.2 defines it.
    fn luminance(color: &str) -> f64 {
        let channel = |index: usize| {
            let value = f64::from(u8::from_str_radix(&color[1 + 2 * index..3 + 2 * index], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(0) + 0.7152 * channel(1) + 0.0722 * channel(2)
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    /// The colours that a part of the style gives to a selector.
    fn colors<'a>(style: &'a str, selector: &str) -> Vec<&'a str> {
        style.split(&format!(".plot {selector} {{")).skip(1).map(|rule| &rule[rule.find('#').unwrap()..][..7]).collect()
    }

    #[test]
    fn colors_stand_out_from_both_backgrounds() {
        let (light, dark) = STYLE.split_once("@media").unwrap();
        let papers = [colors(light, ".paper")[0], colors(dark, ".paper")[0]];
        for paper in papers {
            for color in 0..COLORS {
                let color = colors(light, &format!(".c{color}"))[0];
                assert!(contrast(color, paper) >= 3.0, "{color} on {paper}: {}", contrast(color, paper));
            }
            assert!(contrast("#8a8a8a", paper) >= 3.0);
        }
        for (style, paper) in [(light, papers[0]), (dark, papers[1])] {
            assert!(contrast(colors(style, "text")[0], paper) >= 7.0);
        }
        assert_eq!(contrast("#000000", "#ffffff").round(), 21.0);
    }
}
