//! Token ids as configurations write them.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// One token id, a list of them, or none (`null`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a token id or a list of token ids")]
pub enum TokenIds {
    /// No id.
    None,
    /// A single id.
    One(u32),
    /// Any of several ids.
    Many(Vec<u32>),
}

impl TokenIds {
    /// The ids, whichever way they were written.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

impl fmt::Display for TokenIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = match self {
            Self::None => "none".into(),
            Self::One(id) => id.to_string(),
            Self::Many(ids) => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" or "),
        };
        f.write_str(&ids)
    }
}

/// Reads a field that names one token, as an id or a list of only that, or none (`null`), for `#[serde(deserialize_with)]`.
///
/// # Errors
/// When the field holds anything else.
pub fn one_token_id<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<u32>, D::Error> {
    match TokenIds::deserialize(deserializer)? {
        TokenIds::None => Ok(None),
        TokenIds::One(id) => Ok(Some(id)),
        TokenIds::Many(ids) => match ids[..] {
            [id] => Ok(Some(id)),
            _ => Err(D::Error::custom(format!("names {} tokens where one is needed", ids.len()))),
        },
    }
}
