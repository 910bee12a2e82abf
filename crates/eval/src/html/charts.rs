//! The charts of a report.

use epitome_plot::{Axis, Interval, Mark, Panel, Row, Rows, Scale, Shape, histogram};

use crate::{AblationPoint, Estimate, LengthGroup, POSITION_BINS, Profile, Report, SystemReport};

/// Of a chart in pixels: as wide as a phone shows it with its letters in full size.
const WIDTH: usize = 360;

/// The colour of references and baselines.
const GREY: usize = 4;

/// F1 of systems and baselines, a chart a metric.
pub(super) fn scores(report: &Report) -> Vec<String> {
    let compared = &report.comparisons;
    let chart = |(index, metric): (usize, &String)| {
        let row = |(at, system): (usize, &crate::SystemScores)| {
            let is_system = at < report.systems.len();
            row(report, &system.name, if is_system { color(at) } else { GREY }, &system.scores[index])
        };
        let rows = compared.systems.iter().enumerate().map(row).collect();
        Rows { title: metric.clone(), x: Axis::new("F1, %", Scale::Linear).from_zero(), rows }.svg(WIDTH)
    };
    compared.metrics.iter().enumerate().map(chart).collect()
}

fn row(report: &Report, name: &str, color: usize, score: &Estimate) -> Row {
    let interval = (report.options.bootstrap > 0).then_some((100.0 * score.low, 100.0 * score.high));
    Row { name: name.to_owned(), color, value: 100.0 * score.mean, interval }
}

/// How long references and summaries are, all by the same ranges.
pub(super) fn lengths(report: &Report) -> String {
    let references = || report.per_record.iter().map(|record| record.reference_words.round() as usize);
    let of_system = |system: usize| {
        let records = report.per_record.iter();
        records.filter_map(move |record| record.systems.get(system)).map(|record| record.words)
    };
    let all: Vec<usize> = references().chain((0..report.systems.len()).flat_map(of_system)).collect();
    let mut edges: Vec<f64> = histogram(&all, Scale::Whole).iter().map(|bar| bar.low).collect();
    edges.extend(all.iter().max().map(|&longest| longest as f64 + 1.0));
    let shares = |lengths: Vec<usize>| {
        let share = |pair: &[f64]| {
            let inside = lengths.iter().filter(|&&length| (pair[0]..pair[1]).contains(&(length as f64))).count();
            (pair[0], pair[1], 100.0 * inside as f64 / lengths.len().max(1) as f64)
        };
        Shape::Steps(edges.windows(2).map(share).collect())
    };
    let systems = report.systems.iter().enumerate();
    let systems = systems.map(|(index, system)| mark(&system.name, color(index), shares(of_system(index).collect())));
    Panel {
        title: "Lengths".to_owned(),
        x: Axis::new("words", Scale::Whole),
        y: Axis::new("texts, %", Scale::Linear).from_zero(),
        marks: std::iter::once(mark("references", GREY, shares(references().collect()))).chain(systems).collect(),
    }
    .svg(WIDTH)
}

/// Where in the document copied words stand; none where nothing is copied.
pub(super) fn positions(report: &Report) -> Option<String> {
    let shares = |profile: &Profile| {
        let width = 100.0 / POSITION_BINS as f64;
        let steps = profile.source_shares().into_iter().enumerate();
        let step = |(bin, share): (usize, f64)| (width * bin as f64, width * (bin + 1) as f64, 100.0 * share);
        Shape::Steps(steps.map(step).collect())
    };
    let systems = report.systems.iter().enumerate();
    let systems = systems.map(|(index, system)| (system.name.as_str(), color(index), &system.profile));
    let profiles = std::iter::once(("references", GREY, &report.references)).chain(systems);
    let copying = profiles.filter(|(_, _, profile)| profile.source_words.iter().any(|&words| words > 0));
    let marks: Vec<Mark> = copying.map(|(name, color, profile)| mark(name, color, shares(profile))).collect();
    let chart = Panel {
        title: "Where copied words stand".to_owned(),
        x: Axis::new("place in the document, %", Scale::Linear),
        y: Axis::new("copied words, %", Scale::Linear).from_zero(),
        marks,
    };
    (!chart.marks.is_empty()).then(|| chart.svg(WIDTH))
}

/// F1 by the length of the document, a chart a metric; none where documents are not known.
pub(super) fn by_document_length(report: &Report) -> Vec<String> {
    let chart = |(index, (metric, _)): (usize, &(rouge::Metric, _))| {
        let groups = |system: &SystemReport| {
            let groups = system.by_document_length.get(index).map_or(&[][..], |(_, groups)| groups);
            let point = |group: &LengthGroup| interval((group.shortest + group.longest) as f64 / 2.0, &group.score);
            Shape::Intervals(groups.iter().map(point).collect())
        };
        let systems = report.systems.iter().enumerate();
        let marks = systems.map(|(index, system)| mark(&system.name, color(index), groups(system))).collect();
        let (x, y) = (Axis::new("words of the document", Scale::Whole), Axis::new("F1, %", Scale::Linear));
        Panel { title: metric.to_string(), x, y, marks }.svg(WIDTH)
    };
    let is_known = report.systems.iter().any(|system| !system.by_document_length.is_empty());
    report.scores.0.iter().enumerate().filter(|_| is_known).map(chart).collect()
}

/// F1, and seconds a document, by how much a model reads of a document; none without an ablation.
pub(super) fn ablation(report: &Report) -> Vec<String> {
    let mut points: Vec<&AblationPoint> = report.ablation.iter().collect();
    points.sort_by(|one, other| one.mean_document_tokens.total_cmp(&other.mean_document_tokens));
    let f1 = |point: &AblationPoint, metric: &str| {
        let system = report.systems.iter().find(|system| system.name == point.system)?;
        Some(interval(point.mean_document_tokens, &system.scores.get(metric)?.f1))
    };
    let metrics = report.scores.0.iter().enumerate();
    let marks = metrics.map(|(index, (metric, _))| {
        let metric = metric.to_string();
        let intervals = points.iter().filter_map(|point| f1(point, &metric)).collect();
        mark(&metric, color(index), Shape::Intervals(intervals))
    });
    let seconds = points.iter().map(|point| (point.mean_document_tokens, point.seconds_per_document)).collect();
    let seconds = mark("", color(0), Shape::Dots(seconds));
    let chart = |title: &str, y: Axis, marks: Vec<Mark>| {
        let x = Axis::new("tokens read of a document, mean", Scale::Log);
        Panel { title: title.to_owned(), x, y, marks }.svg(WIDTH)
    };
    if points.is_empty() {
        return Vec::new();
    }
    vec![
        chart("Scores by tokens read", Axis::new("F1, %", Scale::Linear), marks.collect()),
        chart("Time by tokens read", Axis::new("seconds a document", Scale::Linear).from_zero(), vec![seconds]),
    ]
}

fn interval(x: f64, score: &Estimate) -> Interval {
    Interval { x, low: 100.0 * score.low, value: 100.0 * score.mean, high: 100.0 * score.high }
}

fn mark(name: &str, color: usize, shape: Shape) -> Mark {
    Mark { name: name.to_owned(), color, shape }
}

/// The colour of a system; grey is left to what they are compared with.
fn color(index: usize) -> usize {
    [0, 1, 2, 3, 5, 6, 7][index % 7]
}
