//! The records of a report: the table of all of them, and the texts of the first.

use std::io::{self, Write};

use epitome_plot::escaped;
use serde::Serialize;

use super::table::HtmlTable;
use crate::cells::percent;
use crate::counted;
use crate::{RecordScores, Report};

/// Rows that can be read without scripts.
const WITHOUT_SCRIPTS: usize = 100;

/// What the page's script knows of all records together; those follow one by one.
#[derive(Serialize)]
struct Overview<'a> {
    metrics: Vec<String>,
    systems: Vec<&'a str>,
    /// How many records, the first ones, have their texts in the page.
    shown: usize,
}

/// Lengths in words, and F1 in hundredths of a percent: by system, then metric.
#[derive(Serialize)]
struct Row<'a>(&'a str, Option<usize>, f64, Vec<usize>, Vec<u32>);

/// The table of the first records and the first system, which the page's script replaces.
pub(super) fn table(report: &Report) -> String {
    let metrics = report.scores.0.iter().map(|(metric, _)| metric.to_string());
    let names = ["record", "document words", "reference words", "summary words"].map(str::to_owned);
    let header: Vec<String> = names.into_iter().chain(metrics).collect();
    let row = |record: &RecordScores| {
        let system = record.systems.first()?;
        let document = record.document_words.map_or("-".to_owned(), |words| words.to_string());
        let words = [document, format!("{:.0}", record.reference_words), system.words.to_string()];
        let scores = system.scores.iter().map(|(_, score)| percent(score.f1));
        Some(std::iter::once(escaped(&record.id)).chain(words).chain(scores).collect())
    };
    let rows = report.per_record.iter().take(WITHOUT_SCRIPTS).filter_map(row).collect();
    HtmlTable { name: "Records", text_columns: 1, header: &header, rows }.to_string()
}

/// What is said where scripts do not run.
pub(super) fn without_scripts(report: &Report) -> String {
    let listed = report.records.min(WITHOUT_SCRIPTS);
    let scores = report.systems.first().map(|system| format!(" with the F1 of {}", escaped(&system.name)));
    format!(
        "Scripts do not run here. The table lists the first {listed} of {}{}, and texts cannot be shown; all scores are \
         in report.json.",
        counted(report.records, "record"),
        scores.unwrap_or_default()
    )
}

/// Writes the numbers of all records for the script: JSON in an element of its own.
pub(super) fn write_numbers(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let overview = Overview {
        metrics: report.scores.0.iter().map(|(metric, _)| metric.to_string()).collect(),
        systems: report.systems.iter().map(|system| system.name.as_str()).collect(),
        shown: report.shown.len(),
    };
    write!(out, "<script type=\"application/json\" id=\"numbers\">[{}", json(&overview))?;
    for record in &report.per_record {
        let scores = record.systems.iter().flat_map(|system| &system.scores);
        let row = Row(
            &record.id,
            record.document_words,
            record.reference_words,
            record.systems.iter().map(|system| system.words).collect(),
            scores.map(|(_, score)| (10_000.0 * score.f1).round() as u32).collect(),
        );
        write!(out, ",\n{}", json(&row))?;
    }
    writeln!(out, "]</script>")
}

/// Writes the texts of the records that have them, an element each. They are read when a record is opened.
pub(super) fn write_texts(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for (index, record) in report.shown.iter().enumerate() {
        write!(out, "<script type=\"text/plain\" id=\"texts-{index}\">")?;
        record.write(out)?;
        writeln!(out, "</script>")?;
    }
    Ok(())
}

/// JSON in which nothing ends a script element or begins a comment: `<` occurs in strings only, where it can be escaped.
fn json<T: Serialize>(value: &T) -> String {
    let json = serde_json::to_string(value).expect("strings and finite numbers always serialize");
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    #[test]
    fn json_cannot_leave_its_element() {
        let hostile = "</script><!--<script>\u{2028}\u{2029}\"\\";
        let json = super::json(&hostile);
        assert!(!json.contains(['<', '\u{2028}', '\u{2029}']), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), hostile);
    }
}
