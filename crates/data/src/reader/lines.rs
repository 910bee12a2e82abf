//! Records as JSON Lines.

use std::sync::Arc;

use crate::error::{Error, Location, RecordProblem, Result};
use crate::input::Input;
use crate::record::{Form, Record, parse_object};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// No record is longer: what is, is no file of records, and would only fill the memory.
const LONGEST_LINE: usize = 1 << 30;

pub(super) struct Lines {
    input: Input,
    line: usize,
    buffer: Vec<u8>,
    longest: usize,
}

impl Lines {
    pub(super) fn new(input: Input) -> Self {
        Self { input, line: 0, buffer: Vec::new(), longest: LONGEST_LINE }
    }

    pub(super) fn next(&mut self, form: &Form) -> Option<Result<Record>> {
        loop {
            self.buffer.clear();
            match self.input.read_line(&mut self.buffer, self.longest + 1) {
                Ok(0) => return None,
                Ok(length) if length > self.longest => {
                    return Some(Err(Error::LongLine(Location::line(Arc::clone(self.input.name()), self.line + 1))));
                }
                Ok(_) => self.line += 1,
                Err(error) => return Some(Err(error)),
            }
            let mut line = self.buffer.as_slice();
            if self.line == 1 {
                line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
            }
            let line = line.trim_ascii();
            if !line.is_empty() {
                let location = Location::line(Arc::clone(self.input.name()), self.line);
                return Some(parse(line, location, form));
            }
        }
    }
}

fn parse(line: &[u8], location: Location, form: &Form) -> Result<Record> {
    let text = std::str::from_utf8(line).map_err(|error| RecordProblem::InvalidUtf8 { byte: error.valid_up_to() });
    text.and_then(parse_object)
        .and_then(|fields| Record::from_fields(fields, location.clone(), form))
        .map_err(|problem| Error::Record { location, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_an_end_does_not_fill_the_memory() {
        let start = std::io::Cursor::new("{\"document\": \"fits\"}\n{\"document\": \"");
        let endless = std::io::Read::chain(start, std::io::repeat(b'x'));
        let input = Input::from_reader(endless, "in.jsonl".into()).unwrap();
        let mut lines = Lines { longest: 50, ..Lines::new(input) };
        assert!(lines.next(&Form::default()).unwrap().is_ok());
        let error = lines.next(&Form::default()).unwrap().unwrap_err();
        assert!(!error.is_bad_record() && error.to_string().starts_with("in.jsonl:2: "), "{error}");
    }
}
