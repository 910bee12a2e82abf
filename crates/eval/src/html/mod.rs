//! A report as one HTML page that needs nothing else.

mod record;

use std::io::{self, Write};

use epitome_plot::escaped;

pub(crate) use record::ShownRecord;

use crate::Report;
use crate::cells::{self, Table};

const STYLE: &str = "\
:root { color-scheme: light dark; --line: light-dark(#d0d0d0, #444); --shade: light-dark(#f4f4f4, #262626); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { position: sticky; top: 0; background: var(--shade); }
";

impl Report {
    /// Writes the page.
    pub(crate) fn write_html(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self.html().as_bytes())
    }

    /// One page with scores, lengths and a table of all records; light or dark as the reader's system is.
    pub fn html(&self) -> String {
        let notes: String = cells::notes(self).iter().map(|note| format!("<li>{}</li>\n", escaped(note))).collect();
        let tables = [cells::systems(self), cells::lengths(self), cells::records(self)].map(|cells| table(&cells));
        let [scores, lengths, records] = tables;
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Evaluation</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>Evaluation</h1>\n{scores}<ul>\n{notes}</ul>\n\
             <h2>Lengths</h2>\n{lengths}<h2>F1 by record</h2>\n{records}</body>\n</html>\n"
        )
    }
}

fn table(cells: &Table) -> String {
    let row = |cells: &Vec<String>, tag: &str| {
        let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = cells.rows.iter().map(|cells| row(cells, "td")).collect();
    let header = row(&cells.header, "th");
    format!("<div class=\"wide\"><table>\n<thead>\n{header}</thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n")
}
