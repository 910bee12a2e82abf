//! `curves.svg`: the metrics of a run and the lengths of what it trains on, as a picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use epitome_plot::{Axis, Figure, Mark, Panel, Scale, Shape, histogram, smoothed};
use serde_json::{Map, Value};

use crate::best::Best;
use crate::{Error, Result, Suggestion, SweepPoint};

const BLUE: usize = 0;
const ORANGE: usize = 1;
const GREY: usize = 4;

/// Lengths of sources and targets are compared on a logarithmic axis from this ratio on.
const WIDE_RATIO: usize = 8;

/// The picture of a run.
pub(super) struct Curves {
    path: PathBuf,
    title: String,
    lengths: Panel,
}

impl Curves {
    /// The picture in the directory of a run that trains on sources and targets of these lengths, in tokens.
    pub(super) fn new(directory: &Path, (sources, targets): (Vec<usize>, Vec<usize>)) -> Self {
        let name = directory.file_name().unwrap_or(directory.as_os_str()).to_string_lossy();
        Self {
            path: directory.join("curves.svg"),
            title: format!("Training run {name}"),
            lengths: lengths_panel(sources, targets),
        }
    }

    /// Draws the run whose `metrics.jsonl` is `metrics`.
    pub(super) fn draw(&self, metrics: &str, best: Option<&Best>) -> Result<()> {
        let history = History::new(metrics);
        let panels = [
            Some(loss_panel(&history, best)),
            rouge_panel(&history, best),
            line_panel(&history, "Learning rate", "", "learning_rate"),
            line_panel(&history, "Resident memory", "GiB", "host_memory_gib"),
            Some(self.lengths.clone()).filter(|panel| !panel.marks.is_empty()),
        ];
        write(&self.path, &Figure { title: self.title.clone(), panels: panels.into_iter().flatten().collect() })
    }
}

/// Writes the losses of a sweep against its learning rates as an SVG file; a rule marks the rate that is suggested.
pub(crate) fn draw_learning_rates(path: &Path, points: &[SweepPoint]) -> Result<()> {
    let line = |loss: fn(&SweepPoint) -> f64| points.iter().map(|point| (point.learning_rate, loss(point))).collect();
    let mut marks = vec![
        mark("loss", BLUE, Shape::ThinLine(line(|point| point.loss))),
        mark("smoothed", BLUE, Shape::Line(line(|point| point.smoothed))),
    ];
    let suggested = Suggestion::of(points).map(|suggestion| suggestion.steepest);
    marks.extend(suggested.map(|rate| mark(format!("steepest {rate:.1e}"), ORANGE, Shape::Rule(rate))));
    let (x, y) = (Axis::new("learning rate", Scale::Log), Axis::new("nats per target token", Scale::Linear));
    let panel = Panel { title: "Loss".into(), x, y, marks };
    write(path, &Figure { title: "Learning rates".into(), panels: vec![panel] })
}

fn write(path: &Path, figure: &Figure) -> Result<()> {
    epitome_files::replace_content(path, figure.svg()).map_err(Error::io(path))
}

/// The numbers of a `metrics.jsonl` by name, each with its step.
struct History(BTreeMap<String, Vec<(f64, f64)>>);

impl History {
    fn new(metrics: &str) -> Self {
        let mut history: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for line in metrics.lines().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok()) {
            let Some(step) = line.get("step").and_then(Value::as_f64) else { continue };
            for (name, value) in &line {
                if let Some(value) = value.as_f64() {
                    history.entry(name.clone()).or_default().push((step, value));
                }
            }
        }
        Self(history)
    }

    /// What was measured under a name; nothing if it never was.
    fn points(&self, name: &str) -> Vec<(f64, f64)> {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

fn mark(name: impl Into<String>, color: usize, shape: Shape) -> Mark {
    Mark { name: name.into(), color, shape }
}

fn steps() -> Axis {
    Axis::new("step", Scale::Whole)
}

fn loss_panel(history: &History, best: Option<&Best>) -> Panel {
    let (training, validation) = (history.points("nll"), history.points("validation_loss"));
    let mut marks = vec![
        mark("training", BLUE, Shape::ThinLine(training.clone())),
        mark("smoothed", BLUE, Shape::Line(smoothed(&training))),
    ];
    if !validation.is_empty() {
        marks.push(mark("validation", ORANGE, Shape::Dots(validation)));
    }
    marks.extend(best.map(|best| mark(format!("best {}", best.metric), GREY, Shape::Rule(best.step as f64))));
    Panel { title: "Loss".into(), x: steps(), y: Axis::new("nats per target token", Scale::Linear), marks }
}

/// The scores of summaries, if any were written.
fn rouge_panel(history: &History, best: Option<&Best>) -> Option<Panel> {
    let metrics = ["rouge1", "rouge2", "rougeL", "rougeLsum"].into_iter().enumerate();
    let mut marks: Vec<Mark> = metrics
        .map(|(color, name)| mark(name, color, Shape::Dots(history.points(&format!("validation_{name}")))))
        .filter(|mark| !matches!(&mark.shape, Shape::Dots(points) if points.is_empty()))
        .collect();
    if marks.is_empty() {
        return None;
    }
    marks.extend(best.map(|best| mark("best", GREY, Shape::Rule(best.step as f64))));
    let y = Axis::new("F1", Scale::Linear);
    Some(Panel { title: "ROUGE of validation summaries".into(), x: steps(), y, marks })
}

/// One metric as a line from 0 upwards, if it was measured.
fn line_panel(history: &History, title: &str, unit: &str, name: &str) -> Option<Panel> {
    let points = history.points(name);
    if points.is_empty() {
        return None;
    }
    let y = Axis::new(unit, Scale::Linear).from_zero();
    Some(Panel { title: title.into(), x: steps(), y, marks: vec![mark("", BLUE, Shape::Line(points))] })
}

fn lengths_panel(sources: Vec<usize>, targets: Vec<usize>) -> Panel {
    let all = sources.iter().chain(&targets).copied().filter(|&length| length > 0);
    let (shortest, longest) = (all.clone().min().unwrap_or(1), all.max().unwrap_or(1));
    let scale = if longest / shortest >= WIDE_RATIO { Scale::Log } else { Scale::Whole };
    let of = |name: &str, color: usize, mut lengths: Vec<usize>| {
        lengths.retain(|&length| length > 0);
        lengths.sort_unstable();
        let median = lengths.get(lengths.len() / 2)?;
        Some(mark(format!("{name}, median {median}"), color, Shape::Bars(histogram(&lengths, scale))))
    };
    let marks = [of("sources", BLUE, sources), of("targets", ORANGE, targets)];
    Panel {
        title: "Lengths of the training records".into(),
        x: Axis::new("tokens", scale),
        y: Axis::new("records", Scale::Whole).from_zero(),
        marks: marks.into_iter().flatten().collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::best::Metric;

    fn drawn(metrics: &str, lengths: (Vec<usize>, Vec<usize>), best: Option<&Best>) -> String {
        let directory = tempfile::tempdir().unwrap();
        Curves::new(directory.path(), lengths).draw(metrics, best).unwrap();
        let svg = fs::read_to_string(directory.path().join("curves.svg")).unwrap();
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("<script"), "{svg}");
        svg
    }

    #[test]
    fn what_was_measured_has_a_panel() {
        let line = "{\"step\":1,\"nll\":9.5,\"learning_rate\":1e-5}\n";
        let svg = drawn(line, (vec![100, 5000], vec![20, 0]), None);
        for part in ["Loss", "Learning rate", "Lengths", "sources, median 5000", "targets, median 20"] {
            assert!(svg.contains(part), "{part}");
        }
        for part in ["ROUGE", "memory", "validation", "best"] {
            assert!(!svg.contains(part), "{part}");
        }
        let more = "{\"step\":2,\"nll\":8.5,\"host_memory_gib\":1.5}\n{\"step\":2,\"validation_loss\":8.0,\"validation_rouge1\":0.25}\n";
        let best = Best { metric: Metric::Rouge1, value: 0.25, step: 2 };
        let svg = drawn(&format!("{line}{more}"), (vec![5], vec![]), Some(&best));
        for part in ["ROUGE", "Resident memory", "validation", "best rouge1"] {
            assert!(svg.contains(part), "{part}");
        }
        drawn("", (vec![], vec![]), None);
    }

    #[test]
    fn a_long_run_is_a_small_picture() {
        let line =
            |step: usize| format!("{{\"step\":{step},\"nll\":{}}}\n", 3.0 + (step * 7919 % 1000) as f64 / 1000.0);
        let metrics: String = (1..=100_000).map(line).collect();
        let svg = drawn(&metrics, ((1..100_000).collect(), vec![7; 100_000]), None);
        assert!(svg.len() < 60_000, "{}", svg.len());
    }

    #[test]
    fn learning_rates_are_drawn_with_what_is_suggested() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rates.svg");
        let point = |step: usize| {
            let learning_rate = 1e-7 * 10f64.powf(step as f64 / 10.0);
            let smoothed = 9.0 - (3.0 * (learning_rate.log10() + 4.0)).tanh();
            SweepPoint { step, learning_rate, loss: smoothed, smoothed }
        };
        draw_learning_rates(&path, &(1..=60).map(point).collect::<Vec<_>>()).unwrap();
        let svg = fs::read_to_string(&path).unwrap();
        assert!(svg.contains("steepest 1.0e-4") && svg.contains(">1e-6<"), "{svg}");
    }
}
