//! A report as text for the terminal, as Markdown and as JSON.

use crate::Report;
use crate::cells::{self, Cells};

impl Report {
    /// A table of scores and lengths for the terminal, with notes on how they came about. Ends with a line break.
    pub fn table(&self) -> String {
        let notes: String = cells::notes(self).iter().map(|note| format!("{note}\n")).collect();
        let scores = aligned(&cells::scores(self));
        let lengths = aligned(&cells::lengths(self));
        format!("{scores}\n{lengths}\n{notes}")
    }

    /// The whole report as `report.json` holds it. Ends with a line break.
    pub fn json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("strings and finite numbers always serialize");
        json + "\n"
    }

    /// Scores, lengths and the F1 of every record as Markdown tables.
    pub fn markdown(&self) -> String {
        let notes: String = cells::notes(self).iter().map(|note| format!("- {note}\n")).collect();
        let tables = [cells::scores(self), cells::lengths(self), cells::records(self)].map(|cells| piped(&cells));
        let [scores, lengths, records] = tables;
        format!("# Evaluation\n\n{scores}\n{notes}\n## Lengths\n\n{lengths}\n## F1 by record\n\n{records}")
    }
}

/// Columns padded to equal width, the first to the left, numbers to the right.
fn aligned(cells: &Cells) -> String {
    let rows: Vec<&Vec<String>> = std::iter::once(&cells.header).chain(&cells.rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..cells.header.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ") + "\n"
    };
    rows.into_iter().map(line).collect()
}

fn piped(cells: &Cells) -> String {
    let line = |row: &Vec<String>| {
        let cells = row.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " "));
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = format!("|---|{}\n", "---:|".repeat(cells.header.len() - 1));
    let rows: String = cells.rows.iter().map(line).collect();
    format!("{}{rule}{rows}", line(&cells.header))
}
