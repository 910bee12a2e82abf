//! Comparisons as Markdown.

use super::Comparisons;
use super::table::{Cell, Table};
use crate::render::{self, escaped};

impl Comparisons {
    /// Means in percent with their intervals, one row a system and one column a metric, and a caption. The best of each
    /// column is bold, and systems that are not significantly different from it have a dagger.
    pub fn markdown(&self) -> String {
        let table = self.systems_table();
        format!("{}\n{}\n", piped(&table), table.caption.join(" "))
    }

    /// One row a pair of systems and metric: the difference in percent with its interval, p-values, wins, losses and ties.
    pub fn markdown_pairs(&self) -> String {
        piped(&self.pairs_table())
    }
}

fn piped(table: &Table) -> String {
    render::piped(&table.header, table.rows.iter().map(|row| row.iter().map(cell).collect()))
}

fn cell(cell: &Cell) -> String {
    let text = escaped(&cell.text);
    let text = if cell.bold { format!("**{text}**") } else { text };
    format!("{text}{} {}", cell.mark, cell.aside).trim_end().to_owned()
}
