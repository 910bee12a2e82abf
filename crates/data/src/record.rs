//! [`Record`]: one line of a JSON Lines file, checked field by field.

use serde_json::{Map, Value};

use crate::error::{Location, RecordProblem};

type Outcome<T> = std::result::Result<T, RecordProblem>;
type Fields = Map<String, Value>;

/// What a record gives to the encoder.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text, from `document` (one element) or `documents`.
    Text {
        /// The documents, in order; none or only empty ones for an empty record.
        documents: Vec<String>,
        /// The question or instruction the summary answers, put before the documents.
        query: Option<String>,
    },
    /// Token ids, used exactly as given.
    Tokens {
        /// The encoder's input, special tokens included.
        input_ids: Vec<u32>,
        /// The positions that attend globally, ascending and without repetition; `[0]` when the record names none.
        global_positions: Vec<usize>,
        /// The target, where the record has one; -100 marks positions that the loss ignores.
        labels: Option<Vec<i64>>,
    },
}

/// One record: an id, what to read and, where known, what to write.
///
/// Fields other than those named here are ignored, and `null` counts as absent. A record with `input_ids` is a tokenized
/// one, whatever text it may also carry.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The `id` of the record (a number is written out), or the line number counted from 1.
    pub id: String,
    /// What the encoder reads.
    pub content: Content,
    /// The target text.
    pub summary: Option<String>,
    /// Every reference text, for scoring; empty when the record names none.
    pub references: Vec<String>,
    /// Where the record came from.
    pub location: Location,
}

impl Record {
    /// A record of one text that does not come from a file of records, such as a document file named `id`.
    pub fn from_text(id: impl Into<String>, document: impl Into<String>) -> Self {
        let id = id.into();
        let location = Location { file: id.as_str().into(), line: 1 };
        let content = Content::Text { documents: vec![document.into()], query: None };
        Self { id, content, summary: None, references: Vec::new(), location }
    }

    /// Reads one line (without its line end) of a file of records.
    ///
    /// # Errors
    /// The [`RecordProblem`] of the line: not JSON, a missing field, a value of a wrong type or out of range.
    pub fn from_json(line: &str, location: Location) -> Outcome<Self> {
        let mut fields = parse_object(line)?;
        let id = take_id(&mut fields)?.unwrap_or_else(|| location.line.to_string());
        let summary = take_string(&mut fields, "summary")?;
        let references = take_strings(&mut fields, "references")?.unwrap_or_default();
        let content = match take_list(&mut fields, "input_ids", TOKEN_ID, token_id)? {
            Some(input_ids) => tokens(input_ids, &mut fields)?,
            None => {
                Content::Text { documents: take_documents(&mut fields)?, query: take_string(&mut fields, "query")? }
            }
        };
        Ok(Self { id, content, summary, references, location })
    }

    /// Whether there is nothing to summarize: no document, or only white space in all of them.
    pub fn is_empty(&self) -> bool {
        match &self.content {
            Content::Text { documents, .. } => documents.iter().all(|document| document.trim().is_empty()),
            Content::Tokens { input_ids, .. } => input_ids.is_empty(),
        }
    }

    /// Whether the record holds token ids, so that no tokenizer is needed.
    pub fn is_tokenized(&self) -> bool {
        matches!(self.content, Content::Tokens { .. })
    }

    /// What to score a summary against: the references, or else the summary; nothing for a record without either.
    pub fn targets(&self) -> &[String] {
        if self.references.is_empty() { self.summary.as_slice() } else { &self.references }
    }

    /// Every text of the record that a tokenizer should learn from: query, documents and summary.
    pub fn into_texts(self) -> Vec<String> {
        let mut texts = Vec::new();
        if let Content::Text { documents, query } = self.content {
            texts.extend(query);
            texts.extend(documents);
        }
        texts.extend(self.summary);
        texts
    }
}

fn parse_object(line: &str) -> Outcome<Fields> {
    match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(RecordProblem::NotAnObject { found: kind(&other) }),
        Err(error) => {
            let message = error.to_string();
            // The line of the message is always 1: a record is one line. The caller knows the line of the file.
            let end = message.rfind(" at line ").unwrap_or(message.len());
            Err(RecordProblem::Json { message: message[..end].to_owned(), column: error.column() })
        }
    }
}

fn tokens(input_ids: Vec<u32>, fields: &mut Fields) -> Outcome<Content> {
    if input_ids.is_empty() {
        return Err(RecordProblem::NoTokens);
    }
    let labels = take_list(fields, "labels", "a token id or -100", label)?;
    let mut global_positions =
        take_list(fields, "global_positions", "a whole number from 0", position)?.unwrap_or_else(|| vec![0]);
    global_positions.sort_unstable();
    global_positions.dedup();
    match global_positions.last() {
        Some(&position) if position >= input_ids.len() => {
            Err(RecordProblem::GlobalPosition { position, tokens: input_ids.len() })
        }
        _ => Ok(Content::Tokens { input_ids, global_positions, labels }),
    }
}

fn take_documents(fields: &mut Fields) -> Outcome<Vec<String>> {
    let document = take_string(fields, "document")?;
    let documents = take_strings(fields, "documents")?;
    match (document, documents) {
        (Some(_), Some(_)) => Err(RecordProblem::TwoDocuments),
        (Some(document), None) => Ok(vec![document]),
        (None, Some(documents)) => Ok(documents),
        (None, None) => Err(RecordProblem::NoDocument),
    }
}

/// Takes a field out of the record; `null` is as good as absent.
fn take(fields: &mut Fields, field: &str) -> Option<Value> {
    fields.get_mut(field).map(Value::take).filter(|value| !value.is_null())
}

fn take_id(fields: &mut Fields) -> Outcome<Option<String>> {
    match take(fields, "id") {
        None => Ok(None),
        Some(Value::String(id)) => Ok(Some(id)),
        Some(Value::Number(id)) => Ok(Some(id.to_string())),
        Some(other) => Err(wrong_type("id", "a string or a number", &other)),
    }
}

fn take_string(fields: &mut Fields, field: &str) -> Outcome<Option<String>> {
    match take(fields, field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong_type(field, "a string", &other)),
    }
}

fn take_strings(fields: &mut Fields, field: &str) -> Outcome<Option<Vec<String>>> {
    take_list(fields, field, "a string", |value| match value.take() {
        Value::String(text) => Some(text),
        other => {
            *value = other;
            None
        }
    })
}

const TOKEN_ID: &str = "a token id (a whole number from 0 to 4294967295)";

fn token_id(value: &mut Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn label(value: &mut Value) -> Option<i64> {
    value.as_i64().filter(|&label| label == -100 || (0..=i64::from(u32::MAX)).contains(&label))
}

fn position(value: &mut Value) -> Option<usize> {
    value.as_u64().and_then(|position| usize::try_from(position).ok())
}

/// Takes a list whose every element `convert` accepts; an element it refuses is named with its index.
fn take_list<T>(
    fields: &mut Fields,
    field: &str,
    expected: &'static str,
    convert: impl Fn(&mut Value) -> Option<T>,
) -> Outcome<Option<Vec<T>>> {
    let mut elements = match take(fields, field) {
        None => return Ok(None),
        Some(Value::Array(elements)) => elements,
        Some(other) => return Err(wrong_type(field, "a list", &other)),
    };
    let converted = elements.iter_mut().enumerate().map(|(index, element)| {
        convert(element).ok_or_else(|| wrong_type(&format!("{field}[{index}]"), expected, element))
    });
    converted.collect::<Outcome<Vec<T>>>().map(Some)
}

fn wrong_type(field: &str, expected: &'static str, found: &Value) -> RecordProblem {
    let found = match found {
        Value::Number(number) => number.to_string(),
        other => kind(other).to_owned(),
    };
    RecordProblem::WrongType { field: field.to_owned(), expected, found }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
