//! The numbers behind charts.

use crate::cells::{Table, interval, percent};
use crate::{LengthGroup, POSITION_BINS, Report};

/// One row a system, metric and group of documents.
pub(super) fn length_groups(report: &Report) -> Table {
    let header = ["system", "metric", "document words", "records", "F1", "95 % interval"].map(str::to_owned).to_vec();
    let row = |system: &str, metric: &rouge::Metric, group: &LengthGroup| {
        let words = format!("{} to {}", group.shortest, group.longest);
        let score = [percent(group.score.mean), interval(&group.score)];
        [system.to_owned(), metric.to_string(), words, group.records.to_string()].into_iter().chain(score).collect()
    };
    let rows = report.systems.iter().flat_map(|system| {
        let metrics = system.by_document_length.iter();
        metrics.flat_map(move |(metric, groups)| groups.iter().map(move |group| row(&system.name, metric, group)))
    });
    Table { header, rows: rows.collect() }
}

/// One row a point of the ablation.
pub(super) fn ablation_points(report: &Report) -> Table {
    let header = ["system", "tokens at most", "tokens, mean", "seconds a document"].map(str::to_owned).to_vec();
    let rows = report.ablation.iter().map(|point| {
        let most = point.max_document_tokens.map_or("all".to_owned(), |tokens| tokens.to_string());
        let means = [format!("{:.0}", point.mean_document_tokens), format!("{:.2}", point.seconds_per_document)];
        [point.system.clone(), most].into_iter().chain(means).collect()
    });
    Table { header, rows: rows.collect() }
}

/// One row a twentieth of the document, one column a system, and one for the references.
pub(super) fn positions(report: &Report) -> Table {
    let systems = report.systems.iter().map(|system| (system.name.as_str(), &system.profile));
    let (names, profiles): (Vec<_>, Vec<_>) = systems.chain([("references", &report.references)]).unzip();
    let shares: Vec<_> = profiles.iter().map(|profile| profile.source_shares()).collect();
    let header = std::iter::once("part of the document").chain(names).map(str::to_owned).collect();
    let rows = (0..POSITION_BINS).map(|bin| {
        let edge = |bin: usize| 100 * bin / POSITION_BINS;
        let place = format!("{} to {} %", edge(bin), edge(bin + 1));
        std::iter::once(place).chain(shares.iter().map(|shares| format!("{:.1} %", 100.0 * shares[bin]))).collect()
    });
    Table { header, rows: rows.collect() }
}
