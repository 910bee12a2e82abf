//! Progress bars: on stderr, and only when that is a terminal.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use epitome_data::{FieldNames, RecordReader};
use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `length` items of the kind `unit`, or a count without an end when the number is unknown.
pub(crate) fn bar(length: Option<u64>, unit: &str) -> ProgressBar {
    // indicatif draws to stderr and hides itself when stderr is not a terminal.
    let (bar, template) = match length {
        Some(length) => {
            (ProgressBar::new(length), format!("{{wide_bar}} {{pos}}/{{len}} {unit} [{{elapsed}} < {{eta}}] {{msg}}"))
        }
        None => (ProgressBar::new_spinner(), format!("{{spinner}} {{pos}} {unit} [{{elapsed}}] {{msg}}")),
    };
    bar.set_style(ProgressStyle::with_template(&template).expect("the template is fixed and valid"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// How many records a file holds, counted only where a bar will be drawn and the file can be read twice.
pub(crate) fn count_records(path: &Path, names: FieldNames) -> Option<u64> {
    if !io::stderr().is_terminal() || !path.is_file() {
        return None;
    }
    let reader = RecordReader::open(path).ok()?.with_field_names(names).skipping_bad_records(true);
    Some(reader.map_while(Result::ok).count() as u64)
}
