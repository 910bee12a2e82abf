//! A report as one HTML page that needs nothing else.
//!
//! The page is written as a stream. Its tables and charts are plain HTML and SVG. The texts of the records are compressed, and
//! unpacked by the page's script when one is opened, so that a page with the texts of a thousand long documents opens at once.
//!
//! `table` and `charts` lay out, `numbers` has what charts show as tables; `records` writes what the script reads, `record` is
//! what it shows of one, with `attribution`, `offsets` and `base64`. The script is in `page.js` (what its parts share), `records.js` (the table of records)
//! and `viewer.js` (a record's texts).

mod attribution;
mod base64;
mod charts;
mod numbers;
mod offsets;
mod record;
mod records;
mod table;

use std::io::{self, Write};

use epitome_plot::escaped;

pub(crate) use record::ShownRecord;
pub(crate) use table::HtmlTable;

use crate::Report;
use crate::cells;
use crate::counted;

const STYLE: &str = include_str!("page.css");
const SCRIPTS: [&str; 3] = [include_str!("page.js"), include_str!("records.js"), include_str!("viewer.js")];
const VIEWER: &str = include_str!("viewer.html");

impl Report {
    /// The page that [`Report::write`] calls `report.html`; light or dark as the reader's system is.
    pub fn html(&self) -> String {
        let mut page = Vec::new();
        self.write_html(&mut page).expect("memory can be written");
        String::from_utf8(page).expect("all parts are UTF-8")
    }

    /// Writes the page.
    pub(crate) fn write_html(&self, out: &mut dyn Write) -> io::Result<()> {
        self.write_head(out)?;
        self.write_scores(out)?;
        self.write_lengths(out)?;
        self.write_characteristics(out)?;
        self.write_records(out)?;
        self.write_notes(out)?;
        writeln!(out, "</main>\n{VIEWER}")?;
        records::write_numbers(self, out)?;
        writeln!(out, "<script>\n'use strict';\n{}</script>", SCRIPTS.concat())?;
        records::write_texts(self, out)?;
        writeln!(out, "</body>\n</html>")
    }

    fn write_head(&self, out: &mut dyn Write) -> io::Result<()> {
        let names: Vec<String> = self.systems.iter().map(|system| escaped(&system.name)).collect();
        let names = if names.is_empty() { "baselines alone".to_owned() } else { names.join(", ") };
        // The policy lets nothing be loaded, whatever may stand in the page.
        writeln!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n\
             <link rel=\"icon\" href=\"data:,\">\n<title>Evaluation of {names}</title>\n\
             <style>\n{}{STYLE}</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#content\">Skip to content</a>\n\
             <header>\n<h1>Evaluation</h1>\n<p>{}; {names}</p>\n<nav aria-label=\"Sections\">\n\
             <a href=\"#scores\">Scores</a>\n<a href=\"#lengths\">Lengths</a>\n\
             <a href=\"#characteristics\">Characteristics</a>\n<a href=\"#records\">Records</a>\n\
             <a href=\"#notes\">Notes</a>\n</nav>\n</header>\n<main id=\"content\" tabindex=\"-1\">",
            epitome_plot::STYLE,
            counted(self.records, "record")
        )
    }

    fn write_scores(&self, out: &mut dyn Write) -> io::Result<()> {
        let compared = &self.comparisons;
        writeln!(
            out,
            "<section id=\"scores\" aria-labelledby=\"scores-title\">\n<h2 id=\"scores-title\">Scores</h2>\n\
             <p class=\"note\">F1, %</p>\n{}",
            compared.html()
        )?;
        write_charts(&charts::scores(self), out)?;
        let scores = cells::scores(self);
        let scores = HtmlTable::of("Precision and recall", 2, &scores).to_string();
        write_details("Precision and recall", &scores, out)?;
        if !compared.comparisons.is_empty() {
            write_details("Every pair", &compared.html_pairs(), out)?;
        }
        writeln!(out, "</section>")
    }

    fn write_lengths(&self, out: &mut dyn Write) -> io::Result<()> {
        let lengths = cells::lengths(self);
        writeln!(
            out,
            "<section id=\"lengths\" aria-labelledby=\"lengths-title\">\n<h2 id=\"lengths-title\">Lengths</h2>\n{}",
            HtmlTable::of("Lengths", 1, &lengths)
        )?;
        write_charts(&[charts::lengths(self)], out)?;
        let by_length = charts::by_document_length(self);
        if !by_length.is_empty() {
            writeln!(
                out,
                "<h3>Scores by the length of the document</h3>\n<p class=\"note\">The records, in the order of the length of \
                 their documents, in five groups of equal size; each point stands in the middle of its group's lengths.</p>"
            )?;
            write_charts(&by_length, out)?;
            let rows = numbers::length_groups(self);
            write_details("The groups in numbers", &HtmlTable::of("Groups", 2, &rows).to_string(), out)?;
        }
        let ablation = charts::ablation(self);
        if !ablation.is_empty() {
            writeln!(
                out,
                "<h3>How much of a document is read</h3>\n<p class=\"note\">The same model, given only the beginning of each \
                 document.</p>"
            )?;
            write_charts(&ablation, out)?;
            let rows = numbers::ablation_points(self);
            write_details("The points in numbers", &HtmlTable::of("Points", 1, &rows).to_string(), out)?;
        }
        writeln!(out, "</section>")
    }

    fn write_characteristics(&self, out: &mut dyn Write) -> io::Result<()> {
        let characteristics = cells::characteristics(self);
        writeln!(
            out,
            "<section id=\"characteristics\" aria-labelledby=\"characteristics-title\">\n\
             <h2 id=\"characteristics-title\">Characteristics</h2>\n{}",
            HtmlTable::of("Characteristics", 1, &characteristics)
        )?;
        if let Some(positions) = charts::positions(self) {
            writeln!(
                out,
                "<h3>Which parts of the documents are used</h3>\n<p class=\"note\">Copied words (three or more in a row) by the \
                 twentieth of the document they stand in. Of a text that occurs several times the first place counts, which \
                 makes the beginning look more used than it is: compare with the references.</p>"
            )?;
            write_charts(&[positions], out)?;
            let rows = numbers::positions(self);
            write_details("The places in numbers", &HtmlTable::of("Places", 1, &rows).to_string(), out)?;
        }
        writeln!(out, "</section>")
    }

    fn write_records(&self, out: &mut dyn Write) -> io::Result<()> {
        let texts = match self.shown.len() {
            0 => "No texts are in this page.".to_owned(),
            shown if shown < self.records => {
                format!("The texts of the first {shown} of {} are in this page.", counted(self.records, "record"))
            }
            _ => "A record's name opens its texts.".to_owned(),
        };
        writeln!(
            out,
            "<section id=\"records\" aria-labelledby=\"records-title\">\n<h2 id=\"records-title\">Records</h2>\n\
             <p class=\"note\">{texts} F1 in percent.</p>\n\
             <p class=\"notice\" id=\"cannot-unpack\" hidden>This browser cannot unpack the texts of the records: it has no \
             <code>DecompressionStream</code> for raw DEFLATE. Everything else is there.</p>\n\
             <noscript><p class=\"notice\">{}</p></noscript>\n<form id=\"choices\" class=\"choices\" hidden></form>\n\
             <div id=\"table\">\n{}</div>\n<div id=\"pages\" class=\"choices\" hidden></div>\n</section>",
            records::without_scripts(self),
            records::table(self)
        )
    }

    fn write_notes(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "<section id=\"notes\" aria-labelledby=\"notes-title\">\n<h2 id=\"notes-title\">How the numbers came about</h2>\n<ul>"
        )?;
        let made = format!("Made by epitome {}.", self.version);
        for note in cells::notes(self).iter().map(String::as_str).chain(NOTES).chain([made.as_str()]) {
            writeln!(out, "<li>{}</li>", escaped(note))?;
        }
        writeln!(out, "</ul>\n</section>")
    }
}

/// What is true of every report.
const NOTES: [&str; 4] = [
    "Coverage, density and compression are those of Grusky, Naaman and Artzi, \u{201C}Newsroom\u{201D}, NAACL 2018: the share of \
     words in fragments that stand in the document in the same order, the mean length of the fragment of a word, and words \
     of the document per word of the text.",
    "Novel n-grams do not stand in the document; repeated ones stand earlier in the same text.",
    "Means are over the records that have a value.",
    "In a record's texts, copied are at least three words in a row that stand in the document; of several places the first \
     is marked.",
];

fn write_charts(charts: &[String], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<div class=\"charts\">\n{}</div>", charts.concat())
}

fn write_details(summary: &str, content: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<details>\n<summary>{summary}</summary>\n{content}</details>")
}
