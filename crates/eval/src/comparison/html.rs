//! Comparisons as HTML.

use epitome_plot::escaped;

use super::Comparisons;
use super::table::{Cell, Table};
use crate::html::HtmlTable;

impl Comparisons {
    /// The table of [`Comparisons::markdown`] with its caption.
    pub(crate) fn html(&self) -> String {
        let table = self.systems_table();
        format!("{}<p class=\"note\">{}</p>\n", laid_out(&table, "Scores", 1), escaped(&table.caption.join(" ")))
    }

    /// The table of [`Comparisons::markdown_pairs`].
    pub(crate) fn html_pairs(&self) -> String {
        laid_out(&self.pairs_table(), "Pairs", 3)
    }
}

fn laid_out(table: &Table, name: &str, text_columns: usize) -> String {
    let rows = table.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    HtmlTable { name, text_columns, header: &table.header, rows }.to_string()
}

fn cell(cell: &Cell) -> String {
    let text = escaped(&cell.text);
    let text = if cell.bold { format!("<strong>{text}</strong>") } else { text };
    let aside = if cell.aside.is_empty() { String::new() } else { format!(" <small>{}</small>", escaped(&cell.aside)) };
    format!("{text}{}{aside}", escaped(cell.mark))
}
