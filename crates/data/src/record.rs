//! [`Record`]: one line or row of a file of records, checked field by field.

use serde_json::{Map, Value};

use crate::error::{Location, RecordProblem};
use crate::fields::{FieldNames, Fields, kind};

type Outcome<T> = std::result::Result<T, RecordProblem>;

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
/// Fields other than those named here are ignored unless they are asked for, and `null` counts as absent. A record with `input_ids` is a tokenized
/// one, whatever text it may also carry.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The `id` of the record (a number is written out), or the number of its line or row, counted from 1.
    pub id: String,
    /// What the encoder reads.
    pub content: Content,
    /// The target text.
    pub summary: Option<String>,
    /// Every reference text, for scoring; empty when the record names none.
    pub references: Vec<String>,
    /// Fields with other names, where they are asked for ([`crate::RecordReader::keeping_other_fields`]).
    pub other: Map<String, Value>,
    /// Where the record came from.
    pub location: Location,
}

/// What is expected of the records of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form {
    pub(crate) names: FieldNames,
    /// Whether there may be neither text nor token ids.
    pub(crate) documents_optional: bool,
    /// Whether fields that mean nothing here are kept.
    pub(crate) keeps_others: bool,
}

impl Record {
    /// A record of one text that does not come from a file of records, such as a document file named `id`.
    pub fn from_text(id: impl Into<String>, document: impl Into<String>) -> Self {
        let id = id.into();
        let location = Location::line(id.as_str(), 1);
        let content = Content::Text { documents: vec![document.into()], query: None };
        Self { id, content, summary: None, references: Vec::new(), other: Map::new(), location }
    }

    /// Reads one line (without its line end) of a file of records, whose fields have their own names.
    ///
    /// # Errors
    /// The [`RecordProblem`] of the line: not JSON, a missing field, a value of a wrong type or out of range.
    pub fn from_json(line: &str, location: Location) -> Outcome<Self> {
        Self::from_fields(parse_object(line)?, location, &Form::default())
    }

    /// Checks the fields of a record.
    pub(crate) fn from_fields(values: Map<String, Value>, location: Location, form: &Form) -> Outcome<Self> {
        let mut fields = Fields::new(values, &form.names)?;
        let id = fields.take_id()?.unwrap_or_else(|| location.number.to_string());
        let summary = fields.take_string("summary")?;
        let references = fields.take_strings("references")?.unwrap_or_default();
        let content = match fields.take_list("input_ids", TOKEN_ID, token_id)? {
            Some(input_ids) => tokens(input_ids, &mut fields)?,
            None => Content::Text {
                documents: take_documents(&mut fields, form.documents_optional)?,
                query: fields.take_string("query")?,
            },
        };
        let other = if form.keeps_others { fields.into_rest() } else { Map::new() };
        Ok(Self { id, content, summary, references, other, location })
    }

    /// Whether there is nothing to summarize: no document, or only white space in all of them.
    pub fn is_empty(&self) -> bool {
        match &self.content {
            Content::Text { documents, .. } => documents.iter().all(|document| document.trim().is_empty()),
            Content::Tokens { input_ids, .. } => input_ids.is_empty(),
        }
    }

    /// Whether there are documents, if only empty ones.
    pub fn has_documents(&self) -> bool {
        matches!(&self.content, Content::Text { documents, .. } if !documents.is_empty())
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

/// The object that a line of JSON is.
pub(crate) fn parse_object(line: &str) -> Outcome<Map<String, Value>> {
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

fn tokens(input_ids: Vec<u32>, fields: &mut Fields<'_>) -> Outcome<Content> {
    if input_ids.is_empty() {
        return Err(RecordProblem::NoTokens);
    }
    let labels = fields.take_list("labels", "a token id or -100", label)?;
    let mut global_positions =
        fields.take_list("global_positions", "a whole number from 0", position)?.unwrap_or_else(|| vec![0]);
    global_positions.sort_unstable();
    global_positions.dedup();
    match global_positions.last() {
        Some(&position) if position >= input_ids.len() => {
            Err(RecordProblem::GlobalPosition { position, tokens: input_ids.len() })
        }
        _ => Ok(Content::Tokens { input_ids, global_positions, labels }),
    }
}

fn take_documents(fields: &mut Fields<'_>, optional: bool) -> Outcome<Vec<String>> {
    let document = fields.take_string("document")?;
    let documents = fields.take_strings("documents")?;
    match (document, documents) {
        (Some(_), Some(_)) => Err(RecordProblem::TwoDocuments),
        (Some(document), None) => Ok(vec![document]),
        (None, Some(documents)) => Ok(documents),
        (None, None) if optional => Ok(Vec::new()),
        (None, None) => Err(RecordProblem::NoDocument(fields.list(&["document", "documents", "input_ids"]))),
    }
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
