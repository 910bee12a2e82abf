//! A report as text for the terminal, as Markdown and as JSON.

use crate::Report;
use crate::cells::{self, Table};

/// Records whose scores `report.md` lists.
const LISTED: usize = 100;

impl Report {
    /// Tables of scores, lengths and characteristics for the terminal, with notes on how they came about. Ends with a line
    /// break.
    pub fn table(&self) -> String {
        let notes = self.comparisons.caption("*").into_iter().chain(cells::notes(self));
        let notes: String = notes.map(|note| format!("{note}\n")).collect();
        let tables = [cells::systems(self), cells::scores(self), cells::lengths(self), cells::characteristics(self)];
        let tables = tables.map(|table| table.text() + "\n");
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
        let [scores, lengths, characteristics, records] = tables.map(|table| table.markdown());
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

impl Table {
    /// Columns padded to equal width, the first to the left, the others to the right.
    pub fn text(&self) -> String {
        let rows: Vec<&Vec<String>> = std::iter::once(&self.header).chain(&self.rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let padded = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            padded.collect::<Vec<_>>().join("  ") + "\n"
        };
        rows.into_iter().map(line).collect()
    }

    /// A table of Markdown; the cells are shown as they are.
    pub fn markdown(&self) -> String {
        piped(&self.header, self.rows.iter().map(|row| row.iter().map(|cell| escaped(cell)).collect()))
    }
}

/// Lines of Markdown; the cells are markup already, the header is not.
pub(crate) fn piped(header: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|---|{}\n", "---:|".repeat(header.len() - 1));
    let header = line(header.iter().map(|text| escaped(text)).collect());
    format!("{header}{rule}{}", rows.map(line).collect::<String>())
}

/// The text as it is, whatever of it Markdown would take for markup.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '\n' | '\r' => escaped.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '~' | '&' | '$' => {
                escaped.extend(['\\', character]);
            }
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn nothing_is_markup() {
        assert_eq!(escaped("led_base*2|a\\b\nc"), "led\\_base\\*2\\|a\\\\b c");
        assert_eq!(escaped("<b>&amp;`~[x]$1"), "\\<b\\>\\&amp;\\`\\~\\[x\\]\\$1");
        assert_eq!(escaped("LED-base (16k) 50 % #1"), "LED-base (16k) 50 % #1");
    }
}
