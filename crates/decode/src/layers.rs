//! Layers of options, and which of them decides.

use crate::{Error, GenerationOptions, Result};

/// A value and the layer that set it.
pub(crate) struct Setting<'a, T> {
    pub(crate) value: T,
    pub(crate) option: &'static str,
    pub(crate) origin: &'a str,
    /// Index of the layer, 0 being the strongest; the number of layers for a default.
    pub(crate) rank: usize,
}

impl<T> Setting<'_, T> {
    pub(crate) fn refuse(&self, message: impl Into<String>) -> Error {
        Error::Option { option: self.option, origin: self.origin.to_owned(), message: message.into() }
    }

    pub(crate) fn require(self, holds: impl Fn(&T) -> bool, message: &str) -> Result<T>
    where
        T: std::fmt::Display,
    {
        if holds(&self.value) { Ok(self.value) } else { Err(self.refuse(format!("is {}, but {message}", self.value))) }
    }
}

/// Layers of options, the strongest first.
pub(crate) struct Layers<'a>(pub(crate) &'a [&'a GenerationOptions]);

/// Where what no layer sets comes from.
pub(crate) const DEFAULTS: &str = "the defaults";

impl<'a> Layers<'a> {
    /// What the strongest layer that says anything of an option says.
    pub(crate) fn pick<T>(
        &self,
        option: &'static str,
        field: impl Fn(&'a GenerationOptions) -> Option<T>,
        default: T,
    ) -> Setting<'a, T> {
        for (rank, layer) in self.0.iter().enumerate() {
            if let Some(value) = field(layer) {
                return Setting { value, option, origin: &layer.origin, rank };
            }
        }
        Setting { value: default, option, origin: DEFAULTS, rank: self.0.len() }
    }

    /// [`Layers::pick`] where it does not matter who set it.
    pub(crate) fn value<T>(
        &self,
        option: &'static str,
        field: impl Fn(&'a GenerationOptions) -> Option<T>,
        default: T,
    ) -> T {
        self.pick(option, field, default).value
    }

    /// A length that can be given with the decoder start token (`length`) or without (`new_tokens`): the strongest layer
    /// that gives either decides, and within a layer `new_tokens` outranks `length`. So a `--max-length` on the command
    /// line is not undone by `max_new_tokens` in a file.
    pub(crate) fn pick_length(
        &self,
        names: [&'static str; 2],
        fields: impl Fn(&GenerationOptions) -> [Option<usize>; 2],
        default: usize,
    ) -> Setting<'a, usize> {
        for (rank, layer) in self.0.iter().enumerate() {
            let [length, new_tokens] = fields(layer);
            if let Some(new_tokens) = new_tokens {
                let value = new_tokens.saturating_add(1);
                return Setting { value, option: names[1], origin: &layer.origin, rank };
            }
            if let Some(value) = length {
                return Setting { value, option: names[0], origin: &layer.origin, rank };
            }
        }
        Setting { value: default, option: names[0], origin: DEFAULTS, rank: self.0.len() }
    }
}
