//! Tables with commas or tabs between the cells, as Python's `csv` and pandas write them.

use std::fmt;

use epitome_eval::counted;

/// A row of a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The line that it begins in, counted from 1.
    pub(super) line: usize,
    pub(super) cells: Vec<String>,
}

/// What is wrong with a table, and in which line, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    line: usize,
    kind: FaultKind,
}

#[derive(Debug, PartialEq, Eq)]
enum FaultKind {
    Cut,
    Stray,
    Cells { found: usize, expected: usize },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match self.kind {
            FaultKind::Cut => f.write_str("a quote is not closed before the file ends, which may be cut off"),
            FaultKind::Stray => f.write_str("text follows a quoted cell; a quote inside of one must be doubled"),
            FaultKind::Cells { found, expected } => {
                write!(f, "{} where the header has {expected}", counted(found, "cell"))
            }
        }
    }
}

impl std::error::Error for Fault {}

/// The rows of a table, the header first, blank lines left out.
///
/// # Errors
/// Quotes that do not pair, and rows longer or shorter than the header.
pub(super) fn rows(text: &str, separator: char) -> Result<Vec<Row>, Fault> {
    let rows = match parse(text, separator, true) {
        // Many write tabs between texts as they are, and so a quote is one of the text where it cannot be another.
        Err(Fault { kind: FaultKind::Stray, .. }) if separator == '\t' => parse(text, separator, false)?,
        parsed => parsed?,
    };
    let expected = rows.first().map_or(0, |header| header.cells.len());
    match rows.iter().find(|row| row.cells.len() != expected) {
        Some(Row { line, cells }) => {
            Err(Fault { line: *line, kind: FaultKind::Cells { found: cells.len(), expected } })
        }
        None => Ok(rows),
    }
}

fn parse(text: &str, separator: char, quotes: bool) -> Result<Vec<Row>, Fault> {
    let (mut rows, mut line, mut rest) = (Vec::new(), 1, text);
    while !rest.is_empty() {
        let (start, before, mut cells) = (line, rest, Vec::new());
        loop {
            let (cell, after) = cell(rest, separator, quotes).map_err(|kind| Fault { line, kind })?;
            line += rest[..rest.len() - after.len()].matches('\n').count();
            cells.push(cell);
            match after.strip_prefix(separator) {
                Some(next) => rest = next,
                None => {
                    rest = line_end(after).unwrap_or_default();
                    line += 1;
                    break;
                }
            }
        }
        if line_end(before).is_none() {
            rows.push(Row { line: start, cells });
        }
    }
    Ok(rows)
}

/// The first cell, and what follows it: a separator, a line end or nothing.
fn cell(text: &str, separator: char, quotes: bool) -> Result<(String, &str), FaultKind> {
    let Some(mut inside) = text.strip_prefix('"').filter(|_| quotes) else {
        let end = text.find([separator, '\n']).unwrap_or(text.len());
        let end =
            if text[end..].starts_with('\n') { text[..end].strip_suffix('\r').map_or(end, str::len) } else { end };
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let mut cell = String::new();
    loop {
        let (part, after) = inside.split_once('"').ok_or(FaultKind::Cut)?;
        cell.push_str(part);
        match after.strip_prefix('"') {
            Some(next) => {
                cell.push('"');
                inside = next;
            }
            None if after.is_empty() || after.starts_with(separator) || line_end(after).is_some() => {
                return Ok((cell, after));
            }
            None => return Err(FaultKind::Stray),
        }
    }
}

/// What follows the line end that a text begins with.
fn line_end(text: &str) -> Option<&str> {
    text.strip_prefix("\r\n").or_else(|| text.strip_prefix('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str, separator: char) -> Vec<Vec<String>> {
        rows(text, separator).unwrap().into_iter().map(|row| row.cells).collect()
    }

    #[test]
    fn quotes_hold_separators_lines_and_quotes() {
        for end in ["\n", "\r\n"] {
            let text = format!("id,summary{end}1,\"a, \"\"b\"\"\nc\"{end}{end}2,\"\"{end}3,5\" disk");
            let expected = [["id", "summary"], ["1", "a, \"b\"\nc"], ["2", ""], ["3", "5\" disk"]];
            assert_eq!(cells(&text, ','), expected);
            assert_eq!(cells(&text.replace("a,", "a;").replace(',', "\t").replace("a;", "a,"), '\t'), expected);
            let lines: Vec<usize> = rows(&text, ',').unwrap().iter().map(|row| row.line).collect();
            assert_eq!(lines, [1, 2, 5, 6]);
        }
    }

    #[test]
    fn quotes_between_tabs_may_be_text() {
        let text = "id\tsummary\n1\t\"Yes,\" he said.\n2\tso\n";
        assert_eq!(cells(text, '\t'), [["id", "summary"], ["1", "\"Yes,\" he said."], ["2", "so"]]);
    }

    #[test]
    fn tables_that_are_wrong_are_refused_by_line() {
        let fault = |text: &str, separator| rows(text, separator).unwrap_err();
        for separator in [',', '\t'] {
            let cut = format!("id{separator}summary\r\n1{separator}so\r\n2{separator}\"and so o");
            assert_eq!(fault(&cut, separator), Fault { line: 3, kind: FaultKind::Cut });
        }
        assert_eq!(fault("id,summary\n1,\"so\" it goes\n", ','), Fault { line: 2, kind: FaultKind::Stray });
        let kind = FaultKind::Cells { found: 3, expected: 2 };
        assert_eq!(fault("id,summary\r\n1,so\r\n2,so,on\r\n", ','), Fault { line: 3, kind });
    }
}
