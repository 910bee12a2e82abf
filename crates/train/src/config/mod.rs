//! The TOML file of a training run. Precedence: defaults, then the file, then `--set key=value`.

mod data;
mod model;
mod run;

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::{Error, OptimConfig, Result};
pub use data::DataConfig;
pub use model::ModelConfig;
pub use run::RunOptions;

/// A whole run, one field per TOML table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// What to start from.
    pub model: ModelConfig,
    /// What to train on.
    pub data: DataConfig,
    /// The optimizer and its schedule.
    #[serde(default)]
    pub optim: OptimConfig,
    /// Batches, steps, output.
    #[serde(default)]
    pub run: RunOptions,
}

impl RunConfig {
    /// Reads a TOML file and applies `overrides` of the form `table.key=value`.
    ///
    /// # Errors
    /// When the file cannot be read, a key is unknown, or a value has the wrong type or contradicts another.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let file = path.display().to_string();
        let wrong = |origin: &str| {
            let origin = origin.to_owned();
            move |error: toml::de::Error| Error::config(origin, error.to_string())
        };
        // Numbers that TOML lacks, above those of an i64, are refused here: no table could hold them.
        let mut table: Table = toml::from_str(&text).map_err(wrong(&file))?;
        let (config, origin): (Self, String) = if overrides.is_empty() {
            // Read at once, an error knows its line.
            (toml::from_str(&text).map_err(wrong(&file))?, file)
        } else {
            overrides.iter().try_for_each(|setting| set(&mut table, setting))?;
            let origin = format!("{file} with --set");
            (table.try_into().map_err(wrong(&origin))?, origin)
        };
        config.validate(&origin)?;
        Ok(config)
    }

    /// The file's text with every default written out.
    ///
    /// # Errors
    /// A value that TOML cannot hold, such as a path that is not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|error| Error::config("the configuration", error.to_string()))
    }

    /// Refuses an output that `config.toml`, which is UTF-8, could not name; other paths are read from such files.
    pub(crate) fn check_output(&self) -> Result<()> {
        match self.run.output.as_ref().filter(|path| path.to_str().is_none()) {
            Some(path) => {
                let message = format!("{} is not UTF-8, as config.toml is: choose another name", path.display());
                Err(Error::config("--output or run.output", message))
            }
            None => Ok(()),
        }
    }

    fn validate(&self, origin: &str) -> Result<()> {
        let complain = |message: String| Err(Error::config(origin, message));
        self.model.validate(origin)?;
        self.run.validate().or_else(complain)?;
        self.optim.validate().or_else(complain)?;
        self.data.validate().or_else(complain)?;
        if self.run.eval_steps > 0 && self.data.validation.is_empty() {
            return complain("run.eval_steps asks for validations, but data.validation names no file".into());
        }
        if self.run.predict_with_generate && self.data.validation.is_empty() {
            return complain(
                "run.predict_with_generate summarizes validation records, but data.validation names no file".into(),
            );
        }
        self.named_place().map(drop).or_else(complain)
    }
}

/// The table, the key and the value of a `table.key=value`, in which a table may be one of another; nothing if it has another
/// form.
pub fn split_setting(setting: &str) -> Option<(&str, &str, &str)> {
    let (path, value) = setting.split_once('=')?;
    let (table, key) = path.trim().rsplit_once('.')?;
    Some((table, key, value))
}

/// Applies one `table.key=value`. The value is TOML; what is not TOML is taken as a string, but for numbers that TOML lacks.
fn set(table: &mut Table, setting: &str) -> Result<()> {
    let origin = || format!("--set {setting}");
    let malformed = || Error::config(origin(), "must have the form table.key=value");
    let (sections, key, text) = split_setting(setting).ok_or_else(malformed)?;
    if text.trim().parse::<i128>().is_ok_and(|number| i64::try_from(number).is_err()) {
        let range = format!("lies outside {} to {}, which TOML's whole numbers are in", i64::MIN, i64::MAX);
        return Err(Error::config(origin(), range));
    }
    let value = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| Value::String(text.trim().to_owned()));
    let mut table = table;
    for section in sections.split('.') {
        let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        table = inner.as_table_mut().ok_or_else(malformed)?;
    }
    table.insert(key.to_owned(), value);
    Ok(())
}
