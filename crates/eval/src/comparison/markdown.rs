//! Comparisons as Markdown.

use super::Comparisons;
use super::table::{Cell, Table};

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
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let header = line(table.header.iter().map(|text| escaped(text)).collect());
    let rule = format!("|---|{}\n", "---:|".repeat(table.header.len() - 1));
    let rows: String = table.rows.iter().map(|row| line(row.iter().map(cell).collect())).collect();
    format!("{header}{rule}{rows}")
}

fn cell(cell: &Cell) -> String {
    let text = escaped(&cell.text);
    let text = if cell.bold { format!("**{text}**") } else { text };
    format!("{text}{} {}", cell.mark, cell.aside).trim_end().to_owned()
}

/// The text as it is, whatever of it Markdown would take for markup.
fn escaped(text: &str) -> String {
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
