//! Predictions and references of the same id.

use std::collections::{HashMap, HashSet};

use crate::{Error, Prediction, Reference, Result};

/// One record: its prediction and its reference.
pub(crate) type Joined<'a> = (&'a Prediction, &'a Reference);

/// Pairs each reference with its prediction, in the order of the references.
pub(crate) fn join<'a>(predictions: &'a [Prediction], references: &'a [Reference]) -> Result<Vec<Joined<'a>>> {
    let mut by_id = HashMap::new();
    for prediction in predictions {
        if by_id.insert(prediction.id.as_str(), prediction).is_some() {
            return Err(Error::DoubledPrediction { id: prediction.id.clone() });
        }
    }
    let mut known = HashSet::new();
    for reference in references {
        if !known.insert(reference.id.as_str()) {
            return Err(Error::DoubledReference { id: reference.id.clone() });
        }
        if reference.references.is_empty() {
            return Err(Error::NoReferenceText { id: reference.id.clone() });
        }
    }
    let unknown = predictions.iter().filter(|prediction| !known.contains(prediction.id.as_str()));
    if let Some((id, others)) = first_and_others(unknown.map(|prediction| &prediction.id)) {
        return Err(Error::MissingReference { id, others });
    }
    let unpredicted = references.iter().filter(|reference| !by_id.contains_key(reference.id.as_str()));
    if let Some((id, others)) = first_and_others(unpredicted.map(|reference| &reference.id)) {
        return Err(Error::MissingPrediction { id, others });
    }
    let pairs = references.iter().map(|reference| (by_id[reference.id.as_str()], reference));
    Ok(pairs.collect())
}

fn first_and_others<'a>(mut ids: impl Iterator<Item = &'a String>) -> Option<(String, usize)> {
    let first = ids.next()?.clone();
    Some((first, ids.count()))
}
