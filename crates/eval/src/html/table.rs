//! Tables.

use std::fmt;

use epitome_plot::escaped;

use crate::cells::Table;

/// A table that scrolls sideways where it is too wide, also by keyboard.
pub(crate) struct HtmlTable<'a> {
    /// What it is called where it cannot be seen.
    pub(crate) name: &'a str,
    /// How many columns, from the left, are text; the others are numbers.
    pub(crate) text_columns: usize,
    /// Text.
    pub(crate) header: &'a [String],
    /// HTML. The first cell of a row is its header.
    pub(crate) rows: Vec<Vec<String>>,
}

impl<'a> HtmlTable<'a> {
    /// Of cells that are all text.
    pub(super) fn of(name: &'a str, text_columns: usize, cells: &'a Table) -> Self {
        let rows = cells.rows.iter().map(|row| row.iter().map(|cell| escaped(cell)).collect()).collect();
        Self { name, text_columns, header: &cells.header, rows }
    }

    fn class(&self, column: usize) -> &'static str {
        if column < self.text_columns { " class=\"text\"" } else { "" }
    }
}

impl fmt::Display for HtmlTable<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = escaped(self.name);
        write!(
            out,
            "<div class=\"wide\" role=\"group\" aria-label=\"{name}\" tabindex=\"0\">\n<table>\n<thead>\n<tr>"
        )?;
        for (column, cell) in self.header.iter().enumerate() {
            write!(out, "<th scope=\"col\"{}>{}</th>", self.class(column), escaped(cell))?;
        }
        writeln!(out, "</tr>\n</thead>\n<tbody>")?;
        for row in &self.rows {
            write!(out, "<tr>")?;
            for (column, cell) in row.iter().enumerate() {
                let class = self.class(column);
                match column {
                    0 => write!(out, "<th scope=\"row\"{class}>{cell}</th>")?,
                    _ => write!(out, "<td{class}>{cell}</td>")?,
                }
            }
            writeln!(out, "</tr>")?;
        }
        writeln!(out, "</tbody>\n</table>\n</div>")
    }
}
