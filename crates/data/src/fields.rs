//! [`FieldNames`]: what the fields of a record are called in a file, and the fields of one record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::RecordProblem;

type Outcome<T> = std::result::Result<T, RecordProblem>;

/// The fields a record may have.
const FIELDS: [&str; 9] =
    ["id", "document", "documents", "summary", "query", "references", "input_ids", "labels", "global_positions"];

/// Other names for the fields of a record, such as `document` being called `article` in the files of a dataset.
///
/// A field that is given another name is read from there alone, and every record must have it, if only as null. A field
/// whose own name is given away, and which gets no other, is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct FieldNames(BTreeMap<String, String>);

impl FieldNames {
    /// Whether every field has its own name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where `field` is found; `None` if another field is read from the place of that name.
    pub(crate) fn of<'a>(&'a self, field: &'a str) -> Option<&'a str> {
        match self.0.get(field) {
            Some(name) => Some(name),
            None => self.0.values().all(|name| name != field).then_some(field),
        }
    }

    /// Every name under which a field may be found.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        FIELDS.iter().filter_map(|field| self.of(field))
    }

    /// The names of `fields`, as a message lists them.
    pub(crate) fn list(&self, fields: &[&str]) -> String {
        let names: Vec<String> =
            fields.iter().filter_map(|field| self.of(field)).map(|name| format!("`{name}`")).collect();
        match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => names.concat(),
        }
    }
}

impl TryFrom<BTreeMap<String, String>> for FieldNames {
    type Error = String;

    fn try_from(names: BTreeMap<String, String>) -> Result<Self, String> {
        if let Some(field) = names.keys().find(|field| !FIELDS.contains(&field.as_str())) {
            return Err(format!("a record has no field `{field}`; its fields are {}", FIELDS.join(", ")));
        }
        let mut taken = BTreeMap::new();
        for (field, name) in &names {
            if let Some(other) = taken.insert(name, field) {
                return Err(format!("`{name}` cannot be both `{other}` and `{field}`"));
            }
        }
        Ok(Self(names))
    }
}

impl From<FieldNames> for BTreeMap<String, String> {
    fn from(names: FieldNames) -> Self {
        names.0
    }
}

/// The fields of one record, taken out one by one under whatever names they have.
pub(crate) struct Fields<'n> {
    values: Map<String, Value>,
    names: &'n FieldNames,
}

impl<'n> Fields<'n> {
    /// Checks that the fields with other names are there.
    pub(crate) fn new(values: Map<String, Value>, names: &'n FieldNames) -> Outcome<Self> {
        match names.0.iter().find(|(_, name)| !values.contains_key(*name)) {
            Some((field, name)) => Err(RecordProblem::NoField { field: field.clone(), name: name.clone() }),
            None => Ok(Self { values, names }),
        }
    }

    /// The names of `fields`, as a message lists them.
    pub(crate) fn list(&self, fields: &[&str]) -> String {
        self.names.list(fields)
    }

    /// What has not been taken.
    pub(crate) fn into_rest(self) -> Map<String, Value> {
        self.values
    }

    pub(crate) fn take_id(&mut self) -> Outcome<Option<String>> {
        match self.take("id") {
            None => Ok(None),
            Some((_, Value::String(id))) => Ok(Some(id)),
            Some((name, Value::Number(id))) if is_rounded(&id) => Err(wrong_type(name, EXACT_ID, &Value::Number(id))),
            Some((_, Value::Number(id))) => Ok(Some(id.to_string())),
            Some((name, other)) => Err(wrong_type(name, "a string or a number", &other)),
        }
    }

    pub(crate) fn take_string(&mut self, field: &'n str) -> Outcome<Option<String>> {
        match self.take(field) {
            None => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text)),
            Some((name, other)) => Err(wrong_type(name, "a string", &other)),
        }
    }

    pub(crate) fn take_strings(&mut self, field: &'n str) -> Outcome<Option<Vec<String>>> {
        self.take_list(field, "a string", |value| match value.take() {
            Value::String(text) => Some(text),
            other => {
                *value = other;
                None
            }
        })
    }

    /// Takes a list whose every element `convert` accepts; an element it refuses is named with its index.
    pub(crate) fn take_list<T>(
        &mut self,
        field: &'n str,
        expected: &'static str,
        convert: impl Fn(&mut Value) -> Option<T>,
    ) -> Outcome<Option<Vec<T>>> {
        let (name, mut elements) = match self.take(field) {
            None => return Ok(None),
            Some((name, Value::Array(elements))) => (name, elements),
            Some((name, other)) => return Err(wrong_type(name, "a list", &other)),
        };
        let converted = elements.iter_mut().enumerate().map(|(index, element)| {
            convert(element).ok_or_else(|| wrong_type(&format!("{name}[{index}]"), expected, element))
        });
        converted.collect::<Outcome<Vec<T>>>().map(Some)
    }

    /// Takes a field out of the record, with its name; `null` is as good as absent.
    fn take(&mut self, field: &'n str) -> Option<(&'n str, Value)> {
        let name = self.names.of(field)?;
        let value = self.values.get_mut(name).map(Value::take).filter(|value| !value.is_null())?;
        Some((name, value))
    }
}

const EXACT_ID: &str = "a string where a number would be too large to be held exactly";

/// Whether other numbers of a file may have become this one too, so that ids would collide.
fn is_rounded(number: &serde_json::Number) -> bool {
    /// From here on not every whole number is an f64.
    const LEAST: f64 = 9_007_199_254_740_992.0;
    number.is_f64() && number.as_f64().is_none_or(|number| number.abs() >= LEAST)
}

fn wrong_type(field: &str, expected: &'static str, found: &Value) -> RecordProblem {
    let found = match found {
        Value::Number(number) => number.to_string(),
        other => kind(other).to_owned(),
    };
    RecordProblem::WrongType { field: field.to_owned(), expected, found }
}

/// What a value is, as messages say it.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
