//! Comparisons as LaTeX.

use super::Comparisons;
use super::table::Cell;

impl Comparisons {
    /// The table of [`Comparisons::markdown`] for a paper: a `table` environment that needs the package `booktabs`.
    pub fn latex(&self) -> String {
        let table = self.systems_table();
        let line = |cells: Vec<String>| format!("    {} \\\\\n", cells.join(" & "));
        let columns = format!("l{}", "r".repeat(table.header.len() - 1));
        let header = line(table.header.iter().map(|text| escaped(text)).collect());
        let rows: String = table.rows.iter().map(|row| line(row.iter().map(cell).collect())).collect();
        let caption = escaped(&table.caption.join(" "));
        format!(
            "% Needs \\usepackage{{booktabs}}.\n\\begin{{table}}\n  \\centering\n  \\caption{{{caption}}}\n  \
             \\begin{{tabular}}{{{columns}}}\n    \\toprule\n{header}    \\midrule\n{rows}    \\bottomrule\n  \
             \\end{{tabular}}\n\\end{{table}}\n"
        )
    }
}

fn cell(cell: &Cell) -> String {
    let text = escaped(&cell.text);
    let text = if cell.bold { format!("\\textbf{{{text}}}") } else { text };
    let mark = escaped(cell.mark);
    if cell.aside.is_empty() { text + &mark } else { format!("{text}{mark} {{\\scriptsize {}}}", escaped(&cell.aside)) }
}

/// The text as it is, with commands for what LaTeX reserves or its oldest font encoding lacks.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '<' => escaped.push_str("\\textless{}"),
            '>' => escaped.push_str("\\textgreater{}"),
            '|' => escaped.push_str("\\textbar{}"),
            '†' => escaped.push_str("$^{\\dagger}$"),
            '‡' => escaped.push_str("$^{\\ddagger}$"),
            '_' | '%' | '&' | '#' | '{' | '}' | '$' => escaped.extend(['\\', character]),
            // At the beginning of a row they would be an argument of the line break before.
            '[' | '*' => escaped.extend(['{', character, '}']),
            '\n' | '\r' => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn nothing_is_a_command() {
        assert_eq!(escaped("a_b%c&d#e{f}g$"), "a\\_b\\%c\\&d\\#e\\{f\\}g\\$");
        assert_eq!(escaped("~^\\"), "\\textasciitilde{}\\textasciicircum{}\\textbackslash{}");
        assert_eq!(escaped("[1]*<|>\n†"), "{[}1]{*}\\textless{}\\textbar{}\\textgreater{} $^{\\dagger}$");
    }
}
