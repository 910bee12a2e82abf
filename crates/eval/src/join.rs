//! Predictions and references of the same id, read side by side.

use std::collections::{HashMap, HashSet};
use std::iter::Fuse;

use crate::{Error, Prediction, Predictions, Reference, Result, Stream};

/// One record: its reference, and the prediction of each system.
pub(crate) struct Joined {
    /// Its place among the references, from 0.
    pub(crate) index: usize,
    pub(crate) reference: Reference,
    pub(crate) predictions: Vec<Prediction>,
}

/// Records in the order of the references. Predictions in another order wait in memory for their references.
pub(crate) struct Join<'a> {
    references: Fuse<Stream<'a, Reference>>,
    systems: Vec<Waiting<'a>>,
    known: HashSet<String>,
}

/// The predictions of a system.
struct Waiting<'a> {
    name: String,
    stream: Fuse<Stream<'a, Prediction>>,
    /// Read, but not asked for yet.
    early: HashMap<String, Prediction>,
    seen: HashSet<String>,
}

impl<'a> Join<'a> {
    pub(crate) fn new(systems: Vec<Predictions<'a>>, references: Stream<'a, Reference>) -> Self {
        let waiting = |Predictions { name, stream }| Waiting {
            name,
            stream: stream.fuse(),
            early: HashMap::new(),
            seen: HashSet::new(),
        };
        Self {
            references: references.fuse(),
            systems: systems.into_iter().map(waiting).collect(),
            known: HashSet::new(),
        }
    }

    /// The next records: at most `records` of them, with not much more than `bytes` of text. None at the end, and then every
    /// prediction has had its reference.
    pub(crate) fn next(&mut self, records: usize, bytes: usize) -> Result<Vec<Joined>> {
        let (mut joined, mut held) = (Vec::new(), 0);
        while joined.len() < records && held < bytes {
            let Some(record) = self.next_record()? else { break };
            held += record.reference.documents.iter().map(String::len).sum::<usize>();
            joined.push(record);
        }
        Ok(joined)
    }

    fn next_record(&mut self) -> Result<Option<Joined>> {
        let index = self.known.len();
        let Some(reference) = self.next_reference()? else {
            self.systems.iter_mut().try_for_each(Waiting::finish)?;
            return Ok(None);
        };
        let mut predictions = Vec::with_capacity(self.systems.len());
        for system in 0..self.systems.len() {
            let Some(prediction) = self.systems[system].take(&reference.id)? else {
                return Err(self.missing(system, reference.id));
            };
            predictions.push(prediction);
        }
        Ok(Some(Joined { index, reference, predictions }))
    }

    fn next_reference(&mut self) -> Result<Option<Reference>> {
        let Some(reference) = self.references.next().transpose().map_err(Error::Input)? else { return Ok(None) };
        if !self.known.insert(reference.id.clone()) {
            return Err(Error::DoubledReference { id: reference.id });
        }
        if reference.references.is_empty() {
            return Err(Error::NoReferenceText { id: reference.id });
        }
        Ok(Some(reference))
    }

    /// What to say of a record without a prediction, after a look at how many more there are.
    fn missing(&mut self, system: usize, id: String) -> Error {
        let mut others = 0;
        loop {
            match self.next_reference() {
                Ok(Some(reference)) => others += usize::from(!self.systems[system].seen.contains(&reference.id)),
                Ok(None) => return Error::MissingPrediction { system: self.systems[system].name.clone(), id, others },
                Err(error) => return error,
            }
        }
    }
}

impl Waiting<'_> {
    /// The prediction of a record, if the system has made one.
    fn take(&mut self, id: &str) -> Result<Option<Prediction>> {
        if let Some(prediction) = self.early.remove(id) {
            return Ok(Some(prediction));
        }
        while let Some(prediction) = self.next()? {
            if prediction.id == id {
                return Ok(Some(prediction));
            }
            self.early.insert(prediction.id.clone(), prediction);
        }
        Ok(None)
    }

    fn next(&mut self) -> Result<Option<Prediction>> {
        let prediction = self.stream.next().transpose().map_err(Error::Input)?;
        if let Some(Prediction { id, .. }) = &prediction
            && !self.seen.insert(id.clone())
        {
            return Err(Error::DoubledPrediction { system: self.name.clone(), id: id.clone() });
        }
        Ok(prediction)
    }

    /// Looks for predictions that no reference has asked for.
    fn finish(&mut self) -> Result<()> {
        while let Some(prediction) = self.next()? {
            self.early.insert(prediction.id.clone(), prediction);
        }
        match self.early.keys().min() {
            Some(id) => {
                let (system, id) = (self.name.clone(), id.clone());
                Err(Error::MissingReference { system, id, others: self.early.len() - 1 })
            }
            None => Ok(()),
        }
    }
}
