//! A report as text for the terminal, as Markdown and as JSON.

use crate::Report;
use crate::cells::{self, Cells};

/// Records whose scores `report.md` lists.
const LISTED: usize = 100;

impl Report {
    /// Tables of scores, lengths and characteristics for the terminal, with notes on how they came about. Ends with a line
    /// break.
    pub fn table(&self) -> String {
        let notes: String = cells::notes(self).iter().map(|note| format!("{note}\n")).collect();
        let tables = [cells::systems(self), cells::scores(self), cells::lengths(self), cells::characteristics(self)];
        let tables = tables.map(|cells| aligned(&cells) + "\n");
        tables.concat() + &notes
    }

    /// The whole report as `report.json` holds it. Ends with a line break.
    pub fn json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("strings and finite numbers always serialize");
        json + "\n"
    }

    /// The comparison of the systems, lengths, characteristics, every pair, and the F1 of the first records as Markdown
    /// tables.
    pub fn markdown(&self) -> String {
        let notes: String = cells::notes(self).iter().map(|note| format!("- {note}\n")).collect();
        let mut records = cells::records(self);
        records.rows.truncate(LISTED);
        let tables = [cells::scores(self), cells::lengths(self), cells::characteristics(self), records];
        let [scores, lengths, characteristics, records] = tables.map(|cells| piped(&cells));
        let listed = match self.records {
            0..=LISTED => String::new(),
            all => format!("The first {LISTED} of {all}; all are in report.json.\n\n"),
        };
        let (systems, pairs) = (self.comparisons.markdown(), self.comparisons.markdown_pairs());
        format!(
            "# Evaluation\n\n{systems}\n{notes}\n## Precision and recall\n\n{scores}\n## Lengths\n\n{lengths}\n\
             ## Characteristics\n\n{characteristics}\n## Pairs\n\n{pairs}\n\
             ## F1 by record\n\n{listed}{records}"
        )
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
