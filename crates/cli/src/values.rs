//! What the values of options must be: clap refuses others as wrong usage.

use clap::builder::RangedU64ValueParser;

/// A number from 1.
pub(crate) fn positive() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// A number of tokens or the like: as many as can be counted in 32 bits, as positions are.
pub(crate) fn positive_u32() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=u64::from(u32::MAX))
}

/// A finite number above 0, which need not be whole.
pub(crate) fn positive_real(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && f64::is_finite(number) => Ok(number),
        _ => Err("needs a number above 0".into()),
    }
}

/// A `table.key=value`, of which more can only be said together with the file that it changes.
pub(crate) fn setting(text: &str) -> Result<String, String> {
    match epitome_train::split_setting(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("needs the form table.key=value".into()),
    }
}
