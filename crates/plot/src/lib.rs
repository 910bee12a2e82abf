//! Small charts: numbers in, one SVG out that needs nothing else, without scripts, light or dark as the reader's system is.
//!
//! A [`Figure`] has a title and [`Panel`]s, two a row; a panel has two axes and [`Mark`]s, each with its entry in the legend.
//! Values that cannot be drawn (not finite, or not above 0 on a logarithmic axis) are passed over. A panel, or [`Rows`] of
//! named bars, can also stand alone in the text of a page that has the [`STYLE`].
//!
//! ```
//! use epitome_plot::{Axis, Figure, Mark, Panel, Scale, Shape};
//!
//! let points = vec![(1.0, 9.2), (2.0, 7.4), (3.0, 6.8)];
//! let marks = vec![Mark { name: "training".into(), color: 0, shape: Shape::Line(points) }];
//! let (x, y) = (Axis::new("step", Scale::Whole), Axis::new("nats", Scale::Linear));
//! let figure = Figure { title: "A run".into(), panels: vec![Panel { title: "Loss".into(), x, y, marks }] };
//! assert!(figure.svg().starts_with("<svg"));
//! ```
//!
//! # Modules
//!
//! `axis` places values and chooses ticks, `histogram` and `smooth` prepare data, `figure` lays out, `panel` draws axes, `marks`
//! what is between them and `legend` what it is called; `rows` draws named bars, and `svg` has what all share.
#![forbid(unsafe_code)]

mod axis;
mod escape;
mod figure;
mod histogram;
mod legend;
mod marks;
mod panel;
mod rows;
mod smooth;
mod svg;

pub use axis::{Axis, Scale};
pub use escape::escaped;
pub use figure::Figure;
pub use histogram::{Bar, histogram};
pub use panel::{Interval, Mark, Panel, Shape};
pub use rows::{Row, Rows};
pub use smooth::smoothed;
pub use svg::STYLE;
