//! `--field`: what the fields of records are called.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use epitome_data::FieldNames;

use crate::failure::Usage;

/// `--field`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FieldOption {
    /// Read a field of the records under another name, such as document=article; may be repeated
    #[arg(long = "field", value_name = "FIELD=NAME", value_parser = pair)]
    fields: Vec<(String, String)>,
}

impl FieldOption {
    /// The names given.
    ///
    /// # Errors
    /// A field that records do not have or that is given twice, or two fields of one name.
    pub(crate) fn names(&self) -> Result<FieldNames> {
        let mut names = BTreeMap::new();
        for (field, name) in &self.fields {
            if names.insert(field.clone(), name.clone()).is_some() {
                return Err(Usage(format!("--field {field} is given twice")).into());
            }
        }
        FieldNames::try_from(names).map_err(|message| Usage(format!("--field: {message}")).into())
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((field, name)) if !field.is_empty() && !name.is_empty() => Ok((field.to_owned(), name.to_owned())),
        _ => Err("must have the form FIELD=NAME".into()),
    }
}
