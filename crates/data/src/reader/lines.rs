//! Records as JSON Lines.

use std::sync::Arc;

use crate::error::{Error, Location, RecordProblem, Result};
use crate::input::Input;
use crate::record::{Form, Record, parse_object};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub(super) struct Lines {
    input: Input,
    line: usize,
    buffer: Vec<u8>,
}

impl Lines {
    pub(super) fn new(input: Input) -> Self {
        Self { input, line: 0, buffer: Vec::new() }
    }

    pub(super) fn next(&mut self, form: &Form) -> Option<Result<Record>> {
        loop {
            self.buffer.clear();
            match self.input.read_line(&mut self.buffer) {
                Ok(0) => return None,
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
