//! What the tables of a comparison show, before they are laid out.

use super::{Comparison, Comparisons, Role, TIE};
use crate::Estimate;
use crate::cells::{interval, percent, scoring};

/// Not significantly different from the best.
const LIKE_BEST: &str = "†";
/// Cannot be the best.
const UPPER_BOUND: &str = "‡";

/// A header and rows of equally many cells; the first column is text.
pub(super) struct Table {
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// How the numbers came about and what the marks mean, one sentence each.
    pub(super) caption: Vec<String>,
}

/// A text in bold or not, with a mark (or none), and then an aside such as an interval (or none).
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) bold: bool,
    pub(super) mark: &'static str,
    pub(super) aside: String,
}

impl Cell {
    fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), bold: false, mark: "", aside: String::new() }
    }
}

impl Comparisons {
    /// One row a system, one column a metric, in percent.
    pub(super) fn systems_table(&self) -> Table {
        let header = std::iter::once("system").chain(self.metrics.iter().map(String::as_str));
        let best: Vec<Option<usize>> = (0..self.metrics.len()).map(|metric| self.best(metric)).collect();
        let row = |index: usize| {
            let system = &self.systems[index];
            let mark = if system.role == Role::UpperBound { UPPER_BOUND } else { "" };
            let scores = best.iter().enumerate().map(|(metric, &best)| self.score_cell(metric, index, best));
            std::iter::once(Cell { mark, ..Cell::plain(&system.name) }).chain(scores).collect()
        };
        Table {
            header: header.map(str::to_owned).collect(),
            rows: (0..self.systems.len()).map(row).collect(),
            caption: self.caption("Bold"),
        }
    }

    /// [`Comparisons::systems_table`] as plain text: an asterisk after the best.
    pub(crate) fn plain_table(&self) -> crate::Table {
        let Table { header, rows, .. } = self.systems_table();
        let cell = |Cell { text, bold, mark, aside }: Cell| {
            format!("{text}{}{mark} {aside}", if bold { "*" } else { "" }).trim_end().to_owned()
        };
        crate::Table { header, rows: rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect() }
    }

    /// One row a pair of systems and metric.
    pub(super) fn pairs_table(&self) -> Table {
        let header = [
            "metric",
            "first",
            "second",
            "difference",
            "95 % interval",
            "p (bootstrap)",
            "p (randomization)",
            "p (corrected)",
            "wins",
            "losses",
            "ties",
        ];
        let row = |found: &Comparison| {
            let names = [&found.metric, &found.first, &found.second].map(Cell::plain);
            let difference = [percent(found.difference.mean), interval(&found.difference)].map(Cell::plain);
            let p_values = [found.p_bootstrap, found.p_randomization, found.p_corrected].map(p_value).map(Cell::plain);
            let counts = [found.wins, found.losses, found.ties].map(|count| Cell::plain(count.to_string()));
            names.into_iter().chain(difference).chain(p_values).chain(counts).collect()
        };
        let header = header.map(str::to_owned).to_vec();
        Table { header, rows: self.comparisons.iter().map(row).collect(), caption: Vec::new() }
    }

    /// The system with the highest mean, upper bounds aside; the first of equal ones.
    fn best(&self, metric: usize) -> Option<usize> {
        let mean = |&index: &usize| self.systems[index].scores[metric].mean;
        let candidates = (0..self.systems.len()).filter(|&index| self.systems[index].role != Role::UpperBound);
        candidates.reduce(|best, next| if mean(&next) > mean(&best) { next } else { best })
    }

    fn score_cell(&self, metric: usize, system: usize, best: Option<usize>) -> Cell {
        let scores = |system: usize| &self.systems[system].scores[metric];
        let rival = best.filter(|_| self.systems[system].role != Role::UpperBound);
        let is_best = rival.is_some_and(|best| scores(best).mean - scores(system).mean <= TIE);
        let like_best =
            !is_best && self.can_find_significance() && rival.is_some_and(|best| !self.differ(metric, system, best));
        Cell {
            text: percent(scores(system).mean),
            bold: is_best,
            mark: if like_best { LIKE_BEST } else { "" },
            aside: self.aside(scores(system)),
        }
    }

    fn differ(&self, metric: usize, one: usize, other: usize) -> bool {
        let [one, other] = [one, other].map(|system| self.systems[system].name.as_str());
        self.between(&self.metrics[metric], one, other).is_some_and(Comparison::significant)
    }

    fn aside(&self, estimate: &Estimate) -> String {
        if self.options.bootstrap > 0 { format!("({})", interval(estimate)) } else { String::new() }
    }

    /// How the numbers came about and what the marks mean, one sentence each; `best` is how the best of a column looks.
    pub(crate) fn caption(&self, best: &str) -> Vec<String> {
        let mut caption = vec![scoring(self.records, &self.options)];
        if self.options.bootstrap > 0 {
            caption.push(format!(
                "In parentheses: 95 % intervals from {} paired bootstrap resamples of the records, seed {}.",
                self.options.bootstrap, self.options.seed
            ));
        }
        caption.push(format!("{best}: the best of a column."));
        let randomizations = self.randomizations;
        if self.systems.len() > 1 && self.can_find_significance() {
            caption.push(format!(
                "{LIKE_BEST}: not significantly different from the best (two-sided approximate randomization test with \
                 {randomizations} randomizations, seed {}; p of at least 0.05 after Holm-Bonferroni correction, in each \
                 column for pairs of systems, pairs of a system and a baseline, and other pairs apart).",
                self.options.seed
            ));
        } else if self.systems.len() > 1 {
            caption.push(format!(
                "Significance is not marked: {randomizations} randomizations are too few for so many pairs."
            ));
        }
        if self.systems.iter().any(|system| system.role == Role::UpperBound) {
            caption.push(format!("{UPPER_BOUND}: made with the references, which does not count as the best."));
        }
        caption
    }
}

fn p_value(value: f64) -> String {
    if value < 0.0001 { "< 0.0001".to_owned() } else { format!("{value:.4}") }
}
